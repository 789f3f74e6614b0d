package attach

import (
	"golang.org/x/sys/unix"

	"conmon/internal/clock"
)

// Welcome accepts everybody who is about to connect. Called before the last
// output is read, it makes sure that who connected in time gets that.
func (s *Server) Welcome() {
	if s.end.fd >= 0 {
		s.accept(connectionQueue)
	}
}

// EndOutput gives every client what is left of the output and then end of file.
// It waits for clients that lag until limit; clients that were about to connect
// count as connected. Those who lag even then stay, for another EndOutput or
// Close, unless their policy is to be disconnected. The socket stays until
// CloseDoor.
func (s *Server) EndOutput(limit clock.Mono) {
	s.Welcome()
	s.ended = true
	for s.waitForLaggards(limit) {
	}
	for i := range s.clients {
		if c := &s.clients[i]; !c.lagging || s.opts.Disconnect {
			s.giveUp(i)
		}
	}
}

// giveUp drops a client and counts what it did not get.
func (s *Server) giveUp(i int) {
	if c := &s.clients[i]; c.lagging {
		s.totals.unsent += uint64(s.spool.head() - c.pos)
	}
	s.drop(i)
}

// Lagging reports whether a client is still to get output.
func (s *Server) Lagging() bool {
	for i := range s.clients {
		if s.clients[i].fd >= 0 && s.clients[i].lagging {
			return true
		}
	}
	return false
}

// waitForLaggards serves laggards once, as soon as one takes more, and reports
// whether there is reason to call it again.
func (s *Server) waitForLaggards(limit clock.Mono) bool {
	var waiting []unix.PollFd
	var slots []int
	for i := range s.clients {
		if c := &s.clients[i]; c.lagging {
			waiting = append(waiting, unix.PollFd{Fd: int32(c.fd), Events: unix.POLLOUT})
			slots = append(slots, i)
		}
	}
	left := limit - clock.Now()
	if len(waiting) == 0 || left <= 0 {
		return false
	}
	n, err := unix.Poll(waiting, int((left+clock.Millisecond-1)/clock.Millisecond))
	if err == unix.EINTR {
		return true
	}
	for k := range waiting {
		c := &s.clients[slots[k]]
		switch {
		case waiting[k].Revents == 0 || !c.lagging:
			continue
		case waiting[k].Revents&(unix.POLLHUP|unix.POLLERR) != 0:
			c.hup, c.out = true, false
		default:
			s.catchUp(c)
		}
		s.watch(slots[k])
	}
	return n > 0 && err == nil
}

// CloseDoor removes the socket and its link. Clients that are about to connect
// get end of file.
func (s *Server) CloseDoor() {
	s.ended = true
	s.Welcome()
	if s.end.fd >= 0 {
		s.w.Remove(s.end.fd)
		s.acceptAt = 0
		s.end.close()
	}
}

// Close is CloseDoor, and the end for everybody who is still there.
func (s *Server) Close() {
	s.CloseDoor()
	for i := range s.clients {
		s.giveUp(i)
	}
	s.stdin.close()
	s.stdin.giveBack()
	s.spool.close()
}
