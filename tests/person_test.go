package tests

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"conmon/internal/status/client"
	"conmon/tests/harness"
)

// person is somebody who sits at a terminal and has started a command there.
type person struct {
	terminal *os.File // the master's side: what the person types and sees
	command  *exec.Cmd
	waited   chan error
	before   unix.Termios // the terminal's mode when the person sat down
	seen     string       // and not yet asked for
}

// sitDown starts the monitor's program, as a person does, at a new terminal.
func sitDown(t *testing.T, rows, columns uint16, args ...string) *person {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	p := &person{terminal: master, command: exec.Command(harness.MonitorPath(), args...), waited: make(chan error, 1)}
	var number int
	p.ioctl(t, func(fd int) error {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		return err
	})
	p.resize(t, rows, columns)
	p.before = p.mode(t)
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	// It stays open with us, so that the master gives no EIO when the command ends.
	t.Cleanup(func() { slave.Close() })
	p.command.Stdin, p.command.Stdout, p.command.Stderr = slave, slave, slave
	p.command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.command.Process.Kill() })
	go func() { p.waited <- p.command.Wait() }()
	return p
}

func (p *person) ioctl(t *testing.T, do func(fd int) error) {
	t.Helper()
	conn, err := p.terminal.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := conn.Control(func(fd uintptr) { failed = do(int(fd)) }); err != nil || failed != nil {
		t.Fatalf("the person's terminal: %v, %v", err, failed)
	}
}

func (p *person) resize(t *testing.T, rows, columns uint16) {
	t.Helper()
	p.ioctl(t, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
	})
}

// mode is how the terminal treats what is typed and shown.
func (p *person) mode(t *testing.T) (mode unix.Termios) {
	t.Helper()
	p.ioctl(t, func(fd int) error {
		m, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil {
			mode = *m
		}
		return err
	})
	return mode
}

func (p *person) types(t *testing.T, keys string) {
	t.Helper()
	if _, err := p.terminal.WriteString(keys); err != nil {
		t.Fatalf("typing: %v", err)
	}
}

// sees waits until the text is shown, and returns what was shown up to its end.
func (p *person) sees(t *testing.T, text string) string {
	t.Helper()
	if err := p.terminal.SetReadDeadline(time.Now().Add(harness.Patience)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for !strings.Contains(p.seen, text) {
		n, err := p.terminal.Read(buf)
		if err != nil {
			t.Fatalf("the person sees %q (%v), want %q", p.seen, err, text)
		}
		p.seen += string(buf[:n])
	}
	shown, rest, _ := strings.Cut(p.seen, text)
	p.seen = rest
	return shown + text
}

// attach starts "conmon attach" for a container with a terminal and waits until
// the person's own is raw: what is typed goes through as it is and is not echoed,
// what comes is shown as it is.
func attach(t *testing.T, m *harness.Monitor, rows, columns uint16, args ...string) *person {
	t.Helper()
	p := sitDown(t, rows, columns, append([]string{"attach", "-b", m.Dir}, args...)...)
	harness.Eventually(t, "the terminal is raw", func() bool {
		mode := p.mode(t)
		return mode.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) == 0 && mode.Oflag&unix.OPOST == 0
	})
	return p
}

// asks types a line again and again until its answer is as wanted: a window's
// new size takes its time.
func (p *person) asks(t *testing.T, line, want string) {
	t.Helper()
	end := time.Now().Add(harness.Patience)
	for p.types(t, line+"\n"); p.sees(t, "\n") != want; p.types(t, line+"\n") {
		if time.Now().After(end) {
			t.Fatalf("the container never answered %q", want)
		}
	}
}

// leaves waits for the command's end and returns its exit status.
func (p *person) leaves(t *testing.T) int {
	t.Helper()
	select {
	case <-p.waited:
		return p.command.ProcessState.ExitCode()
	case <-time.After(harness.Patience):
		t.Fatal("the command has not ended")
		return -1
	}
}

// answering is a container that says the size of its terminal after each line.
func answering(t *testing.T, r harness.Runtime) *harness.Monitor {
	t.Helper()
	spec := harness.Shell("stty -echo; echo ready; while read line; do echo \"<$line $(stty size)>\"; done; echo bye; exit 3")
	spec.Terminal = true
	b := harness.NewBundle(t, r, spec)
	m := b.Run(t, harness.Launch{Args: []string{"-i"}})
	m.WaitLog(t, "ready")
	return m
}

