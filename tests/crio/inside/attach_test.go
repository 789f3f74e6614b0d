package inside

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"conmon/tests/harness"
)

// session is a running crictl attach.
type session struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser // or the terminal
	mu    sync.Mutex
	out   bytes.Buffer // standard output and standard error
	ended chan struct{}
}

// Write collects what crictl prints.
func (s *session) Write(data []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(data)
}

func (s *session) output() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.String()
}

// attach starts crictl attach on the container. It is killed with the test.
func (c *container) attach(t *testing.T, flags ...string) *session {
	t.Helper()
	cmd := c.p.e.crictlCommand(t.Context(), append(append([]string{"attach"}, flags...), c.id)...)
	s := &session{cmd: cmd, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = s, s
	var err error
	if s.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.collect(t)
	return s
}

func (s *session) collect(t *testing.T) {
	go func() {
		_ = s.cmd.Wait()
		close(s.ended)
	}()
	t.Cleanup(func() { s.kill() })
}

// kill ends the client without a farewell.
func (s *session) kill() {
	_ = s.cmd.Process.Kill()
	<-s.ended
}

func (s *session) send(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(s.stdin, text); err != nil {
		t.Errorf("sending %q to crictl: %v", text, err)
	}
}

// want waits until the client has printed a text.
func (s *session) want(t *testing.T, text string) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("the client printed %q", s.output())
		}
	}()
	harness.Eventually(t, fmt.Sprintf("the client prints %q", text), func() bool { return strings.Contains(s.output(), text) })
}

// wantEnd waits until the client ends by itself.
func (s *session) wantEnd(t *testing.T) {
	t.Helper()
	select {
	case <-s.ended:
	case <-time.After(harness.Patience):
		t.Fatalf("the client goes on; it printed %q", s.output())
	}
}

// testAttach: several clients see the output, one that leaves disturbs nobody,
// and all end with the container.
func testAttach(t *testing.T, e *engine) {
	c := e.newPod(t).shell(t, "trap 'echo end; echo last >&2; exit 3' TERM; n=0; while :; do n=$((n+1)); echo tick $n; sleep 0.1; done")
	first, second := c.attach(t), c.attach(t)
	first.want(t, "tick ")
	second.want(t, "tick ")
	first.kill()
	third := c.attach(t)
	third.want(t, "tick ")
	kill(t, c.pid(t), "TERM")
	for _, s := range []*session{second, third} {
		s.wantEnd(t)
		if out := s.output(); !strings.Contains(out, "end\n") || !strings.Contains(out, "last\n") {
			t.Errorf("a client's output ends with %q", out[max(0, len(out)-40):])
		}
	}
	c.wantEnd(t, 3, "Error")
	c.waitLog(t, "stderr F last")
}

// testAttachStdin: the container's input stays open when clients leave.
func testAttachStdin(t *testing.T, e *engine) {
	c := e.newPod(t).run(t, spec{script: "while read line; do echo got $line; done; echo eof", stdin: true})
	for i, leave := range []func(*session){func(s *session) { s.stdin.Close() }, (*session).kill, func(s *session) { s.stdin.Close() }} {
		s := c.attach(t, "-i")
		s.send(t, fmt.Sprintf("line %d\n", i))
		s.want(t, fmt.Sprintf("got line %d\n", i))
		leave(s)
		s.wantEnd(t)
	}
	c.wantRunning(t)
	// When a client has ended its input, CRI-O hangs up at once: what the client
	// sent before has to arrive all the same.
	s := c.attach(t, "-i")
	s.send(t, strings.Repeat("x", 1000)+"\nlast\n")
	s.stdin.Close()
	c.waitLog(t, "stdout F got last")
	c.wantRunning(t)
}

// testAttachStdinOnce: the first client's end of input is the container's, and
// every byte before it arrives.
func testAttachStdinOnce(t *testing.T, e *engine) {
	const size = 16 << 20
	c := e.newPod(t).run(t, spec{script: "wc -c; exit 5", stdin: true, stdinOnce: true})
	s := c.attach(t, "-i")
	chunk := bytes.Repeat([]byte("0123456789abcde\n"), 4096)
	for sent := 0; sent < size; sent += len(chunk) {
		s.send(t, string(chunk))
	}
	s.stdin.Close()
	s.want(t, fmt.Sprintf("%d\n", size))
	s.wantEnd(t)
	c.wantEnd(t, 5, "Error")
}

// attachTerminal starts crictl attach -it on a terminal of its own.
func (c *container) attachTerminal(t *testing.T, rows, cols uint16) *session {
	t.Helper()
	master, slave := openPty(t)
	setSize(t, master, rows, cols)
	cmd := c.p.e.crictlCommand(t.Context(), "attach", "-i", "-t", c.id)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	s := &session{cmd: cmd, stdin: master, ended: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	go func() { _, _ = io.Copy(s, master) }() // until the slave's last user is gone
	s.collect(t)
	return s
}

func openPty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatalf("unlocking a terminal: %v", err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatalf("asking for a terminal's number: %v", err)
	}
	if slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	return master, slave
}

func setSize(t *testing.T, terminal *os.File, rows, cols uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols}); err != nil {
		t.Fatalf("resizing a terminal: %v", err)
	}
}

// testAttachTerminal: size and input of the client's terminal reach the
// container's, which survives its clients.
func testAttachTerminal(t *testing.T, e *engine) {
	c := e.newPod(t).run(t, spec{
		script: "while :; do read line && echo \"$line: $(stty size)\"; [ \"$line\" = quit ] && exit 8; done",
		tty:    true, stdin: true,
	})
	s := c.attachTerminal(t, 31, 97)
	s.send(t, "first\n")
	s.want(t, "first: 31 97")
	setSize(t, s.stdin.(*os.File), 41, 107)
	asked := 0
	harness.Eventually(t, "the container's terminal has the new size", func() bool {
		if strings.Count(s.output(), "again: ") == asked {
			s.send(t, "again\n")
			asked++
		}
		return strings.Contains(s.output(), "again: 41 107")
	})
	s.kill()
	c.wantRunning(t)

	s = c.attachTerminal(t, 24, 80)
	s.send(t, "quit\n")
	s.want(t, "quit: ")
	s.wantEnd(t)
	c.wantEnd(t, 8, "Error")
}
