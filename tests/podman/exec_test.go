package podman

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"conmon/tests/harness"
)

func testExec(t *testing.T) {
	p := root()
	name := p.name(t)
	p.ok(t, "run", "-d", "--name", name, image, "sleep", "1000")
	for _, c := range []struct {
		args string
		want outcome
	}{
		{"NAME echo hello", outcome{"hello\n", "", 0}},
		{"NAME sh -c exit${IFS}42", outcome{"", "", 42}},
		{"NAME sh -c kill${IFS}-9${IFS}$$", outcome{"", "", 137}},
		{"-u guest NAME id -un", outcome{"guest\n", "", 0}},
		{"-w /tmp -e A=b NAME sh -c pwd;echo${IFS}$A", outcome{"/tmp\nb\n", "", 0}},
	} {
		args := append([]string{"exec"}, strings.Fields(strings.Replace(c.args, "NAME", name, 1))...)
		if r := p.run(t, args...); r != c.want {
			t.Errorf("exec %s: %+v", c.args, r)
		}
	}
	for path, code := range map[string]int{"/refused": 126, "/missing": 127} {
		if r := p.run(t, "exec", name, path); r.code != code || r.stderr == "" {
			t.Errorf("exec %s: %+v", path, r)
		}
	}
	if r := p.run(t, "exec", name, "sh", "-c", "echo 1; echo 2 >&2"); r.stdout != "1\n" || r.stderr != "2\n" {
		t.Errorf("the streams of an exec session: %+v", r)
	}
	p.ok(t, "exec", "-d", name, "sh", "-c", "sleep 0.3; echo made >/data/made")
	harness.Eventually(t, "the detached session has done its work", func() bool {
		return p.run(t, "exec", name, "cat", "/data/made").stdout == "made\n"
	})
	s := p.talkOnTerminal(t, 25, 81, "exec", "-it", name, "sh")
	s.send(t, "stty size; tty\r")
	s.expect(t, "25 81\r\n")
	s.expect(t, "/dev/pts/")
	s.resize(t, 31, 99)
	harness.Eventually(t, "the session's terminal has the new size", func() bool {
		return s.sizeInside(t) == "31 99"
	})
	s.send(t, "exit 11\r")
	s.rest(t)
	if code := s.code(t); code != 11 {
		t.Errorf("exec -it: status %d", code)
	}
	harness.Eventually(t, "only the container's own monitor is left", func() bool { return len(monitors(name)) == 1 })
}

// testExecConcurrent runs many sessions in one container at the same time.
func testExecConcurrent(t *testing.T) {
	p := root()
	name := p.name(t)
	p.ok(t, "run", "-d", "--name", name, image, "sleep", "1000")
	sessions := make([]*session, harness.Count(10, 20))
	for i := range sessions {
		sessions[i] = p.talk(t, "exec", "-i", name, "sh", "-c", fmt.Sprintf("read x; seq %d; echo $x; exit %d", 1000*i, i))
	}
	for i, s := range sessions {
		s.send(t, fmt.Sprintf("input %d\n", i))
	}
	for i, s := range sessions {
		got := s.rest(t)
		if n := strings.Count(got, "\n"); n != 1000*i+1 || !strings.HasSuffix(got, fmt.Sprintf("input %d\n", i)) {
			t.Errorf("session %d: %d lines, %q", i, n, tail(got))
		}
		if code := s.code(t); code != i {
			t.Errorf("session %d: status %d", i, code)
		}
	}
	harness.Eventually(t, "only the container's own monitor is left", func() bool { return len(monitors(name)) == 1 })
}

// testExecDying has the container die under its exec sessions.
func testExecDying(t *testing.T) {
	p := root()
	for _, args := range [][]string{{"kill"}, {"stop", "-t", "0"}, {"rm", "-f", "-t", "0"}} {
		name := p.name(t)
		p.ok(t, "run", "-d", "--name", name, image, "sleep", "1000")
		attached := p.talk(t, "exec", "-i", name, "sh", "-c", "echo in; sleep 1000")
		terminal := p.talkOnTerminal(t, 24, 80, "exec", "-it", name, "sh", "-c", "echo in; sleep 1000")
		p.ok(t, "exec", "-d", name, "sleep", "1000")
		attached.expect(t, "in\n")
		terminal.expect(t, "in\r\n")
		p.ok(t, append(args, name)...)
		for _, s := range []*session{attached, terminal} {
			s.rest(t)
			// Podman says 137, or that the container is gone if it looks too late.
			if code := s.code(t); code == 0 {
				t.Errorf("after podman %s an exec session ends with 0: %q", args[0], s.seen.String())
			}
		}
		noMonitor(t, name)
	}
	if left, err := os.ReadDir("/run/libpod/exits"); err != nil || len(left) > 0 {
		t.Errorf("exit files are left: %v, %v", left, err)
	}
}
