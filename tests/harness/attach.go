package harness

import (
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Client is an attach client, as the engines are.
type Client struct {
	file *os.File // non-blocking, so that reads have a deadline
	// One byte more than the protocol allows, to notice a longer packet.
	buf [8194]byte
}

// Packet is what a client gets at once: the stream, 2 or 3, and its bytes, which
// are valid until the next one is received.
type Packet struct {
	Stream byte
	Data   []byte
}

// Attach connects to the monitor's attach socket, as Dial does, or fails the
// test. The client is closed with the test.
func (m *Monitor) Attach(t testing.TB) *Client {
	t.Helper()
	c, err := m.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// Dial connects to the monitor's attach socket, wherever the engine has it,
// through /proc/self/fd as Podman does.
func (m *Monitor) Dial() (*Client, error) {
	path := m.Dir + "/attach"
	if m.launch.Engine == CRIO {
		path = m.Bundle.Sockets + "/" + m.Bundle.ID + "/attach"
	}
	place, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	defer unix.Close(place)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("making a socket: %w", err)
	}
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d", place)})
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("connecting to %s: %w", path, err)
	}
	return &Client{file: os.NewFile(uintptr(fd), path)}, nil
}

// Close leaves.
func (c *Client) Close() { c.file.Close() }

// Send writes one packet of input.
func (c *Client) Send(t testing.TB, data []byte) {
	t.Helper()
	if err := c.TrySend(data); err != nil {
		t.Fatalf("sending to the monitor: %v", err)
	}
}

// TrySend is Send where the client may be closed meanwhile.
func (c *Client) TrySend(data []byte) error {
	if err := c.file.SetWriteDeadline(time.Now().Add(Patience)); err != nil {
		return err
	}
	_, err := c.file.Write(data)
	return err
}

// CloseInput says that no more input comes; output goes on.
func (c *Client) CloseInput(t testing.TB) {
	t.Helper()
	conn, err := c.file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var shut error
	if err := conn.Control(func(fd uintptr) { shut = unix.Shutdown(int(fd), unix.SHUT_WR) }); err != nil || shut != nil {
		t.Fatalf("closing the input: %v", errors.Join(err, shut))
	}
}

// Receive returns the next packet, or io.EOF at the end of the output.
func (c *Client) Receive() (Packet, error) {
	if err := c.file.SetReadDeadline(time.Now().Add(Patience)); err != nil {
		return Packet{}, err
	}
	n, err := c.file.Read(c.buf[:])
	switch {
	case errors.Is(err, unix.ECONNRESET):
		return Packet{}, io.EOF
	case err != nil:
		return Packet{}, err
	case n > 8193:
		return Packet{}, errors.New("a packet longer than 8193 bytes")
	}
	return Packet{Stream: c.buf[0], Data: c.buf[1:n]}, nil
}

// ReceiveAll returns everything until the end of the output, by stream.
func (c *Client) ReceiveAll(t testing.TB) (stdout, stderr []byte) {
	t.Helper()
	for {
		p, err := c.Receive()
		if errors.Is(err, io.EOF) {
			return stdout, stderr
		}
		if err != nil {
			t.Fatalf("receiving: %v", err)
		}
		switch p.Stream {
		case 2:
			stdout = append(stdout, p.Data...)
		case 3:
			stderr = append(stderr, p.Data...)
		default:
			t.Fatalf("a packet of stream %d", p.Stream)
		}
	}
}