// A person at a terminal: keys go through as they are, the container's terminal
// has the window's size and follows it, the detach keys leave everything as it
// was, the container and the person's terminal alike.
func TestAttachPerson(t *testing.T) {
	harness.NeedOurs(t)
	harness.EachRuntime(t, func(t *testing.T, r harness.Runtime) {
		m := answering(t, r)
		for i, args := range [][]string{nil, {"--detach-keys", "ctrl-a,d"}} {
			p := attach(t, m, uint16(30+i), 91, args...)
			p.asks(t, "one", fmt.Sprintf("<one %d 91>\r\n", 30+i))
			for _, size := range [][2]uint16{{50, 132}, {10, 20}} {
				p.resize(t, size[0], size[1])
				p.asks(t, "two", fmt.Sprintf("<two %d %d>\r\n", size[0], size[1]))
			}
			p.types(t, "thr\x10ee"+[]string{"\x10\x11", "\x01d"}[i]+"lost")
			if status := p.leaves(t); status != 0 {
				t.Errorf("the command's exit status is %d", status)
			}
			if mode := p.mode(t); mode != p.before {
				t.Errorf("the terminal was %+v and is %+v", p.before, mode)
			}
			// What was typed before the keys has arrived, the keys have not.
			waitStatus(t, m, "the person is gone", func(s *client.Report) bool { return s.Attach.Clients == 0 })
			c := m.Attach(t)
			c.Send(t, []byte("\n"))
			m.WaitLog(t, "F <thr\x10ee 10 20>")
			c.Close()
			moved := fmt.Sprintf("%s.%d", m.LogPath, i)
			if err := os.Rename(m.LogPath, moved); err != nil {
				t.Fatal(err)
			}
			ctl(t, m, "2 0 0\n")
			harness.WaitFile(t, m.LogPath)
		}
		// The container's own end, by a key that means the end of input there.
		p := attach(t, m, 24, 80)
		p.asks(t, "one", "<one 24 80>\r\n")
		p.types(t, "\x04")
		p.sees(t, "bye\r\n")
		if status := p.leaves(t); status != 0 {
			t.Errorf("the command's exit status is %d", status)
		}
		if mode := p.mode(t); mode != p.before {
			t.Errorf("the terminal was %+v and is %+v", p.before, mode)
		}
		if status := m.Finish(t); status != 3 {
			t.Errorf("exit status %d", status)
		}
	})
}

// Signals that end the command leave a sane terminal behind, and a container
// that goes on. One that only watches, or whose container has no terminal, leaves
// the person's terminal as it is.
func TestAttachPersonLeaves(t *testing.T) {
	harness.NeedOurs(t)
	m := answering(t, harness.FakeRuntime())
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGINT} {
		p := attach(t, m, 24, 80)
		p.asks(t, "one", "<one 24 80>\r\n")
		if err := p.command.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		p.leaves(t)
		if mode := p.mode(t); mode != p.before {
			t.Errorf("%v: the terminal was %+v and is %+v", sig, p.before, mode)
		}
	}
	watcher := sitDown(t, 24, 80, "attach", "-b", m.Dir, "--no-stdin")
	waitStatus(t, m, "somebody watches", func(s *client.Report) bool { return s.Attach.Clients == 1 })
	typist := attach(t, m, 33, 80)
	typist.asks(t, "two", "<two 33 80>\r\n")
	watcher.sees(t, "<two 33 80>\r")
	if watcher.mode(t) != watcher.before {
		t.Error("the terminal of one who only watches has changed")
	}
	m.Bundle.Kill(t, "KILL")
	watcher.leaves(t)
	typist.leaves(t)
	m.Finish(t)

	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Spec{Args: []string{"cat"}})
	m = b.Run(t, harness.Launch{Args: []string{"-i"}})
	p := sitDown(t, 24, 80, "attach", "-b", m.Dir)
	p.types(t, "hello\n")
	p.sees(t, "hello\r\nhello\r\n") // the terminal's echo, and the container's answer
	if p.mode(t) != p.before {
		t.Error("a container without a terminal has changed the person's")
	}
	p.types(t, "\x04") // the end of input, to this terminal
	p.leaves(t)
	if status := m.Finish(t); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// The other two commands for people, and what they say of a container that is
// not there.
func TestCommandsForPeople(t *testing.T) {
	harness.NeedOurs(t)
	m := answering(t, harness.FakeRuntime())
	p := attach(t, m, 24, 80)
	p.asks(t, "one", "<one 24 80>\r\n")
	if status, _, errs := harness.Command(t, "/", nil, "resize", "-b", m.Dir, "12x34"); status != 0 {
		t.Errorf("resize: %d %s", status, errs)
	}
	p.asks(t, "two", "<two 12 34>\r\n")
	if err := os.Rename(m.LogPath, m.LogPath+".1"); err != nil {
		t.Fatal(err)
	}
	if status, _, errs := harness.Command(t, "/", nil, "reopen-logs", "-b", m.Dir); status != 0 {
		t.Errorf("reopen-logs: %d %s", status, errs)
	}
	harness.WaitFile(t, m.LogPath)
	p.asks(t, "three", "<three 12 34>\r\n")
	m.WaitLog(t, "<three 12 34>")
	p.types(t, "\x10\x11")
	p.leaves(t)
	m.Bundle.Kill(t, "KILL")
	m.Finish(t)
	for _, args := range [][]string{{"attach"}, {"resize", "1", "1"}, {"reopen-logs"}, {"status"}, {"upgrade"}} {
		status, _, errs := harness.Command(t, "/", nil, append(args, "-b", m.Dir)...)
		if status != 1 || !strings.Contains(errs, "no monitor is running in "+m.Dir) {
			t.Errorf("%v: status %d, %q", args, status, errs)
		}
	}
}
