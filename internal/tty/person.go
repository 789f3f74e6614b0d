package tty

import (
	"fmt"

	"github.com/containerd/console"
	"golang.org/x/sys/unix"
)

// Terminal is the terminal of a person who attaches to a container.
type Terminal struct{ c console.Console }

// Person returns the terminal behind fd, which is borrowed; false if fd is
// something else.
func Person(fd int) (*Terminal, bool) {
	c, err := console.ConsoleFromFile(file(fd))
	return &Terminal{c}, err == nil
}

// Raw passes every key on as it is, so that the container's terminal acts on
// it, and shows output as it is: the container's terminal has added the carriage
// returns, and full-screen programs mean a bare newline.
func (t *Terminal) Raw() error {
	err := t.c.SetRaw()
	if err == nil {
		// The package's raw mode leaves the processing of output on.
		err = t.plainOutput()
	}
	if err != nil {
		return fmt.Errorf("set terminal to raw mode: %w", err)
	}
	return nil
}

func (t *Terminal) plainOutput() error {
	fd := int(t.c.Fd())
	mode, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	mode.Oflag &^= unix.OPOST
	return unix.IoctlSetTermios(fd, unix.TCSETS, mode)
}

// Restore gives the terminal the settings that it had at Person.
func (t *Terminal) Restore() error {
	if err := t.c.Reset(); err != nil {
		return fmt.Errorf("restore terminal: %w", err)
	}
	return nil
}

// Size returns the number of rows and columns.
func (t *Terminal) Size() (height, width uint16, err error) {
	s, err := t.c.Size()
	if err != nil {
		return 0, 0, fmt.Errorf("get terminal size: %w", err)
	}
	return s.Height, s.Width, nil
}
