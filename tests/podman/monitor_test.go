package podman

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"conmon/tests/harness"
)

// testMonitorKilled takes the monitor away from Podman, in the hard way.
func testMonitorKilled(t *testing.T) {
	p := root()
	name := p.name(t)
	id := p.ok(t, "run", "-d", "--name", name, image, "sleep", "1000")
	monitor, container := p.monitorOf(t, name), atoi(t, p.inspect(t, name, "{{.State.Pid}}"))
	client := p.talk(t, "attach", "--no-stdin", name)
	if err := unix.Kill(monitor, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	client.rest(t)
	client.code(t)
	// The container goes on, and Podman can still end it.
	if !harness.Alive(container) {
		t.Error("the container has died with its monitor")
	}
	p.ok(t, "stop", "-t", "1", name)
	harness.WaitProcess(t, container)
	p.want(t, name, "{{.State.Running}}", "false")
	p.ok(t, "rm", "-f", "-t", "0", name)
	// Podman forgets the runtime's state then.
	if err := os.RemoveAll("/run/crun/" + id); err != nil {
		t.Error(err)
	}
	if !harness.Peer() {
		// The monitor could not take its link away: who looks for monitors does.
		if r := finish(t, exec.Command(monitorPath, "ps")); r.code != 0 || strings.Contains(r.stdout, id[:12]) {
			t.Errorf("after the monitor's death conmon ps: %+v", r)
		}
		if _, err := os.Lstat("/run/conmon/" + id); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the dead monitor's link is left: %v", err)
		}
	}
	if r := p.run(t, "run", "--name", name, image, "echo", "again"); r.stdout != "again\n" {
		t.Errorf("a new container of the same name: %+v", r)
	}
}

// testMonitorTerminated asks the monitor to end: it passes that on.
func testMonitorTerminated(t *testing.T) {
	p := root()
	for signal, trap := range map[unix.Signal]string{unix.SIGTERM: "TERM", unix.SIGINT: "INT", unix.SIGQUIT: "QUIT"} {
		name := p.name(t)
		p.ok(t, "run", "-d", "--name", name, image, "sh", "-c", "trap 'echo bye; exit 5' "+trap+"; echo up; while :; do sleep 0.05; done")
		harness.Eventually(t, "it is up", func() bool { return strings.Contains(p.ok(t, "logs", name), "up") })
		if err := unix.Kill(p.monitorOf(t, name), signal); err != nil {
			t.Fatal(err)
		}
		if got := p.ok(t, "wait", name); got != "5" {
			t.Errorf("after %v: podman wait says %s", signal, got)
		}
		if got := p.ok(t, "logs", name); got != "up\nbye" {
			t.Errorf("after %v: the log is %q", signal, got)
		}
	}
}

// testUpgrade gives running monitors a new program many times, under output,
// input, attached clients and an exec session. Podman must not notice.
func testUpgrade(t *testing.T) {
	harness.NeedOurs(t)
	p := root()
	for _, driver := range logDrivers() {
		name := p.name(t)
		const lines = 20000
		p.ok(t, "run", "-d", "-i", "--log-driver", driver, "--name", name, image, "sh", "-c",
			fmt.Sprintf("read go; seq %d; while read l; do echo \"got $l\"; done; exit 21", lines))
		monitor := p.monitorOf(t, name)
		started := harness.StatField(monitor, 22)
		client, watcher := p.talk(t, "attach", name), p.talk(t, "attach", "--sig-proxy=false", name)
		session := p.talk(t, "exec", "-i", name, "cat")
		session.send(t, "before\n")
		session.expect(t, "before\n")
		harness.Eventually(t, "two clients are attached", func() bool { return p.status(t, name).Attach.Clients == 2 })
		upgrades := 0
		upgrade := func() {
			t.Helper()
			// As a package manager does it: a new file under the old name.
			if err := copyFile(harness.MonitorPath(), monitorPath); err != nil {
				t.Fatal(err)
			}
			for _, pid := range monitors(name) {
				if err := unix.Kill(pid, unix.SIGUSR2); err != nil {
					t.Fatal(err)
				}
			}
			upgrades++
			harness.Eventually(t, "the monitor has been upgraded", func() bool {
				m := p.status(t, name).Monitor
				if m.UpgradeError != "" {
					t.Fatalf("the upgrade: %s", m.UpgradeError)
				}
				return m.Upgrades >= upgrades
			})
		}
		client.send(t, "go\n")
		for range 5 {
			upgrade()
		}
		for i := range 5 {
			line := fmt.Sprintf("line %d\n", i)
			client.send(t, line)
			upgrade()
			client.expect(t, "got "+line)
			session.send(t, line)
			session.expect(t, line)
		}
		if now := p.monitorOf(t, name); now != monitor || harness.StatField(monitor, 22) != started {
			t.Errorf("the monitor was %d, started at %s; it is %d, %s", monitor, started, now, harness.StatField(now, 22))
		}
		p.want(t, name, "{{.State.Status}}", "running")
		session.in.Close()
		if rest := session.rest(t); rest != "" || session.code(t) != 0 {
			t.Errorf("the exec session ends with %q", rest)
		}
		client.in.Close()
		client.rest(t)
		var want strings.Builder
		for i := range lines {
			fmt.Fprintln(&want, i+1)
		}
		for i := range 5 {
			fmt.Fprintf(&want, "got line %d\n", i)
		}
		watcher.rest(t)
		syncJournal(t)
		for who, got := range map[string]string{
			"attach client": client.seen.String(), "watching client": watcher.seen.String(), "log": p.run(t, "logs", name).stdout,
		} {
			// podman attach adds a newline of its own at the end.
			if strings.TrimRight(got, "\n")+"\n" != want.String() {
				t.Errorf("%s: the %s has %d bytes of %d", driver, who, len(got), want.Len())
			}
		}
		p.want(t, name, "{{.State.ExitCode}}", "21")
	}
}

// testNothingLeft looks at the system after all the others.
func testNothingLeft(t *testing.T) {
	reports, err := filepath.Glob(raceDir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range reports {
		text, err := os.ReadFile(path)
		t.Errorf("the race detector: %s, %v", text, err)
	}
	for _, pid := range monitors("") {
		if !ends(pid, harness.Patience) {
			t.Errorf("monitor %d is left", pid)
		}
	}
	if left := sockets(); len(left) > 0 {
		t.Errorf("sockets are left: %v", left)
	}
	for _, pattern := range []string{
		"/run/conmon/*", fmt.Sprintf("/run/user/%d/conmon/*", userID), "/run/libpod/exits/*", "/run/crun/*", "/run/runc/*",
		"/tmp/conmon*", "/var/tmp/conmon*", "/var/lib/containers/storage/overlay-containers/*/userdata",
		"/sys/fs/cgroup/machine.slice/libpod-*",
	} {
		// systemd removes the cgroups when it has time.
		harness.Eventually(t, pattern+" is empty", func() bool {
			left, _ := filepath.Glob(pattern)
			return len(left) == 0
		})
	}
	for _, dir := range []string{os.TempDir(), "/var/tmp"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Type()&os.ModeSocket != 0 || strings.Contains(e.Name(), "conmon") {
				t.Errorf("left over: %s", filepath.Join(dir, e.Name()))
			}
		}
	}
}
