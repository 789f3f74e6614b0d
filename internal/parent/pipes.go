// Package parent speaks with the process that started the monitor, over the
// pipes that its environment names.
package parent

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/handoff"
)

// Pipes are the engine's descriptors, -1 for those it did not give. They are
// close-on-exec.
type Pipes struct {
	Start  int // read one message before anything is spawned
	Sync   int // messages to the engine
	Attach int // exec-attach: tells when clients are welcome
}

// FromEnv finds the pipes through a look-up function such as os.LookupEnv.
func FromEnv(lookup func(string) (string, bool)) (Pipes, error) {
	var p Pipes
	for _, v := range [...]struct {
		name string
		fd   *int
	}{{"_OCI_STARTPIPE", &p.Start}, {"_OCI_SYNCPIPE", &p.Sync}, {"_OCI_ATTACHPIPE", &p.Attach}} {
		*v.fd = -1
		s, ok := lookup(v.name)
		if !ok {
			continue
		}
		fd, err := strconv.Atoi(s)
		if err != nil || fd < 3 {
			return p, fmt.Errorf("unable to parse %s: %q is not a descriptor above 2", v.name, s)
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
			return p, fmt.Errorf("unable to use descriptor %d of %s: %w", fd, v.name, err)
		}
		*v.fd = fd
	}
	return p, nil
}

// AwaitStart blocks until the engine says go, or has gone, on the start pipe.
// It does nothing without one.
func AwaitStart(fd int) error {
	if fd < 0 {
		return nil
	}
	var b [8192]byte
	for {
		_, err := unix.Read(fd, b[:])
		switch err {
		case nil:
			return nil
		case unix.EINTR:
		case unix.EAGAIN:
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			_, _ = unix.Poll(fds, -1)
		default:
			return fmt.Errorf("read start pipe: %w", err)
		}
	}
}

// Save stores the pipes for another image.
func (p Pipes) Save(st *handoff.State) {
	st.PutFD("parent.start", p.Start)
	st.PutFD("parent.sync", p.Sync)
	st.PutFD("parent.attach", p.Attach)
}

// Load takes the pipes over; the caller owns them.
func Load(st *handoff.State) Pipes {
	return Pipes{Start: st.FD("parent.start"), Sync: st.FD("parent.sync"), Attach: st.FD("parent.attach")}
}

// Send writes one message with one write, as the engines read it. It waits for
// room until limit. A reader that has gone away is not an error: the container
// goes on without its engine. Without a pipe or a message it does nothing.
func Send(fd int, message []byte, limit clock.Mono) error {
	if fd < 0 || len(message) == 0 {
		return nil
	}
	for {
		ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		left := max((limit-clock.Now())/clock.Millisecond, 0)
		n, err := unix.Poll(ready, int(left))
		if err == unix.EINTR {
			continue
		}
		if err == nil && n == 0 {
			return fmt.Errorf("sync pipe is full and nobody reads it")
		}
		_, err = unix.Write(fd, message)
		switch err {
		case unix.EINTR, unix.EAGAIN:
		case nil, unix.EPIPE, unix.ECONNRESET:
			return nil
		default:
			return fmt.Errorf("write sync pipe: %w", err)
		}
	}
}
