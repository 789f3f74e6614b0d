// Package podman runs the monitor under a real Podman: systemd cgroups,
// journald, units and rootless included. Since that takes a systemd to itself,
// the test binary starts itself again inside one (tests/lib/in-systemd), once
// for all scenarios.
package podman

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"conmon/tests/harness"
)

// envInside tells the test binary that it has been started inside systemd.
const envInside = "CONMON_TEST_INSIDE"

// tools are the programs that the suite cannot do without.
var tools = []string{"podman", "crun", "runc", "busybox", "dbus-daemon", "journalctl", "newuidmap", "runuser"}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	switch {
	case inside():
		if err := prepare(); err != nil {
			fmt.Fprintln(os.Stderr, "preparing Podman:", err)
			return 1
		}
	case lacking() == "":
		status, err := boot()
		if err != nil {
			fmt.Fprintln(os.Stderr, "starting systemd:", err)
			return 1
		}
		return status
	}
	return m.Run()
}

func inside() bool { return os.Getenv(envInside) == "systemd" }

// lacking says what is not there that the suite needs, or nothing.
func lacking() string {
	if os.Geteuid() != 0 {
		return "needs root"
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			return "needs " + tool
		}
	}
	if _, err := os.Stat(harness.MonitorPath()); err != nil {
		return "needs a monitor: " + err.Error()
	}
	return ""
}

// boot runs the test binary with the same arguments under a systemd of its own
// and returns its exit status.
func boot() (status int, err error) {
	// Inside, /tmp is another one, but the repository is the same.
	bin := filepath.Join(harness.Repo(), "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp(bin, "podman-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := stage(dir); err != nil {
		return 0, err
	}
	args := []string{
		"env", envInside + "=systemd", envHelper + "=" + filepath.Join(dir, "helper"), "CONMON_UNDER_TEST=" + filepath.Join(dir, "conmon"),
		"CI=" + os.Getenv("CI"), "CONMON_TEST_LONG=" + os.Getenv("CONMON_TEST_LONG"), filepath.Join(dir, "podman.test"),
	}
	for _, a := range os.Args[1:] {
		// The log would be written where /tmp is another one; all that is lost
		// is the caching of the result.
		if !strings.HasPrefix(a, "-test.testlogfile=") {
			args = append(args, a)
		}
	}
	ctx, done := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer done()
	cmd := exec.CommandContext(ctx, filepath.Join(harness.Repo(), "tests", "lib", "in-systemd"), args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	// If go test kills us, the systemd must not stay. The signal comes at the end
	// of the thread, not of the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	var exit *exec.ExitError
	if err := cmd.Run(); errors.As(err, &exit) {
		return exit.ExitCode(), nil
	} else if err != nil {
		return 0, err
	}
	return 0, nil
}

// stage puts into dir what runs inside: this binary, the monitor and the helper.
func stage(dir string) error {
	if err := copyFile(harness.MonitorPath(), filepath.Join(dir, "conmon")); err != nil {
		return err
	}
	if err := copyFile("/proc/self/exe", filepath.Join(dir, "podman.test")); err != nil {
		return err
	}
	build := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, "helper"), "./tests/podman/helper")
	build.Dir = harness.Repo()
	// It runs in containers too, where there are no libraries.
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the helper: %w\n%s", err, out)
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	// A name of its own first: what is at the path may be running.
	out, err := os.OpenFile(to+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return errors.Join(out.Close(), os.Rename(to+".new", to))
}

// TestPodman is the table of contents.
func TestPodman(t *testing.T) {
	if !inside() {
		harness.Skip(t, lacking())
	}
	for _, scenario := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"info", testInfo},
		{"run", testRun},
		{"short", testShort},
		{"late monitor", testLateMonitor},
		{"detached", testDetached},
		{"exit codes", testExitCodes},
		{"removed at exit", testRemoved},
		{"stdin", testStdin},
		{"slow reader", testSlowReader},
		{"preserved descriptors", testPreserveFds},
		{"published port", testPublishedPort},
		{"runc", testRunc},
		{"terminal", testTerminal},
		{"detach keys", testDetachKeys},
		{"attach", testAttach},
		{"exec", testExec},
		{"exec at once", testExecConcurrent},
		{"exec in a dying container", testExecDying},
		{"restart policies", testRestartPolicies},
		{"stop and kill", testStopAndKill},
		{"timeout", testTimeout},
		{"logs", testLogs},
		{"logs follow", testLogsFollow},
		{"log of unfinished lines", testPartial},
		{"log size", testLogSize},
		{"log drivers without a log", testNoLog},
		{"journal fields", testJournalFields},
		{"journal of a flood", testJournalFlood},
		{"journal entries of any size", testJournalSizes},
		{"journald hangs", testJournalHangs},
		{"journald restarts", testJournalRestarts},
		{"sdnotify", testSdnotify},
		{"notify unit", testNotifyUnit},
		{"healthcheck", testHealthcheck},
		{"api", testAPI},
		{"api exec", testAPIExec},
		{"rootless", testRootless},
		{"at once", testAtOnce},
		{"monitor killed", testMonitorKilled},
		{"monitor terminated", testMonitorTerminated},
		{"upgrade", testUpgrade},
		{"nothing left over", testNothingLeft},
	} {
		t.Run(scenario.name, scenario.run)
	}
}
