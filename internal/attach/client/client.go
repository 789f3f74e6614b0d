// Package client is the other end of the attach socket, for `conmon attach`. It
// is not part of the staying image.
package client

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"golang.org/x/sys/unix"

	monitor "conmon/internal/status/client"
	"conmon/internal/stdio"
)

const (
	// inputPacket is the largest packet that a monitor takes.
	inputPacket = 32768
	// outputPacket is the largest that it sends: a stream's byte and 8 KiB.
	outputPacket = 8193
)

// Conn is a connection to a container's attach socket. It owns its descriptor.
type Conn struct{ fd int }

// Dial connects to the container in bundle, whose path may be longer than a
// socket address.
func Dial(bundle string) (*Conn, error) {
	dir, err := unix.Open(bundle, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open bundle %s: %w", bundle, err)
	}
	defer unix.Close(dir)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(dir) + "/attach"})
	if err == nil {
		return &Conn{fd}, nil
	}
	_ = unix.Close(fd)
	if err == unix.ENOENT || err == unix.ECONNREFUSED {
		return nil, fmt.Errorf("%w in %s", monitor.ErrNoMonitor, bundle)
	}
	return nil, fmt.Errorf("connect to %s/attach: %w", bundle, err)
}

// Streams is what a person's end of the connection consists of.
type Streams struct {
	In         io.Reader // nil: nothing is sent, nor is the end of input
	Out, Err   io.Writer
	DetachKeys []byte // typed, they end the session; nil: nothing does
}

// Run copies both ways until the container's output ends, the person types the
// detach keys, which it reports, or Hangup is called. A read of In that does not
// return is left behind.
func (c *Conn) Run(s Streams) (detached bool, err error) {
	input := make(chan error, 1)
	if s.In != nil {
		go func() {
			err := c.send(s.In, s.DetachKeys)
			input <- err // first: Run looks for it when the hang-up ends the output
			if err != nil {
				c.Hangup()
			}
		}()
	}
	if err := c.receive(s.Out, s.Err); err != nil {
		return false, err
	}
	select {
	case err := <-input:
		if errors.Is(err, errDetached) {
			return true, nil
		}
		return false, err
	default:
		return false, nil
	}
}

// Hangup ends Run, from any goroutine.
func (c *Conn) Hangup() { _ = unix.Shutdown(c.fd, unix.SHUT_RDWR) }

// Close closes the connection, after Run.
func (c *Conn) Close() { _ = unix.Close(c.fd) }

// receive writes output where it belongs until it ends.
func (c *Conn) receive(out, err io.Writer) error {
	b := make([]byte, outputPacket)
	for {
		n, rerr := unix.Read(c.fd, b)
		switch {
		case rerr == unix.EINTR:
			continue
		case rerr == unix.ECONNRESET || rerr == nil && n == 0:
			return nil
		case rerr != nil:
			return fmt.Errorf("read output: %w", rerr)
		}
		w := out
		if stdio.Stream(b[0]) == stdio.Stderr {
			w = err
		}
		if _, werr := w.Write(b[1:n]); werr != nil {
			return fmt.Errorf("write output: %w", werr)
		}
	}
}

// errDetached ends sending when the detach keys were typed.
var errDetached = errors.New("detached")

// send sends input until it ends, and then says so to the monitor.
func (c *Conn) send(in io.Reader, keys []byte) error {
	scan := scanner{keys: keys}
	b := make([]byte, inputPacket-len(keys))
	typed := make([]byte, 0, inputPacket)
	for {
		n, err := in.Read(b)
		var detach bool
		typed, detach = scan.scan(typed[:0], b[:n])
		if err != nil && !detach {
			typed = scan.rest(typed)
		}
		switch werr := c.write(typed); {
		case werr == unix.EPIPE || werr == unix.ECONNRESET:
			return nil // the container is gone; its output tells
		case werr != nil:
			return fmt.Errorf("send input: %w", werr)
		case detach:
			return errDetached
		case err == io.EOF:
			_ = unix.Shutdown(c.fd, unix.SHUT_WR)
			return nil
		case err != nil:
			return fmt.Errorf("read input: %w", err)
		}
	}
}

// write sends b as one packet. An empty one would look like the end.
func (c *Conn) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	for {
		if err := unix.Sendto(c.fd, b, unix.MSG_NOSIGNAL, nil); err != unix.EINTR {
			return err
		}
	}
}
