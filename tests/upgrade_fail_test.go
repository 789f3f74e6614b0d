package tests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"conmon/internal/status/client"
	"conmon/tests/harness"
)

// A program that cannot take over leaves the old monitor as it is, which says
// what was wrong with it.
func TestUpgradeFails(t *testing.T) {
	harness.NeedOurs(t)
	b := harness.NewBundle(t, harness.FakeRuntime(), payload(t, harness.FakeRuntime(), "count", 100_000, 40, 1000))
	m := b.Run(t, harness.Launch{})
	m.WaitLog(t, "000000010")
	pid := m.Pid(t)
	before := descriptors(pid)
	script := func(name, text string, mode os.FileMode) string {
		path := b.Base + "/" + name
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cases := []struct{ name, path, want string }{
		{"missing", b.Base + "/nothing", "no such file"},
		{"a directory", b.Base, "permission denied"},
		{"not executable", script("plain", "#!/bin/sh\n", 0o644), "permission denied"},
		{"no program", script("text", "hello\n", 0o755), "exec format error"},
		{"true", "/bin/true", "ended with status 0"},
		{"sleep", "/bin/sleep", "did not say that it can take over"},
		{"dies", script("dies", "#!/bin/sh\nkill -9 $$\n", 0o755), "killed by SIGKILL"},
		{"rubbish", script("rubbish", "#!/bin/sh\nexec head -c 1000000 /dev/urandom\n", 0o755), "did not say"},
		{"speaks", script("speaks", "#!/bin/sh\necho no such luck >&2; exit 3\n", 0o755), "but: no such luck"},
		{"answers, but fails", script("liar", "#!/bin/sh\necho conmon can take over\nexit 1\n", 0o755), "ended with status 1"},
		// These two pass the trial, for which the monitor itself answers in their place.
		{"changes", script("changes", "#!/bin/sh\ncp -p $0 $0.new; mv $0.new $0; exec "+harness.MonitorPath()+" \"$@\"\n", 0o755), "changed while it was being tried"},
		{"cannot be executed again", script("once", "#!/bin/sh\nchmod 644 $0; exec "+harness.MonitorPath()+" \"$@\"\n", 0o755), "permission denied"},
		{"hangs", script("hangs", "#!/bin/sh\nexec sleep 1000\n", 0o755), "killed by SIGKILL"},
	}
	if _, err := os.Stat("/usr/bin/conmon"); err == nil {
		cases = append(cases, struct{ name, path, want string }{"another conmon", "/usr/bin/conmon", "did not say"})
	}
	for _, c := range cases {
		_, err := client.Upgrade(m.Dir, c.path)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.path) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		s := status(t, m)
		if s.Monitor.Upgrades != 0 || !strings.Contains(s.Monitor.UpgradeError, c.want) {
			t.Errorf("%s: %d upgrades, error %q", c.name, s.Monitor.Upgrades, s.Monitor.UpgradeError)
		}
	}
	harness.Eventually(t, "the descriptors are as many as before", func() bool { return len(descriptors(pid)) <= len(before) })
	if _, err := client.Upgrade(m.Dir, ""); err != nil {
		t.Errorf("after all that: %v", err)
	}
	if s := status(t, m); s.Monitor.Upgrades != 1 || s.Monitor.UpgradeError != "" || s.Container.PID == 0 {
		t.Errorf("status %+v", s.Monitor)
	}
	b.Kill(t, "KILL")
	m.Finish(t)
	checkCounted(t, harness.ReadLog(t, m.LogPath))
}

// checkCounted checks that payload's numbered lines are all there from the first
// on, and returns how many.
func checkCounted(t *testing.T, records []harness.Record) int {
	t.Helper()
	for i, r := range records {
		if want := fmt.Sprintf("%09d ", i); !strings.HasPrefix(r.Text, want) || r.Partial && i < len(records)-1 {
			t.Fatalf("record %d is %.60q", i, r)
		}
	}
	return len(records)
}

