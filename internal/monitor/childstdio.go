package monitor

import (
	"fmt"

	"golang.org/x/sys/unix"

	"conmon/internal/proc"
	"conmon/internal/stdio"
)

// childStdio are the runtime's standard streams, ours to close once it runs.
type childStdio struct{ fds [3]int }

func (c *childStdio) close() {
	for _, fd := range c.fds {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// makeStdio makes the container's pipes and starts to watch our ends.
func (m *Monitor) makeStdio() (childStdio, error) {
	c := childStdio{[3]int{-1, -1, -1}}
	if m.cfg.Passthrough() {
		return c, nil
	}
	null, err := proc.OpenNull()
	if err != nil {
		return c, err
	}
	c.fds[0] = null
	if m.cfg.Stdin && !m.cfg.Terminal {
		ours, theirs, err := pipe(true)
		if err != nil {
			return c, err
		}
		_ = unix.Close(null)
		c.fds[0] = theirs
		m.useStdin(ours)
	}
	if m.cfg.Terminal {
		// Its output comes through the terminal; this is the runtime's own.
		if c.fds[1], err = unix.FcntlInt(uintptr(c.fds[0]), unix.F_DUPFD_CLOEXEC, 3); err != nil {
			return c, fmt.Errorf("duplicate /dev/null: %w", err)
		}
	} else if err := m.makeOutput(&c, stdio.Stdout); err != nil {
		return c, err
	}
	return c, m.makeOutput(&c, stdio.Stderr)
}

// letGoOfStdio gives the caller's streams up, which with passthrough were ours
// until the runtime had them. They are the container's alone from now on: who
// waits for their end waits for the container's, and what Podman's exit command
// prints is not for the container's user. With --sync somebody reads the
// monitor's messages.
func (m *Monitor) letGoOfStdio() {
	if !m.cfg.Passthrough() {
		return
	}
	n := 3
	if m.cfg.Sync {
		n = 2
	}
	if err := proc.ReleaseStdio(n); err != nil {
		m.diag.Error(err.Error())
	}
}

func (m *Monitor) makeOutput(c *childStdio, kind stdio.Stream) error {
	ours, theirs, err := pipe(false)
	if err != nil {
		return err
	}
	c.fds[kind.Index()+1] = theirs
	if kind == stdio.Stderr {
		return m.watchStream(m.stream(kind), ours)
	}
	// Not watched before the container is known: only the runtime's complaints
	// are of interest until then.
	m.stream(kind).fd = ours
	return nil
}

// pipe makes a pipe for the container. Ours is non-blocking; theirs must not
// be, and is open to everybody, so that a container's unprivileged user can
// reopen it as /dev/stdout.
func pipe(weWrite bool) (ours, theirs int, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return -1, -1, fmt.Errorf("pipe: %w", err)
	}
	ours, theirs = p[0], p[1]
	if weWrite {
		ours, theirs = p[1], p[0]
	}
	if err := unix.SetNonblock(ours, true); err != nil {
		return -1, -1, fmt.Errorf("pipe: %w", err)
	}
	if err := unix.Fchmod(theirs, 0o777); err != nil {
		return -1, -1, fmt.Errorf("pipe: %w", err)
	}
	return ours, theirs, nil
}

// useStdin gives fd, which it takes over, to those who may type. Without an
// attach socket that is nobody, and the container sees the end at once.
func (m *Monitor) useStdin(fd int) {
	if m.attach == nil {
		_ = unix.Close(fd)
		return
	}
	if err := m.attach.UseStdin(fd); err != nil {
		m.diag.Error(err.Error())
	}
}
