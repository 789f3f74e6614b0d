package tests

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"conmon/tests/harness"
)

const (
	// envRootless is set in the test binary that runs as an ordinary user.
	envRootless = "CONMON_TEST_ROOTLESS"
	rootlessID  = 54321
)

// rootlessTests are what an ordinary user's monitor is tried with.
const rootlessTests = "^(TestOrdinary.*|TestOutputAndStatus|TestExitStatus|TestSync|TestPassthrough|TestExecLegacy|TestExecAPI1|TestExecAttach|TestExecTimeout|TestRuntimeEnvironment)$/^(fake)?$"

// Without root a monitor has no oom_score_adj to lower, no /run/conmon, and
// often no journal. Everything else is as ever: a copy of this test binary runs
// as a user who owns nothing but his directory.
func TestRootless(t *testing.T) {
	harness.NeedOurs(t)
	harness.NeedRoot(t)
	dir, err := os.MkdirTemp("", "cmrootless")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	// Where that user can read everything, with what marks a repository.
	for _, d := range []string{"bin", "tmp", "run"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, from := range map[string]string{
		"Makefile": "/dev/null", "go.mod": "/dev/null", "rootless.test": "/proc/self/exe",
		"bin/conmon": harness.MonitorPath(), "bin/fakeruntime": harness.FakeRuntime().Path,
	} {
		copyProgram(t, from, filepath.Join(dir, name))
	}
	for _, d := range []string{".", "tmp", "run"} {
		if err := errors.Join(os.Chown(filepath.Join(dir, d), rootlessID, rootlessID), os.Chmod(filepath.Join(dir, d), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(dir+"/rootless.test", "-test.run="+rootlessTests, "-test.v")
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: rootlessID, Gid: rootlessID}}
	// "uml" tells the harness that there is nothing to be built.
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir + "/tmp", "XDG_RUNTIME_DIR=" + dir + "/run",
		"CONMON_TEST_INSIDE=uml", envRootless + "=1",
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestOrdinaryUser") {
		t.Errorf("%v\n%s", err, out)
	}
}

// ordinary skips a test that TestRootless runs.
func ordinary(t *testing.T) {
	t.Helper()
	if os.Getenv(envRootless) == "" {
		t.Skip("TestRootless runs it, as an ordinary user")
	}
}

// The registry is in the user's own runtime directory, and ps reads it there.
func TestOrdinaryUser(t *testing.T) {
	ordinary(t)
	env := []string{"CONMON_REGISTRY_DIR="} // the harness's own, taken back
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done"))
	m := b.Run(t, harness.Launch{Env: env})
	m.WaitLog(t, "up")
	if _, list, complaints := harness.Command(t, b.Base, env, "ps"); !strings.Contains(list, b.ID[:12]) {
		t.Errorf("ps prints %q %q", list, complaints)
	}
	links := os.Getenv("XDG_RUNTIME_DIR") + "/conmon"
	if target, err := os.Readlink(links + "/" + b.ID); err != nil || target != b.Dir {
		t.Errorf("the registry leads to %q, %v", target, err)
	}
	// It cannot be lowered, and must not be raised.
	for _, pid := range []int{m.Pid(t), harness.ReadNumber(t, b.PidFile)} {
		have, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
		want, _ := os.ReadFile("/proc/self/oom_score_adj")
		if err != nil || string(have) != string(want) {
			t.Errorf("oom_score_adj of %d is %q, ours %q; %v", pid, have, want, err)
		}
	}
	b.Kill(t, "TERM")
	if status := m.Finish(t); status != 3 {
		t.Errorf("exit status %d", status)
	}
	if _, err := os.Lstat(links + "/" + b.ID); err == nil {
		t.Error("the link in the registry is still there")
	}
}

// Nothing listens at the journal's socket: the other log does not suffer, the
// loss is counted, and the end comes in time.
func TestOrdinaryUserWithoutJournal(t *testing.T) {
	ordinary(t)
	if _, err := os.Stat("/run/systemd/journal/socket"); err == nil {
		t.Skip("there is a journal here")
	}
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("echo one; echo two"))
	m := b.Run(t, harness.Launch{Log: []string{"journald", "k8s-file:" + b.LogPath}})
	if status := m.Finish(t); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if got, want := m.Log(t), []string{"stdout F one", "stdout F two"}; !slices.Equal(got, want) {
		t.Errorf("log %q", got)
	}
	if !strings.Contains(m.Output.String(), "no journald listens") {
		t.Errorf("the monitor printed %q", m.Output)
	}
}
