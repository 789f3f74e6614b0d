package logging

import (
	"fmt"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/poll"
)

// send sends queued entries until the queue is empty or the journal takes no
// more; it goes on when the socket has room again, or at retryAt.
func (j *journald) send(now clock.Mono) {
	refused := false
	for j.queue.len() > 0 {
		if j.draining && clock.Now() >= j.due {
			return
		}
		if j.fd < 0 && !j.connect(now) {
			return
		}
		entry, n := frame(j.queue.bytes())
		err := j.sendEntry(entry)
		switch err {
		case nil:
			refused = false
			j.takenAt, j.stopped = now, false
			j.retryAt, j.backoff = 0, 0
		case unix.EAGAIN:
			j.watchRoom(true)
			return
		case unix.ENOBUFS, unix.ENOMEM:
			j.retryLater(now)
			return
		case unix.ECONNREFUSED, unix.ECONNRESET, unix.ENOTCONN, unix.EPIPE:
			// The journal was restarted together with its socket.
			j.disconnect()
			if refused {
				j.retryLater(now)
				return
			}
			refused = true
			continue
		default:
			// This one will not go, whatever we do.
			j.note("send an entry to", err)
			j.count(j.queue.bytes()[:n], &j.lost)
		}
		j.queue.consume(n)
	}
	j.watchRoom(false)
}

// sendIfRoom sends unless the journal's socket is known to be full: then the loop
// tells, and asking for each entry would be all that the monitor does.
func (j *journald) sendIfRoom(now clock.Mono) {
	if !j.watching {
		j.send(now)
	}
}

func (j *journald) ready(_ poll.Event, now clock.Mono) { j.send(now) }

// watchRoom has the loop tell when the journal's socket has room again.
func (j *journald) watchRoom(on bool) {
	if on == j.watching {
		return
	}
	if j.watching = on; !on {
		j.watch.Remove(j.fd)
	} else if err := j.watch.Add(j.fd, j.tag, poll.Out); err != nil {
		j.watching = false
		j.note("watch", err)
	}
}

// sendEntry sends one datagram; if it is too big for one, a descriptor of a
// sealed file with the entry in it: that is the journal's own way.
func (j *journald) sendEntry(entry []byte) error {
	for {
		_, err := unix.Write(j.fd, entry)
		switch err {
		case unix.EINTR:
		case unix.EMSGSIZE:
			return j.sendBig(entry)
		default:
			return err
		}
	}
}

func (j *journald) sendBig(entry []byte) error {
	fd, err := unix.MemfdCreate("journal-entry", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for len(entry) > 0 {
		n, err := unix.Write(fd, entry)
		if err != nil && err != unix.EINTR {
			return err
		}
		entry = entry[max(n, 0):]
	}
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return err
	}
	return unix.Sendmsg(j.fd, nil, unix.UnixRights(fd), nil, 0)
}

// connect connects to the journal, unless the last attempt was a moment ago.
func (j *journald) connect(now clock.Mono) bool {
	if j.retryAt > now {
		return false
	}
	fd, err := dialDatagram(j.socket)
	if err != nil {
		// Waiting for one that is not there would stop the container for nothing.
		j.stopped = true
		j.note("connect to", err)
		j.retryLater(now)
		return false
	}
	j.fd, j.retryAt = fd, 0
	return true
}

func (j *journald) retryLater(now clock.Mono) {
	j.backoff = min(max(2*j.backoff, reconnectMin), reconnectMax)
	j.retryAt = now + j.backoff
}

func (j *journald) disconnect() {
	if j.fd < 0 {
		return
	}
	j.watchRoom(false)
	_ = unix.Close(j.fd)
	j.fd = -1
	j.reconnects++
}

// dialDatagram connects a datagram socket to a path. The caller owns it.
func dialDatagram(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