// The command tells what happened, and its status with it.
func TestUpgradeCommand(t *testing.T) {
	harness.NeedOurs(t)
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("echo up; exec sleep 1000"))
	m := b.Run(t, harness.Launch{})
	env := []string{"CONMON_REGISTRY_DIR=" + b.Base + "/reg"}
	for _, c := range []struct {
		want   string
		status int
		args   []string
	}{
		{"upgraded: version", 0, []string{"upgrade", "-b", b.Dir}},
		{"upgraded: version", 0, []string{"upgrade", "--all"}},
		{"did not say that it can take over", 1, []string{"upgrade", "-b", b.Dir, "--binary", "/bin/true"}},
		{"did not say that it can take over", 1, []string{"upgrade", "--all", "--binary", "/bin/true"}},
		{"no such file", 1, []string{"upgrade", "-b", b.Dir, "--binary", "nothing/here"}},
		{"no monitor is running", 1, []string{"upgrade", "-b", b.Base}},
		{"upgraded 2 times", 0, []string{"status", "-b", b.Dir}},
		{"nothing/here", 0, []string{"status", "-b", b.Dir}},
	} {
		status, out, errs := harness.Command(t, b.Base, env, c.args...)
		if status != c.status || !strings.Contains(out+errs, c.want) {
			t.Errorf("%v: status %d, %q", c.args, status, out+errs)
		}
	}
	b.Kill(t, "KILL")
	m.Finish(t)
}

// buildMonitor builds the monitor of a source tree as the tree's own Makefile
// says, and returns its path.
func buildMonitor(t *testing.T, tree string) (string, error) {
	t.Helper()
	harness.NeedTool(t, "go")
	harness.NeedTool(t, "make")
	cmd := exec.Command("make", "--no-print-directory", "build")
	cmd.Dir = tree
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return tree + "/bin/conmon", nil
}

// alteration is a change to the monitor's sources.
type alteration struct{ file, from, to string }

