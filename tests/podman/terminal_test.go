package podman

import (
	"strings"
	"testing"

	"conmon/tests/harness"
)

func testTerminal(t *testing.T) {
	p := root()
	name := p.name(t)
	s := p.talkOnTerminal(t, 24, 80, "run", "-it", "--rm", "--name", name, image, "sh")
	s.send(t, "stty size\r")
	s.expect(t, "24 80\r\n")
	// The shell tells when it hears of the new size.
	s.send(t, "trap 'stty size' WINCH; echo rea''dy\r")
	s.expect(t, "ready\r\n")
	for _, size := range []struct {
		rows, cols uint16
		want       string
	}{{50, 132, "50 132"}, {7, 33, "7 33"}} {
		s.resize(t, size.rows, size.cols)
		harness.Eventually(t, "the container's terminal has the new size", func() bool {
			r := p.run(t, "exec", name, "stty", "-F", "/dev/console", "size")
			return strings.Contains(r.stdout, size.want)
		})
	}
	s.send(t, "tty; exit 9\r")
	s.expect(t, "/dev/pts/0")
	s.rest(t)
	if code := s.code(t); code != 9 {
		t.Errorf("run -it: status %d", code)
	}
	if r := p.run(t, "run", "-t", "--rm", "--name", p.name(t), image, "sh", "-c", "test -t 1 && echo tty"); r.stdout != "tty\r\n" {
		t.Errorf("run -t: %+v", r)
	}
}

// testDetachKeys leaves a terminal and comes back several times.
func testDetachKeys(t *testing.T) {
	p := root()
	name := p.name(t)
	s := p.talkOnTerminal(t, 24, 80, "run", "-it", "--name", name, image, "sh")
	s.send(t, "x=kept; echo fi''rst\r")
	s.expect(t, "first\r\n")
	s.detach(t)
	s.rest(t)
	if code := s.code(t); code != 0 {
		t.Fatalf("detaching: status %d", code)
	}
	p.want(t, name, "{{.State.Status}}", "running")
	for range 2 {
		s = p.talkOnTerminal(t, 30, 90, "attach", name)
		s.send(t, "echo still $x\r")
		s.expect(t, "still kept\r\n")
		// Podman passes the size on beside what is typed.
		harness.Eventually(t, "the container's terminal has the client's size", func() bool { return s.sizeInside(t) == "30 90" })
		s.detach(t)
		s.rest(t)
		s.code(t)
		p.want(t, name, "{{.State.Status}}", "running")
	}
	s = p.talkOnTerminal(t, 24, 80, "attach", "--detach-keys", "ctrl-x", name)
	s.send(t, "echo other''keys\r")
	s.expect(t, "otherkeys\r\n")
	s.send(t, "\x18")
	s.rest(t)
	s.code(t)
	// A terminal that is closed under its client, as by a lost connection.
	s = p.talkOnTerminal(t, 24, 80, "attach", name)
	s.send(t, "echo la''st\r")
	s.expect(t, "last\r\n")
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	s.code(t)
	p.want(t, name, "{{.State.Status}}", "running")
	s = p.talkOnTerminal(t, 24, 80, "attach", name)
	s.send(t, "exit 5\r")
	s.rest(t)
	s.code(t) // podman attach itself ends with 0
	p.want(t, name, "{{.State.ExitCode}}", "5")
}
