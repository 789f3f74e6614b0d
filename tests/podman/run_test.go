package podman

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"conmon/tests/harness"
)

func testInfo(t *testing.T) {
	p := root()
	if got := p.ok(t, "info", "-f", "{{.Host.Conmon.Path}}"); got != monitorPath {
		t.Errorf("Podman uses %s", got)
	}
	version := finish(t, exec.Command(monitorPath, "--version")).stdout
	first, _, _ := strings.Cut(version, "\n")
	if got := p.ok(t, "info", "-f", "{{.Host.Conmon.Version}}"); !strings.HasPrefix(got, first) {
		t.Errorf("Podman shows %q, the monitor says %q", got, version)
	}
}

func testRun(t *testing.T) {
	p := root()
	for _, driver := range []string{"journald", "k8s-file", "none"} {
		r := p.run(t, "run", "--rm", "--log-driver", driver, "--name", p.name(t), image,
			"sh", "-c", "echo to stdout; echo to stderr >&2; exit 7")
		if r != (outcome{"to stdout\n", "to stderr\n", 7}) {
			t.Errorf("with %s: %+v", driver, r)
		}
	}
}

// testShort runs containers that end as soon as they have printed something,
// three at a time: Podman's client has connected before, and gets it.
func testShort(t *testing.T) {
	p := root()
	for range harness.Count(8, 40) {
		var shorts [3]*session
		for i := range shorts {
			shorts[i] = p.talk(t, "run", "--rm", "--log-driver", "k8s-file", "--name", p.name(t), image, "echo", "hello")
		}
		for _, s := range shorts {
			if got := s.rest(t); got != "hello\n" || s.code(t) != 0 {
				t.Errorf("a short container: %q, status %d", got, s.code(t))
			}
		}
	}
}

// testLateMonitor keeps the monitor from running until the client has connected
// and the container has printed and died, as a busy machine does: all of that is
// there at once when it runs again, and the client still gets the output.
func testLateMonitor(t *testing.T) {
	p := root()
	for _, driver := range []string{"k8s-file", "journald", "none"} {
		name := p.name(t)
		p.ok(t, "create", "--log-driver", driver, "--name", name, image, "echo", "hello")
		p.ok(t, "init", name)
		monitor, container := p.monitorOf(t, name), atoi(t, p.inspect(t, name, "{{.State.Pid}}"))
		if err := unix.Kill(monitor, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		// As if some other process had died before: the monitor looks for dead ones
		// first, then, and finds the container.
		if err := unix.Kill(monitor, unix.SIGCHLD); err != nil {
			t.Fatal(err)
		}
		s := p.talk(t, "start", "-a", name)
		harness.Eventually(t, "the container has died", func() bool { return !harness.Alive(container) })
		if err := unix.Kill(monitor, unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if got := s.rest(t); got != "hello\n" || s.code(t) != 0 {
			t.Errorf("%s: the client has %q, status %d", driver, got, s.code(t))
		}
	}
}

func testDetached(t *testing.T) {
	p := root()
	name := p.name(t)
	id := p.ok(t, "run", "-d", "--name", name, image, "sh", "-c", "echo up; sleep 1000")
	p.want(t, name, "{{.State.Status}}", "running")
	monitor := p.monitorOf(t, name)
	if got := harness.ReadNumber(t, p.inspect(t, name, "{{.ConmonPidFile}}")); got != monitor {
		t.Errorf("the pid file says %d, Podman %d", got, monitor)
	}
	container := p.inspect(t, name, "{{.State.Pid}}")
	if got := harness.StatField(atoi(t, container), 4); got != fmt.Sprint(monitor) {
		t.Errorf("the parent of the container is %s, the monitor is %d", got, monitor)
	}
	if got := p.ok(t, "top", name, "args"); !strings.Contains(got, "sleep 1000") {
		t.Errorf("podman top says %q", got)
	}
	// The scope in which Podman puts the monitor.
	cgroup, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", monitor))
	if want := "libpod-conmon-" + id + ".scope"; err != nil || !strings.Contains(string(cgroup), want) {
		t.Errorf("the monitor is in %q, not in %s, %v", cgroup, want, err)
	}
	p.ok(t, "stop", "-t", "0", name)
	p.want(t, name, "{{.State.Status}} {{.State.ExitCode}}", "exited 137")
	// A second life in the same bundle.
	p.ok(t, "start", name)
	p.want(t, name, "{{.State.Status}} {{.State.ExitCode}}", "running 0")
	p.ok(t, "restart", "-t", "0", name)
	if again := p.monitorOf(t, name); again == monitor {
		t.Error("the monitor has not changed over restarts")
	}
	p.ok(t, "stop", "-t", "0", name)
	if got := p.ok(t, "logs", name); got != "up\nup\nup" {
		t.Errorf("the log of three lives is %q", got)
	}
}

func testExitCodes(t *testing.T) {
	p := root()
	for _, c := range []struct {
		want int
		args []string
	}{
		{0, []string{"true"}},
		{1, []string{"false"}},
		{42, []string{"sh", "-c", "exit 42"}},
		{255, []string{"sh", "-c", "exit 255"}},
		{137, []string{"sh", "-c", "kill -9 $$"}},
		{143, []string{"sh", "-c", "trap 'exit 143' TERM; kill -TERM $$; sleep 1"}},
		{126, []string{"/refused"}},
		{127, []string{"/missing"}},
	} {
		args := []string{image}
		if c.want == 137 {
			// The first process of a pid namespace is immune to its own signals.
			args = []string{"--pid", "host", image}
		}
		args = append(args, c.args...)
		if r := p.run(t, append([]string{"run", "--rm", "--name", p.name(t)}, args...)...); r.code != c.want {
			t.Errorf("%q in the foreground: %+v, want %d", c.args, r, c.want)
		}
		if c.want == 126 || c.want == 127 {
			continue // nothing to wait for
		}
		name := p.name(t)
		p.ok(t, append([]string{"run", "-d", "--name", name}, args...)...)
		if got := p.ok(t, "wait", name); got != fmt.Sprint(c.want) {
			t.Errorf("%q: podman wait says %s, want %d", c.args, got, c.want)
		}
		p.want(t, name, "{{.State.ExitCode}} {{.State.Status}}", fmt.Sprintf("%d exited", c.want))
	}
	// The texts that go with it come from the runtime by way of the monitor.
	for path, text := range map[string]string{"/missing": "o such file or directory", "/refused": "ermission denied"} {
		name := p.name(t)
		if r := p.run(t, "run", "--name", name, image, path); !strings.Contains(r.stderr, text) {
			t.Errorf("running %s: %+v, want %q", path, r, text)
		}
	}
}

func testRemoved(t *testing.T) {
	p := root()
	name := p.name(t)
	id := p.ok(t, "run", "-d", "--rm", "--name", name, image, "sleep", "1000")
	monitor := p.monitorOf(t, name)
	p.ok(t, "kill", name)
	// Its exit command removes the container; then the monitor ends.
	harness.WaitProcess(t, monitor)
	if r := p.run(t, "container", "exists", name); r.code != 1 {
		t.Errorf("the container is still there: %+v", r)
	}
	for _, pattern := range []string{
		"/var/lib/containers/storage/overlay-containers/" + id, "/run/containers/storage/overlay-containers/" + id,
		"/run/libpod/exits/" + id, "/run/conmon/" + id,
	} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			t.Errorf("left over: %v", found)
		}
	}
}

