package tests

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"conmon/internal/status/client"
	"conmon/tests/harness"
)

// installed puts a copy of the monitor under test into dir and makes it the one
// that this test starts.
func installed(t *testing.T, dir string) (path string) {
	t.Helper()
	path = dir + "/conmon"
	copyProgram(t, harness.MonitorPath(), path)
	t.Setenv("CONMON_UNDER_TEST", path)
	return path
}

func copyProgram(t *testing.T, from, to string) {
	t.Helper()
	program, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, program, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A package manager has removed the monitor's file: everything but an upgrade
// goes on, also what starts the program again, and the upgrade says why not.
func TestBinaryRemoved(t *testing.T) {
	harness.NeedOurs(t)
	harness.EachRuntime(t, func(t *testing.T, r harness.Runtime) {
		b := harness.NewBundle(t, r, harness.Shell("trap 'exit 5' TERM; echo up; while :; do sleep 0.1; done"))
		original := harness.MonitorPath()
		path := installed(t, b.Base)
		m := b.Run(t, harness.Launch{Args: []string{"--log-rotate", "--log-max-files=2", "--log-compress=gzip"}})
		m.WaitLog(t, "up")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Upgrade(b.Dir, ""); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("upgrade: %v", err)
		}
		if s := status(t, m); s.State != "running" || !strings.Contains(s.Monitor.UpgradeError, "no such file") {
			t.Errorf("status: %s, %q", s.State, s.Monitor.UpgradeError)
		}
		m.Signal(t, unix.SIGUSR1)
		harness.WaitFile(t, m.LogPath+".1.gz")

		// A new version at the old place is what an upgrade takes.
		copyProgram(t, original, path)
		if _, err := client.Upgrade(b.Dir, ""); err != nil {
			t.Errorf("upgrade: %v", err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		b.Kill(t, "TERM")
		if status := m.Finish(t); status != 5 {
			t.Errorf("exit status %d", status)
		}
	})
}

// The file system of the monitor's file became noexec.
func TestBinaryNoexec(t *testing.T) {
	harness.NeedOurs(t)
	harness.NeedRoot(t)
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("trap 'exit 6' TERM; echo up; while :; do sleep 0.1; done"))
	dir := smallDisk(t, b, "64m")
	path := installed(t, dir)
	m := b.Run(t, harness.Launch{})
	m.WaitLog(t, "up")
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_NOEXEC, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Upgrade(b.Dir, ""); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("upgrade: %v", err)
	}
	b.Kill(t, "TERM")
	if status := m.Finish(t); status != 6 {
		t.Errorf("exit status %d", status)
	}
}

// An administrator goes back to conmon: new containers get it, and the running
// one keeps its monitor, which refuses to become a program that could not take
// over.
func TestRollback(t *testing.T) {
	harness.NeedOurs(t)
	peer := harness.NeedTool(t, "/usr/bin/conmon")
	harness.EachRuntime(t, func(t *testing.T, r harness.Runtime) {
		spec := harness.Shell("trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done")
		b := harness.NewBundle(t, r, spec)
		path := installed(t, b.Base)
		m := b.Run(t, harness.Launch{Engine: harness.CRIO})
		m.WaitLog(t, "up")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		copyProgram(t, peer, path)
		if _, err := client.Upgrade(b.Dir, ""); err == nil || !strings.Contains(err.Error(), "can take over") {
			t.Errorf("upgrade: %v", err)
		}

		next := harness.NewBundle(t, r, spec)
		next.Untidy() // it leaves its link
		n := next.Run(t, harness.Launch{Engine: harness.CRIO})
		n.WaitLog(t, "up")
		for _, c := range []struct {
			bundle  *harness.Bundle
			monitor *harness.Monitor
		}{{b, m}, {next, n}} {
			c.bundle.Kill(t, "TERM")
			if status := c.monitor.Finish(t); status != 7 {
				t.Errorf("exit status %d", status)
			}
		}
	})
}
