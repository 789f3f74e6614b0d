// Package ctl is the monitor's side of the control fifos `ctl` and `winsz`.
package ctl

import (
	"fmt"

	"golang.org/x/sys/unix"

	"conmon/internal/handoff"
	"conmon/internal/poll"
)

// The fifos, by the ID of their poll.Tag.
const (
	idCtl = iota
	idWinsz
	fifos
)

// readSize bounds what one Ready reads, and with it the commands it returns.
const readSize = 512

// keepCommands is the capacity up to which the slice of commands is reused.
const keepCommands = 16

// Control reads commands from a bundle's two control fifos. It owns them.
type Control struct {
	w        poll.Watcher
	owner    poll.Owner
	fd       [fifos]int
	parser   [fifos]Parser
	commands []Command
}

// Open makes and watches the fifos of a bundle, replacing existing ones: Podman
// restarts a container in the same bundle. Writers find a reader from then on.
func Open(bundle string, w poll.Watcher, owner poll.Owner) (*Control, error) {
	c := newControl(w, owner)
	for i, name := range [fifos]string{"ctl", "winsz"} {
		fd, err := openFifo(bundle + "/" + name)
		if err != nil {
			c.Remove(bundle)
			return nil, err
		}
		c.fd[i] = fd
	}
	return c, c.watch()
}

// Load takes over the fifos of a predecessor; nil if it had none.
func Load(st *handoff.State, w poll.Watcher, owner poll.Owner) (*Control, error) {
	if st.FD("ctl.fd") < 0 {
		return nil, nil
	}
	c := newControl(w, owner)
	c.fd = [fifos]int{st.FD("ctl.fd"), st.FD("ctl.winsz.fd")}
	c.parser[idCtl].Restore(st.Bytes("ctl.line"))
	c.parser[idWinsz].Restore(st.Bytes("ctl.winsz.line"))
	return c, c.watch()
}

func newControl(w poll.Watcher, owner poll.Owner) *Control {
	return &Control{
		w: w, owner: owner, fd: [fifos]int{-1, -1},
		parser: [fifos]Parser{NewCtlParser(), NewWinszParser()},
	}
}

func (c *Control) watch() error {
	for i, fd := range c.fd {
		if err := c.w.Add(fd, poll.Tag{Owner: c.owner, ID: uint32(i)}, poll.In); err != nil {
			c.Close()
			return fmt.Errorf("watch control fifos: %w", err)
		}
	}
	return nil
}

// openFifo replaces what is at path by a fifo, mode 0660 less the umask, and
// opens it for reading and writing: as its own writer the monitor never sees
// end of file, which would be reported over and over once a writer has left.
func openFifo(path string) (int, error) {
	if err := unix.Unlink(path); err != nil && err != unix.ENOENT {
		return -1, fmt.Errorf("remove old control fifo %s: %w", path, err)
	}
	if err := unix.Mkfifo(path, 0o660); err != nil {
		return -1, fmt.Errorf("make control fifo %s: %w", path, err)
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return -1, fmt.Errorf("open control fifo %s: %w", path, err)
	}
	return fd, nil
}

// Ready returns the commands that arrived, malformed ones included. The slice
// is valid until the next call.
func (c *Control) Ready(ev poll.Event) []Command {
	var b [readSize]byte
	c.commands = c.commands[:0]
	if cap(c.commands) > keepCommands {
		c.commands = nil
	}
	if ev.Tag.ID >= fifos {
		return nil
	}
	// What is left is reported again: the fifos are watched level-triggered.
	n, err := unix.Read(c.fd[ev.Tag.ID], b[:])
	if err != nil {
		return nil
	}
	c.commands = c.parser[ev.Tag.ID].Feed(b[:n], c.commands)
	return c.commands
}

// Save stores the fifos and the lines that are not complete yet.
func (c *Control) Save(st *handoff.State) {
	st.PutFD("ctl.fd", c.fd[idCtl])
	st.PutFD("ctl.winsz.fd", c.fd[idWinsz])
	st.PutBytes("ctl.line", c.parser[idCtl].Pending())
	st.PutBytes("ctl.winsz.line", c.parser[idWinsz].Pending())
}

// Remove closes the fifos of bundle and removes their names: there never was a
// container that they could control.
func (c *Control) Remove(bundle string) {
	c.Close()
	_ = unix.Unlink(bundle + "/ctl")
	_ = unix.Unlink(bundle + "/winsz")
}

// Close closes the fifos. Their names stay, as engines expect.
func (c *Control) Close() {
	for i, fd := range c.fd {
		if fd >= 0 {
			c.w.Remove(fd)
			_ = unix.Close(fd)
			c.fd[i] = -1
		}
	}
}
