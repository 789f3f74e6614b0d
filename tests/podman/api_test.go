package podman

import (
	"crypto/sha256"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"conmon/tests/harness"
)

// service starts the API service and returns a Podman that works through it.
func service(t *testing.T) podman {
	t.Helper()
	path := "/run/podman-test.sock"
	os.Remove(path)
	root().talk(t, "system", "service", "-t", "0", "unix://"+path)
	harness.WaitFile(t, path)
	p := podman{url: "unix://" + path}
	harness.Eventually(t, "the API service answers", func() bool { return p.run(t, "version").code == 0 })
	return p
}

func testAPI(t *testing.T) {
	p := service(t)
	for _, args := range [][]string{nil, {"--log-driver", "k8s-file"}} {
		argv := slices.Concat([]string{"run", "--rm", "--name", p.name(t)}, args, []string{image, "sh", "-c", "echo out; echo err >&2; exit 6"})
		if r := p.run(t, argv...); r != (outcome{"out\n", "err\n", 6}) {
			t.Errorf("remote run: %+v", r)
		}
	}
	for path, code := range map[string]int{"/refused": 126, "/missing": 127} {
		if r := p.run(t, "run", "--rm", "--name", p.name(t), image, path); r.code != code {
			t.Errorf("remote run of %s: %+v", path, r)
		}
	}
	// 16 MiB of anything through the service and back.
	input, sum := noise(16 << 20)
	cmd, back := p.command("run", "--rm", "-i", "--log-driver", "none", "--name", p.name(t), image, "cat"), sha256.New()
	cmd.Stdin, cmd.Stdout = input, back
	if r := finish(t, cmd); r.code != 0 || sumOf(back) != sumOf(sum) {
		t.Errorf("remote run -i: %+v; what came back differs: %v", r, sumOf(back) != sumOf(sum))
	}

	name := p.name(t)
	p.ok(t, "run", "-d", "-i", "--name", name, image, "sh", "-c", "while read l; do echo \"got $l\"; done; exit 8")
	follower := p.talk(t, "logs", "-f", name)
	writer := p.talk(t, "attach", name)
	waiting := p.talk(t, "wait", name)
	harness.Eventually(t, "the client is attached", func() bool { return harness.Peer() || p.status(t, name).Attach.Clients > 0 })
	for i := range 3 {
		writer.send(t, fmt.Sprintf("%d\n", i))
		writer.expect(t, fmt.Sprintf("got %d\n", i))
		follower.expect(t, fmt.Sprintf("got %d\n", i))
	}
	writer.in.Close()
	if got := waiting.rest(t); got != "8\n" {
		t.Errorf("remote wait: %q", got)
	}
	for _, s := range []*session{follower, writer} {
		s.rest(t)
		if code := s.code(t); code != 0 {
			t.Errorf("%s: status %d, %q", brief(s.cmd), code, s.seen.String())
		}
	}

	s := p.talkOnTerminal(t, 26, 82, "run", "-it", "--rm", "--name", p.name(t), image, "sh")
	harness.Eventually(t, "the remote terminal has its size", func() bool {
		s.send(t, "stty size\r")
		s.expect(t, "stty size\r\n")
		s.expect(t, "\r\n")
		return strings.Contains(s.seen.String(), "26 82\r\n")
	})
	s.send(t, "exit 3\r")
	s.rest(t)
	if code := s.code(t); code != 3 {
		t.Errorf("remote run -it: status %d", code)
	}
}

// testAPIExec has the service run exec sessions. It asks the monitor to stay
// for five minutes after the session's end, so that clients can still ask for
// the exit code.
func testAPIExec(t *testing.T) {
	p := service(t)
	name := p.name(t)
	p.ok(t, "run", "-d", "--name", name, image, "sleep", "1000")
	if r := p.run(t, "exec", name, "sh", "-c", "echo out; echo err >&2; exit 9"); r != (outcome{"out\n", "err\n", 9}) {
		t.Errorf("remote exec: %+v", r)
	}
	cmd := p.command("exec", "-i", name, "cat")
	cmd.Stdin = strings.NewReader("there and back")
	if r := finish(t, cmd); r != (outcome{"there and back", "", 0}) {
		t.Errorf("remote exec -i: %+v", r)
	}
	s := p.talkOnTerminal(t, 27, 83, "exec", "-it", name, "sh")
	s.send(t, "tty; exit 2\r")
	s.expect(t, "/dev/pts/")
	s.rest(t)
	if code := s.code(t); code != 2 {
		t.Errorf("remote exec -it: status %d", code)
	}
	lingering := 0
	for _, pid := range monitors(name) {
		text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		if strings.Contains(string(text), "\x00--exit-delay\x00300\x00") {
			lingering++
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	if lingering != 3 {
		t.Errorf("%d monitors of ended sessions wait for their exit delay, want 3", lingering)
	}
}
