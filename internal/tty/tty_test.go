package tty

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/console"
	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/handoff"
	"conmon/internal/poll"
)

const owner = poll.Owner(3)

func newPoller(t *testing.T) *poll.Poller {
	t.Helper()
	p, err := poll.New()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// openPty returns a new terminal's master, non-blocking, and its slave's path.
func openPty(t *testing.T) (int, string) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("no pseudo-terminals here:", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	_, slave, err := console.NewPtyFromFile(file(fd))
	if err != nil {
		t.Fatal(err)
	}
	return fd, slave
}

func openSlave(t *testing.T, path string) int {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func wait(t *testing.T, p *poll.Poller, limit clock.Mono) []poll.Event {
	t.Helper()
	events, err := p.Wait(clock.Now() + limit)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// send does a runtime's part: connect to path, send fds and a name.
func send(t *testing.T, path string, fds ...int) {
	t.Helper()
	c, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(c)
	if err := unix.Connect(c, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatalf("connect to %s: %v", path, err)
	}
	if len(fds) == 0 {
		return
	}
	if err := unix.Sendmsg(c, []byte("/dev/pts/0"), unix.UnixRights(fds...), nil, 0); err != nil {
		t.Fatal(err)
	}
}

// receive hands events to s until it has a terminal or fails.
func receive(t *testing.T, p *poll.Poller, s *ConsoleSocket) (int, error) {
	t.Helper()
	for range 4 {
		for _, ev := range wait(t, p, 5*clock.Second) {
			if fd, err := s.Ready(ev); fd >= 0 || err != nil {
				return fd, err
			}
		}
	}
	t.Fatal("no terminal received")
	return -1, nil
}

func TestConsoleSocket(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 120), strings.Repeat("y", 200))
	if err := os.MkdirAll(long, 0o700); err != nil {
		t.Fatal(err)
	}
	short, err := os.MkdirTemp("/tmp", "t")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(short)
	for _, dir := range []string{short, long} {
		p := newPoller(t)
		s, err := Listen(dir, p, owner)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Path()) > maxPath {
			t.Errorf("path of %d bytes: %s", len(s.Path()), s.Path())
		}
		master, slave := openPty(t)
		send(t, s.Path())
		if _, err := receive(t, p, s); !errors.Is(err, ErrNoTerminal) {
			t.Errorf("a runtime that sends nothing: %v", err)
		}
		// The upgrade in the middle: same socket, same path.
		var st handoff.State
		path := s.Path()
		s.Save(&st)
		p = newPoller(t)
		if s, err = Load(&st, p, owner); err != nil || s.Path() != path {
			t.Fatal(err, s.Path(), path)
		}
		send(t, s.Path(), master, master)
		fd, err := receive(t, p, s)
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
		if err := Configure(fd); err != nil {
			t.Error(err)
		}
		if err := Resize(fd, 12, 34); err != nil {
			t.Error(err)
		}
		tt := openSlave(t, slave)
		ws, err := unix.IoctlGetWinsize(tt, unix.TIOCGWINSZ)
		if err != nil || ws.Row != 12 || ws.Col != 34 {
			t.Errorf("size %v %v", ws, err)
		}
		if term, ok := Person(tt); !ok {
			t.Error("a terminal is not recognised")
		} else if h, w, err := term.Size(); h != 12 || w != 34 || err != nil {
			t.Error(h, w, err)
		}
		unix.Close(tt)
		unix.Close(fd)
	}
}

func TestConsoleSocketFails(t *testing.T) {
	if _, err := Listen("/nonexistent", newPoller(t), owner); err == nil {
		t.Error("no error for a missing TMPDIR")
	}
	if s, err := Load(new(handoff.State), newPoller(t), owner); s != nil || err != nil {
		t.Error(s, err)
	}
}

// TestMasterReopened holds the terminal to being silent, not ended, while
// nobody has it open.
func TestMasterReopened(t *testing.T) {
	fd, path := openPty(t)
	if err := Configure(fd); err != nil {
		t.Fatal(err)
	}
	p := newPoller(t)
	m, err := NewMaster(fd, p, poll.Tag{Owner: owner})
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	for round := range 3 {
		slave := openSlave(t, path)
		if _, err := unix.Write(slave, []byte("bye\n")); err != nil {
			t.Fatal(err)
		}
		unix.Close(slave)
		if len(wait(t, p, 5*clock.Second)) != 1 {
			t.Fatal("output was not reported, round", round)
		}
		if n, err := m.Read(b); string(b[:n]) != "bye\r\n" || err != nil {
			t.Fatalf("round %d: %q %v", round, b[:n], err)
		}
		if _, err := m.Read(b); err != io.EOF {
			t.Fatal("want the end, got", err)
		}
		// One report of the switch to edge-triggered, and then nothing.
		wait(t, p, 20*clock.Millisecond)
		if ev := wait(t, p, 20*clock.Millisecond); len(ev) != 0 {
			t.Fatal("a closed terminal is reported over and over:", ev)
		}
		m.Pause()
		if err := m.Resume(); err != nil {
			t.Fatal(err)
		}
		wait(t, p, 20*clock.Millisecond)
	}
	slave := openSlave(t, path)
	defer unix.Close(slave)
	if _, err := m.Read(b); err != unix.EAGAIN {
		t.Error("want EAGAIN from an open terminal, got", err)
	}
}

func TestPersonRaw(t *testing.T) {
	fd, path := openPty(t)
	slave := openSlave(t, path)
	defer unix.Close(slave)
	term, ok := Person(slave)
	if !ok {
		t.Fatal("not a terminal")
	}
	lflag := func() uint32 {
		tio, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return tio.Lflag & (unix.ICANON | unix.ECHO | unix.ISIG)
	}
	before := lflag()
	if err := term.Raw(); err != nil || lflag() != 0 {
		t.Error(err, lflag())
	}
	if err := term.Restore(); err != nil || lflag() != before {
		t.Error(err, lflag())
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	if _, ok := Person(pipe[0]); ok {
		t.Error("a pipe passes for a terminal")
	}
	if Resize(pipe[0], 1, 1) == nil || Configure(pipe[0]) == nil {
		t.Error("a pipe was resized or configured")
	}
}
