package podman

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"conmon/tests/harness"
)

// session is a podman call that somebody talks to, over pipes or a terminal.
type session struct {
	cmd  *exec.Cmd
	in   *os.File // what podman reads
	out  *os.File // what it prints; the same file on a terminal
	seen strings.Builder
	next int // where in seen the next expect begins to look
	done chan struct{}
	err  error // of Wait; valid when done is closed
}

// talk starts a podman call with pipes; standard error goes where standard
// output goes.
func (p podman) talk(t testing.TB, args ...string) *session {
	t.Helper()
	cmd := p.command(args...)
	theirIn, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirIn, theirOut, theirOut
	return (&session{cmd: cmd, in: in, out: out}).start(t, theirIn, theirOut)
}

// talkOnTerminal starts a podman call on a terminal of the given size.
func (p podman) talkOnTerminal(t testing.TB, rows, cols uint16, args ...string) *session {
	t.Helper()
	master, slave, err := openTerminal()
	if err != nil {
		t.Fatalf("opening a terminal: %v", err)
	}
	cmd := p.command(args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	cmd.Env = append(os.Environ(), "TERM=xterm")
	s := &session{cmd: cmd, in: master, out: master}
	s.resize(t, rows, cols)
	return s.start(t, slave)
}

func (s *session) start(t testing.TB, theirs ...*os.File) *session {
	t.Helper()
	err := s.cmd.Start()
	for _, f := range theirs {
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	s.done = make(chan struct{})
	go func() {
		s.err = s.cmd.Wait()
		close(s.done)
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		s.in.Close()
		s.out.Close()
	})
	return s
}

// openTerminal makes a pseudo-terminal.
func openTerminal() (master, slave *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	// Non-blocking, so that reads may have a deadline.
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, errors.Join(err, master.Close())
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, nil, errors.Join(err, master.Close())
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, errors.Join(err, master.Close())
	}
	return master, slave, nil
}

// resize changes the size of the session's terminal, as a window manager does.
func (s *session) resize(t testing.TB, rows, cols uint16) {
	t.Helper()
	conn, err := s.in.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := conn.Control(func(fd uintptr) {
		failed = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	}); err != nil || failed != nil {
		t.Fatalf("resizing a terminal: %v", errors.Join(err, failed))
	}
}

// read adds what comes next to seen; io.EOF at the end.
func (s *session) read(deadline time.Time) error {
	if err := s.out.SetReadDeadline(deadline); err != nil {
		return err
	}
	var buf [32 << 10]byte
	n, err := s.out.Read(buf[:])
	s.seen.Write(buf[:n])
	if errors.Is(err, syscall.EIO) {
		return io.EOF // a terminal that nobody has open any more
	}
	return err
}

// expect reads until the text comes, after what was expected before.
func (s *session) expect(t testing.TB, text string) {
	t.Helper()
	for deadline := time.Now().Add(harness.Patience); ; {
		if i := strings.Index(s.seen.String()[s.next:], text); i >= 0 {
			s.next += i + len(text)
			return
		}
		if err := s.read(deadline); err != nil {
			t.Fatalf("%s: waiting for %q: %v, after %q", brief(s.cmd), text, err, tail(s.seen.String()))
		}
	}
}

// rest reads to the end and returns everything since the last expect.
func (s *session) rest(t testing.TB) string {
	t.Helper()
	for deadline := time.Now().Add(limit()); ; {
		err := s.read(deadline)
		if errors.Is(err, io.EOF) {
			return s.seen.String()[s.next:]
		}
		if err != nil {
			t.Fatalf("%s: reading: %v, after %q", brief(s.cmd), err, tail(s.seen.String()))
		}
	}
}

func (s *session) send(t testing.TB, text string) {
	t.Helper()
	if err := s.in.SetWriteDeadline(time.Now().Add(harness.Patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(s.in, text); err != nil {
		t.Fatalf("%s: typing %q: %v", brief(s.cmd), text, err)
	}
}

// detach types the keys that end an attached session. Podman knows them only if
// it reads each by itself, as a person types them.
func (s *session) detach(t testing.TB) {
	t.Helper()
	s.send(t, "\x10")
	pause(500 * time.Millisecond)
	s.send(t, "\x11")
}

// code waits for podman's end and returns its exit status.
func (s *session) code(t testing.TB) int {
	t.Helper()
	select {
	case <-s.done:
		return s.cmd.ProcessState.ExitCode()
	case <-time.After(limit()):
		t.Fatalf("%s does not end, after %q", brief(s.cmd), tail(s.seen.String()))
		return -1
	}
}

// sizeInside asks the shell in a session for the size of its terminal. What it
// echoes is not looked at: a shell that edits lines may draw one twice.
func (s *session) sizeInside(t testing.TB) string {
	t.Helper()
	s.send(t, "echo si''ze $(stty size) en''d\r")
	s.expect(t, "size ")
	from := s.next
	s.expect(t, " end\r\n")
	return s.seen.String()[from : s.next-len(" end\r\n")]
}

// tail shortens a text for an error message.
func tail(text string) string {
	const most = 2000
	if len(text) > most {
		return "…" + text[len(text)-most:]
	}
	return text
}
