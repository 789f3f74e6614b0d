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

// FromEnv finds the pipes through a look-up function such as os.LookupEnv. After
// an error, those that can be used are there. The attach pipe can only be wrong if
// it is needed: a variable that somebody forgot to unset harms no container.
func FromEnv(lookup func(string) (string, bool), needAttach bool) (Pipes, error) {
	var p Pipes
	var errs [3]error
	p.Sync, errs[0] = fromEnv(lookup, "_OCI_SYNCPIPE")
	p.Start, errs[1] = fromEnv(lookup, "_OCI_STARTPIPE")
	p.Attach, errs[2] = fromEnv(lookup, "_OCI_ATTACHPIPE")
	if !needAttach {
		errs[2] = nil
	}
	for _, err := range errs {
		if err != nil {
			return p, err
		}
	}
	return p, nil
}

func fromEnv(lookup func(string) (string, bool), name string) (int, error) {
	s, ok := lookup(name)
	if !ok {
		return -1, nil
	}
	fd, err := strconv.Atoi(s)
	if err != nil || fd < 3 {
		return -1, fmt.Errorf("unable to parse %s: %q is not a descriptor above 2", name, s)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
		return -1, fmt.Errorf("unable to use descriptor %d of %s: %w", fd, name, err)
	}
	return fd, nil
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
