package attach

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// inputPackets bounds what one Ready reads from a client.
	inputPackets = 16
	// inputPacket is the largest packet of input, as in conmon.
	inputPacket = 32768
)

// receive reads a client's input as far as there is room for it.
func (s *Server) receive(c *client) {
	for range inputPackets {
		n, err := 0, error(nil)
		if s.stdin.accepts() {
			room := s.stdin.room()
			if c.paused = room == nil; c.paused {
				if c.hup && !unread(c.fd) {
					// Or those who look in and leave would pile up for as long
					// as the container does not read.
					c.in, c.paused = false, false
				}
				return
			}
			if n, err = recv(c.fd, room); n > 0 {
				s.stdin.push(n)
				s.totals.input += uint64(n)
				s.stdinReady()
			}
		} else {
			// Of a packet that is not wanted, one byte is read and the rest lost.
			var b [1]byte
			n, err = recv(c.fd, b[:])
		}
		switch {
		case err == unix.EAGAIN:
			return
		case err == unix.ECONNRESET:
			// The peer left without reading all output. What it sent before
			// still follows.
			c.out = false
		case err == unix.EINTR:
		case err != nil:
			c.in, c.out = false, false
			return
		case n == 0:
			over, left := peerState(c.fd)
			if over {
				s.inputEnds(c, left)
				return
			}
		}
	}
}

// inputEnds is the end of one client's input. That of a client which stays is a
// request to close the container's stdin; for one that left, drop decides.
func (s *Server) inputEnds(c *client, left bool) {
	c.in = false
	if left || !c.out {
		c.out = false
		return
	}
	s.finishStdin()
}

// finishStdin closes the container's stdin after the input received so far,
// unless clients have no say in that.
func (s *Server) finishStdin() {
	if s.opts.LeaveStdinOpen || s.opts.Terminal {
		return
	}
	s.stdin.finish()
	s.resumeInput()
}

// stdinReady writes queued input and reads more where clients had to wait.
func (s *Server) stdinReady() {
	s.stdin.flush()
	if s.stdin.buf != nil {
		s.touch()
	}
	s.resumeInput()
}

func (s *Server) resumeInput() {
	if s.stdin.waiting() {
		return
	}
	for i := range s.clients {
		if c := &s.clients[i]; c.fd >= 0 && c.paused {
			c.paused = false
			s.watch(i)
		}
	}
}

// peerState reports whether the peer sends no more, which an empty packet looks
// like too, and whether it has left altogether.
func peerState(fd int) (over, left bool) {
	p := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	if _, err := unix.Poll(p[:], 0); err != nil {
		return false, false // interrupted: it is reported again
	}
	return p[0].Revents&unix.POLLRDHUP != 0, p[0].Revents&unix.POLLHUP != 0
}

// unread reports whether there is input in a client's socket.
func unread(fd int) bool {
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	return n > 0 || err != nil
}

// recv reads one packet; a longer one than b is cut.
func recv(fd int, b []byte) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])),
		uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
