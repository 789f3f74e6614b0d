// Package harness is what the end-to-end tests stand on: bundles for real and
// fake runtimes, engines that launch the monitor as Podman and CRI-O do, the
// sync pipe, attach clients, CRI logs, and a look at what was left behind.
//
// A test package calls Main from its TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
package harness

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Variables that steer the tests.
const (
	envMonitor = "CONMON_UNDER_TEST"   // path of the monitor; default: bin/conmon of this repository
	envLong    = "CONMON_TEST_LONG"    // full counts
	envInside  = "CONMON_TEST_INSIDE"  // what we already run in: "mounts", "systemd" or "uml"
	envCgroup2 = "CONMON_TEST_CGROUP2" // a writable cgroup v2 memory controller is there
	envCgroup1 = "CONMON_TEST_CGROUP1" // where a writable cgroup v1 memory controller is
	envMarker  = "CONMON_TEST_MARKER"  // in the environment of every process of one bundle
	envReg     = "CONMON_REGISTRY_DIR" // see the monitor's own documentation
	envCI      = "CI"                  // nothing may be skipped
)

// Patience is how long the harness waits for something that should happen at
// once. It is generous, since user-mode Linux on a busy machine is slow.
const Patience = 60 * time.Second

// Main runs the tests of a package where they cannot disturb the machine: as
// root in a mount namespace of their own, in which /sys/fs/cgroup is a cgroup v2
// hierarchy. It returns the exit status.
func Main(m *testing.M) int {
	if err := isolate(); err != nil {
		fmt.Fprintln(os.Stderr, "harness: entering a mount namespace:", err)
		return 1
	}
	if err := buildHelpers(); err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
		return 1
	}
	defer removeRootfs()
	return m.Run()
}

// isolate executes the test binary again in a mount namespace of its own. On a
// machine whose /sys/fs/cgroup is a collection of v1 controllers, the namespace
// gets a v2 hierarchy there instead: the runtimes then make their cgroups in it,
// and never touch the machine's controllers.
func isolate() error {
	if os.Geteuid() != 0 || os.Getenv(envInside) != "" {
		return nil
	}
	// The namespace belongs to the thread that makes it, and execve keeps the
	// calling thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making / private: %w", err)
	}
	if err := mountCgroup2(); err != nil {
		return err
	}
	env := append(os.Environ(), envInside+"=mounts")
	return fmt.Errorf("exec: %w", unix.Exec("/proc/self/exe", os.Args, env))
}

func mountCgroup2() error {
	const dir = "/sys/fs/cgroup"
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("statfs %s: %w", dir, err)
	}
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		return nil
	}
	// Away with the v1 hierarchies below it; in this namespace only.
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmounting %s: %w", dir, err)
	}
	if err := unix.Mount("cgroup2", dir, "cgroup2", 0, ""); err != nil {
		return fmt.Errorf("mounting cgroup2 on %s: %w", dir, err)
	}
	return nil
}

// buildHelpers brings bin/fakeruntime up to date. Without a Go toolchain, as in
// user-mode Linux, the one that is there has to do.
func buildHelpers() error {
	if os.Getenv(envInside) == "uml" || os.Getenv(envInside) == "systemd" {
		return nil
	}
	tool, err := exec.LookPath("go")
	if err != nil {
		if _, err := os.Stat(fakeRuntimePath()); err != nil {
			return fmt.Errorf("no go to build the fake runtime with: %w", err)
		}
		return nil
	}
	cmd := exec.Command(tool, "build", "-trimpath", "-o", fakeRuntimePath(), "./tests/fakeruntime")
	cmd.Dir = Repo()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the fake runtime: %w\n%s", err, out)
	}
	return nil
}

// Repo returns the repository's top directory: the nearest one above the working
// directory with a Makefile and a go.mod.
func Repo() string {
	dir, err := os.Getwd()
	if err != nil {
		return "."
	}
	for d := dir; d != "/"; d = filepath.Dir(d) {
		if exists(filepath.Join(d, "Makefile")) && exists(filepath.Join(d, "go.mod")) {
			return d
		}
	}
	return dir
}

func fakeRuntimePath() string { return filepath.Join(Repo(), "bin", "fakeruntime") }

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// MonitorPath returns the monitor under test.
func MonitorPath() string {
	if path := os.Getenv(envMonitor); path != "" {
		return path
	}
	return filepath.Join(Repo(), "bin", "conmon")
}

// Peer says that the monitor under test is conmon in C, with which the harness
// itself can be tried: tests of what goes beyond it skip themselves.
var Peer = sync.OnceValue(func() bool {
	out, err := exec.Command(MonitorPath(), "--version").Output()
	return err == nil && strings.HasPrefix(string(out), "conmon version 2.1.")
})

// NeedOurs skips a test that the peer cannot pass.
func NeedOurs(t testing.TB) {
	t.Helper()
	if Peer() {
		t.Skip("the monitor under test is the peer, which does not do this")
	}
}

// NeedRoot skips a test that needs root, and fails it in CI.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Skip(t, "needs root")
	}
}

// NeedTool returns the path of a program and skips the test if it is not there.
func NeedTool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Skip(t, "needs "+name)
	}
	return path
}

// NeedLong skips a test that only `make test-long` runs.
func NeedLong(t testing.TB) {
	t.Helper()
	if !Long() {
		t.Skip("only in test-long")
	}
}

// NeedCgroup2 skips a test that needs a writable cgroup v2 memory controller.
// It does not fail in CI: `make test-cgroup2` runs such tests where there is one.
func NeedCgroup2(t testing.TB) {
	t.Helper()
	if os.Getenv(envCgroup2) == "" {
		t.Skip("needs cgroup v2 with a memory controller: make test-cgroup2")
	}
}

// NeedCgroup1 is NeedCgroup2 for the controller of cgroup v1, whose directory it
// returns.
func NeedCgroup1(t testing.TB) string {
	t.Helper()
	dir := os.Getenv(envCgroup1)
	if dir == "" {
		t.Skip("needs a cgroup v1 memory controller: make test-cgroup1")
	}
	return dir
}

// Skip skips a test for something that the machine lacks; in CI, where
// everything is to be there, it fails the test instead.
func Skip(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv(envCI) != "" {
		t.Fatal("in CI this may not be skipped: " + reason)
	}
	t.Skip(reason)
}

// Long reports whether the full counts are asked for.
func Long() bool { return os.Getenv(envLong) != "" }

// Count returns short, or long in test-long.
func Count(short, long int) int {
	if Long() {
		return long
	}
	return short
}
