package tty

import (
	"fmt"
	"io"

	"github.com/containerd/console"
	"golang.org/x/sys/unix"

	"conmon/internal/poll"
)

// Master is the monitor's end of the container's terminal. The caller owns its
// descriptor; Master only borrows it, and carries no state of its own across an
// upgrade: a successor calls NewMaster again.
type Master struct {
	fd      int
	w       poll.Watcher
	tag     poll.Tag
	closed  bool // nobody in the container has the terminal open
	watched bool
}

// NewMaster makes fd non-blocking and close-on-exec and starts watching it for
// output, under tag.
func NewMaster(fd int, w poll.Watcher, tag poll.Tag) (*Master, error) {
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("make terminal non-blocking: %w", err)
	}
	m := &Master{fd: fd, w: w, tag: tag}
	return m, m.Resume()
}

// mask says how the terminal is watched. Once nobody has it open, the kernel
// would report that over and over; watched edge-triggered it does so once, and
// is silent until somebody opens the terminal again and writes.
func (m *Master) mask() uint32 {
	if m.closed {
		return poll.In | poll.Edge
	}
	return poll.In
}

// Pause stops watching, for back-pressure: a closed terminal would be reported
// whatever it is watched for.
func (m *Master) Pause() {
	if m.watched {
		m.w.Remove(m.fd)
		m.watched = false
	}
}

// Resume watches again after Pause.
func (m *Master) Resume() error {
	if m.watched {
		return nil
	}
	if err := m.w.Add(m.fd, m.tag, m.mask()); err != nil {
		return fmt.Errorf("watch terminal: %w", err)
	}
	m.watched = true
	return nil
}

// Read reads output. It returns io.EOF once all is read and nobody has the
// terminal open, which may change: EOF here means "for now", and the terminal
// stays watched. EAGAIN is returned as it is.
func (m *Master) Read(b []byte) (int, error) {
	n, err := unix.Read(m.fd, b)
	if err == unix.EAGAIN || err == unix.EINTR {
		return 0, unix.EAGAIN
	}
	ended := err == unix.EIO || err == nil && n == 0
	if ended != m.closed {
		m.closed = ended
		if m.watched {
			if werr := m.w.Modify(m.fd, m.tag, m.mask()); werr != nil {
				return max(n, 0), werr
			}
		}
	}
	if ended {
		return 0, io.EOF
	}
	return max(n, 0), err
}

// Configure gives the terminal the line discipline that kubelet's clients
// expect: a carriage return before each newline of the output.
func Configure(fd int) error {
	if err := console.SetONLCR(uintptr(fd)); err != nil {
		return fmt.Errorf("set ONLCR on the terminal: %w", err)
	}
	return nil
}

// Resize gives the terminal a size in characters; the container gets SIGWINCH.
func Resize(fd int, height, width uint16) error {
	c, err := console.ConsoleFromFile(file(fd))
	if err == nil {
		err = c.Resize(console.WinSize{Height: height, Width: width})
	}
	if err != nil {
		return fmt.Errorf("resize terminal to %d rows, %d columns: %w", height, width, err)
	}
	return nil
}

// file is a borrowed descriptor in the shape that package console wants. An
// os.File would bring the Go runtime's own poller, its memory and wake-ups.
type file int

// Fd returns the descriptor.
func (f file) Fd() uintptr { return uintptr(f) }

// Name returns no more than what the descriptor is.
func (f file) Name() string { return "terminal" }

// Read reads from the descriptor.
func (f file) Read(b []byte) (int, error) { return unix.Read(int(f), b) }

// Write writes to the descriptor.
func (f file) Write(b []byte) (int, error) { return unix.Write(int(f), b) }

// Close does nothing: the descriptor is borrowed.
func (f file) Close() error { return nil }