// altered builds a monitor from a changed copy of the sources.
func altered(t *testing.T, changes ...alteration) string {
	t.Helper()
	tree := t.TempDir()
	pack := exec.Command("sh", "-c", "tar -c --exclude=./bin --exclude=./.build --exclude=./.git . | tar -x -C "+tree)
	pack.Dir = harness.Repo()
	if out, err := pack.CombinedOutput(); err != nil {
		t.Fatalf("copying the sources: %v %s", err, out)
	}
	for _, c := range changes {
		file := filepath.Join(tree, c.file)
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(string(source), c.from, c.to, 1)
		if changed == string(source) {
			t.Fatalf("there is no %q in %s", c.from, c.file)
		}
		if err := os.WriteFile(file, []byte(changed), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	binary, err := buildMonitor(t, tree)
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// startAs starts the monitor of a counting container from a copy of binary, at a
// path of its own, which an upgrade then finds.
func startAs(t *testing.T, binary string, b *harness.Bundle) (*harness.Monitor, string) {
	t.Helper()
	path := b.Base + "/conmon"
	install(t, binary, path)
	t.Setenv("CONMON_UNDER_TEST", path)
	m := b.Run(t, harness.Launch{Args: []string{"-i"}})
	m.WaitLog(t, "000000010")
	return m, path
}

// install puts a copy of a program at path, as a package manager does.
func install(t *testing.T, from, path string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(path+".new", text, 0o755)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The monitor of the commit before is upgraded to this one: a node's containers
// are older than its packages.
func TestUpgradeFromPreviousCommit(t *testing.T) {
	harness.NeedOurs(t)
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("needs git")
	}
	tree := t.TempDir()
	archive := exec.Command("sh", "-c", git+" archive HEAD~1 | tar -x -C "+tree)
	archive.Dir = harness.Repo()
	if out, err := archive.CombinedOutput(); err != nil {
		t.Skipf("there is no previous commit here: %v %s", err, out)
	}
	old, err := buildMonitor(t, tree)
	if err != nil {
		t.Skipf("the previous commit does not build: %v", err)
	}
	b := harness.NewBundle(t, harness.FakeRuntime(), payload(t, harness.FakeRuntime(), "count", 100_000, 40, 1000))
	current := harness.MonitorPath()
	m, path := startAs(t, old, b)
	c := m.Attach(t)
	for _, next := range []string{current, old, current} { // and back, for who is not content
		install(t, next, path)
		upgrade(t, m)
		if _, err := c.Receive(); err != nil {
			t.Errorf("the attach client: %v", err)
		}
	}
	if s := status(t, m); s.Monitor.Upgrades != 3 {
		t.Errorf("%d upgrades", s.Monitor.Upgrades)
	}
	b.Kill(t, "KILL")
	if status := m.Finish(t); status != 137 {
		t.Errorf("exit status %d", status)
	}
	checkCounted(t, harness.ReadLog(t, m.LogPath))
}

// A state of a later format is refused by who cannot read it, in both directions.
func TestUpgradeAcrossFormats(t *testing.T) {
	harness.NeedOurs(t)
	later := altered(t, alteration{"internal/handoff/state.go", "const Version = 1\n", "const Version = 2\n"})
	current := harness.MonitorPath()
	for _, way := range [][2]string{{later, current}, {current, later}} {
		b := harness.NewBundle(t, harness.FakeRuntime(), payload(t, harness.FakeRuntime(), "count", 100_000, 40, 1000))
		m, path := startAs(t, way[0], b)
		install(t, way[1], path)
		if _, err := client.Upgrade(m.Dir, ""); err == nil || !strings.Contains(err.Error(), "state format") {
			t.Errorf("upgrade: %v", err)
		}
		m.Signal(t, unix.SIGUSR2)
		harness.Eventually(t, "the reason is known", func() bool { return strings.Contains(status(t, m).Monitor.UpgradeError, "state format") })
		b.Kill(t, "KILL")
		if status := m.Finish(t); status != 137 {
			t.Errorf("exit status %d", status)
		}
		checkCounted(t, harness.ReadLog(t, m.LogPath))
	}
}

// An upgrade goes on under the old image's name, arguments and environment.
func TestUpgradeKeepsItsFace(t *testing.T) {
	harness.NeedOurs(t)
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Spec{Args: []string{"sleep", "1000"}})
	m := b.Run(t, harness.Launch{Env: []string{"GREETING=hello", "GOGC=77", "GODEBUG=x=y"}, Args: []string{"--exit-command", "/bin/sh", "--exit-command-arg=-c", "--exit-command-arg", "env >" + b.Base + "/environ"}})
	pid := m.Pid(t)
	face := func() (lines []string) {
		for _, name := range []string{"cmdline", "comm"} {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, string(text))
		}
		for _, field := range []string{"PPid", "Umask", "SigBlk", "SigIgn"} {
			lines = append(lines, harness.Status(pid, field))
		}
		return append(lines, identity(pid))
	}
	before := face()
	upgrade(t, m) // creating the container may have left a descriptor of the Go runtime's
	fds := descriptors(pid)
	for range 20 {
		upgrade(t, m)
	}
	if after := face(); !slices.Equal(before, after) {
		t.Errorf("before\n%q, after\n%q", before, after)
	}
	harness.Eventually(t, "the descriptors are as many as before", func() bool { return len(descriptors(pid)) <= len(fds) })
	b.Kill(t, "KILL")
	m.Finish(t)
	environ, err := os.ReadFile(b.Base + "/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"GREETING=hello", "GOGC=77", "GODEBUG=x=y"} {
		if !slices.Contains(strings.Split(string(environ), "\n"), want) {
			t.Errorf("the exit command has no %s: %s", want, environ)
		}
	}
	if strings.Contains(string(environ), "_CONMON") {
		t.Errorf("the exit command has ours: %s", environ)
	}
}