func testPreserveFds(t *testing.T) {
	p := root()
	const script = "cat <&3; echo from container >&4"
	preserve := func(args ...string) {
		t.Helper()
		from, to, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		back, their, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer back.Close()
		if _, err := io.WriteString(to, "from outside"); err != nil {
			t.Fatal(err)
		}
		to.Close()
		cmd := p.command(args...)
		cmd.ExtraFiles = []*os.File{from, their}
		r := finish(t, cmd)
		from.Close()
		their.Close()
		if r != (outcome{"from outside", "", 0}) {
			t.Errorf("podman %s: %+v", args, r)
		}
		// The end of file: nobody, not even the monitor, holds the other end.
		if err := back.SetReadDeadline(time.Now().Add(harness.Patience)); err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(back); err != nil || string(text) != "from container\n" {
			t.Errorf("podman %s: the container's answer is %q, %v", args, text, err)
		}
	}
	preserve("run", "--rm", "--preserve-fds", "2", "--name", p.name(t), image, "sh", "-c", script)
	name := p.name(t)
	p.ok(t, "run", "-d", "--name", name, image, "sleep", "1000")
	preserve("exec", "--preserve-fds", "2", name, "sh", "-c", script)
}

// testPublishedPort has Podman park the port's socket in the monitor.
func testPublishedPort(t *testing.T) {
	p := root()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	free.Close()
	name := p.name(t)
	run := []string{"run", "-d", "--name", name, "--network", "bridge", "-p", addr + ":80", image, "sleep", "1000"}
	if r := p.run(t, run...); r.code != 0 {
		harness.Skip(t, "needs a bridge network: "+r.stderr)
	}
	if l, err := net.Listen("tcp", addr); err == nil {
		l.Close()
		t.Error("the published port is free while the container runs")
	}
	p.ok(t, "stop", "-t", "0", name)
	noMonitor(t, name)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatalf("the published port is still taken: %v", err)
	}
	l.Close()
}

func testRunc(t *testing.T) {
	p := root()
	for args, want := range map[string]outcome{
		"echo hello": {"hello\n", "", 0},
		"sleep x":    {"", "sleep: invalid number 'x'\n", 1},
	} {
		argv := append([]string{"--runtime", "runc", "run", "--rm", "--name", p.name(t), image}, strings.Fields(args)...)
		if r := p.run(t, argv...); r != want {
			t.Errorf("%s: %+v", args, r)
		}
	}
	for path, code := range map[string]int{"/refused": 126, "/missing": 127} {
		if r := p.run(t, "--runtime", "runc", "run", "--rm", "--name", p.name(t), image, path); r.code != code {
			t.Errorf("%s: %+v, want %d", path, r, code)
		}
	}
	name := p.name(t)
	p.ok(t, "--runtime", "runc", "run", "-d", "--name", name, image, "sleep", "1000")
	if r := p.run(t, "exec", name, "sh", "-c", "echo in; exit 3"); r != (outcome{"in\n", "", 3}) {
		t.Errorf("exec: %+v", r)
	}
	s := p.talkOnTerminal(t, 24, 80, "exec", "-it", name, "sh", "-c", "tty; read x; echo got $x")
	s.expect(t, "/dev/pts/")
	s.send(t, "this\r")
	s.expect(t, "got this")
	if code := s.code(t); code != 0 {
		t.Errorf("exec -it: %d", code)
	}
}
