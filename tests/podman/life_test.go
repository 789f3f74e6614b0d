package podman

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"conmon/tests/harness"
)

func testRestartPolicies(t *testing.T) {
	p := root()
	failing := p.name(t)
	p.ok(t, "run", "-d", "--restart", "on-failure:3", "--name", failing, image, "sh", "-c", "echo life; exit 3")
	fine := p.name(t)
	p.ok(t, "run", "-d", "--restart", "on-failure:3", "--name", fine, image, "true")
	for _, policy := range []string{"always", "unless-stopped"} {
		name := p.name(t)
		p.ok(t, "run", "-d", "--restart", policy, "--name", name, image, "sh", "-c",
			// Podman does not stop what is between two lives.
			"echo life >>/data/lives; [ $(wc -l </data/lives) -lt 3 ] || sleep 1000")
		harness.Eventually(t, "it has been restarted twice", func() bool {
			return p.inspect(t, name, "{{.State.Status}} {{.RestartCount}}") == "running 2"
		})
		p.ok(t, "stop", "-t", "0", name)
		noMonitor(t, name)
		p.want(t, name, "{{.State.Status}} {{.RestartCount}}", "exited 2")
	}
	harness.Eventually(t, "the failing container has been restarted three times", func() bool {
		return p.inspect(t, failing, "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}") == "exited 3 3"
	})
	if got := p.ok(t, "logs", failing); got != "life\nlife\nlife\nlife" {
		t.Errorf("the log of four lives is %q", got)
	}
	p.want(t, fine, "{{.State.Status}} {{.RestartCount}}", "exited 0")
}

func testStopAndKill(t *testing.T) {
	p := root()
	const loop = "echo ready; while :; do sleep 0.05; done"
	start := func(script string) string {
		t.Helper()
		name := p.name(t)
		p.ok(t, "run", "-d", "--name", name, image, "sh", "-c", script+loop)
		harness.Eventually(t, "it is ready", func() bool { return strings.Contains(p.ok(t, "logs", name), "ready") })
		return name
	}
	for _, c := range []struct {
		script, args string
		want         string
	}{
		{"trap 'echo bye; exit 12' TERM; ", "stop", "12"},
		{"trap '' TERM; ", "stop -t 1", "137"},
		{"trap 'echo bye; exit 13' INT; ", "kill -s INT", "13"},
		{"", "kill", "137"},
	} {
		name := start(c.script)
		waiting := []*session{p.talk(t, "wait", name), p.talk(t, "wait", name)}
		p.ok(t, append(strings.Fields(c.args), name)...)
		for _, s := range waiting {
			if got := s.rest(t); got != c.want+"\n" {
				t.Errorf("podman wait under %s says %q", c.args, got)
			}
		}
		p.want(t, name, "{{.State.ExitCode}}", c.want)
		if log := p.ok(t, "logs", name); strings.Contains(c.script, "bye") != strings.HasSuffix(log, "bye") {
			t.Errorf("%s: the log is %q", c.args, log)
		}
		noMonitor(t, name)
	}
	name := start("trap 'echo usr1' USR1; ")
	p.ok(t, "kill", "-s", "USR1", name)
	harness.Eventually(t, "the signal has come", func() bool { return strings.HasSuffix(p.ok(t, "logs", name), "usr1") })
	p.ok(t, "pause", name)
	p.want(t, name, "{{.State.Status}}", "paused")
	p.ok(t, "unpause", name)
	p.want(t, name, "{{.State.Status}}", "running")
}

func testTimeout(t *testing.T) {
	p := root()
	name := p.name(t)
	began := time.Now()
	// The time begins when the container is made, and Podman has yet to start it.
	r := p.run(t, "run", "--timeout", "3", "--name", name, image, "sh", "-c", "echo before; sleep 1000")
	if took := time.Since(began); r != (outcome{"before\n", "", 255}) || took < 3*time.Second {
		t.Errorf("after %v: %+v", took, r)
	}
	p.want(t, name, "{{.State.ExitCode}} {{.State.Status}}", "-1 exited")
	if got := p.ok(t, "logs", name); got != "before" {
		t.Errorf("the log is %q", got)
	}
}

// testAtOnce starts twenty containers at the same time.
func testAtOnce(t *testing.T) {
	p := root()
	const n = 20
	front, back, names := make([]*session, n), make([]*session, n), make([]string, n)
	for i := range n {
		script := fmt.Sprintf("seq %d; exit %d", 100*i, i)
		names[i] = p.name(t)
		front[i] = p.talk(t, "run", "--rm", "--name", p.name(t), image, "sh", "-c", script)
		back[i] = p.talk(t, "run", "-d", "--log-driver", "k8s-file", "--name", names[i], image, "sh", "-c", script)
	}
	for i, s := range front {
		got := s.rest(t)
		if code := s.code(t); code != i || strings.Count(got, "\n") != 100*i {
			t.Errorf("container %d: status %d, %d lines, %q", i, code, strings.Count(got, "\n"), tail(got))
		}
	}
	for i, name := range names {
		if id := back[i].rest(t); back[i].code(t) != 0 {
			t.Fatalf("detached container %d: %q", i, id)
		}
		if got := p.ok(t, "wait", name); got != fmt.Sprint(i) {
			t.Errorf("detached container %d: status %s", i, got)
		}
		if got := p.run(t, "logs", name).stdout; strings.Count(got, "\n") != 100*i {
			t.Errorf("detached container %d: %d lines in the log", i, strings.Count(got, "\n"))
		}
	}
}
