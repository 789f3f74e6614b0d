// Package crio runs real CRI-O, driven by gRPC as the kubelet does and by
// crictl, with the monitor under test. All of that happens in one user-mode
// Linux, since CRI-O wants a machine of its own with cgroup v2: the scenarios
// are the test program of the module in inside, and what it reports becomes
// subtests of TestCRIO.
package crio

import (
	"bufio"
	"context"
	"debug/buildinfo"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"conmon/tests/harness"
)

// Room for CRI-O's storage and logs, all of which lie on tmpfs.
const memory = "3G"

// TestCRIO boots the machine and runs the scenarios. CONMON_CRIO_RUN, a regular
// expression, selects some of them by name.
func TestCRIO(t *testing.T) {
	harness.NeedRoot(t)
	for _, tool := range []string{"linux.uml", "runc", "crun", "busybox", "jq"} {
		harness.NeedTool(t, tool)
	}
	if raceBuilt(harness.MonitorPath()) {
		t.Skip("the race detector wants more addresses than a process has in user-mode Linux")
	}
	out := t.TempDir()
	if err := buildAll(out); err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithTimeout(t.Context(), 15*time.Minute)
	defer stop()
	if end, ok := t.Deadline(); ok { // after which nobody could stop the machine
		ctx, stop = context.WithDeadline(ctx, end.Add(-30*time.Second))
		defer stop()
	}
	cmd := exec.CommandContext(ctx, filepath.Join(harness.Repo(), "tests/lib/in-uml"),
		"/run/out/inside.test", "-test.v=test2json", "-test.run=^TestInside$/^("+os.Getenv("CONMON_CRIO_RUN")+")", "-test.timeout=14m")
	// in-uml stops its machine when it is told to, not when it is killed. It must
	// not outlive a test that runs out of time.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	runtime.LockOSThread() // whose death is meant by Pdeathsig
	defer runtime.UnlockOSThread()
	cmd.WaitDelay = 10 * time.Second
	cmd.Env = append(os.Environ(), "UML_MEM="+memory, "UML_OUT="+out, "CONMON_TEST_INSIDE=uml", "CONMON_CRIO_PROGRAMS=/run/out")
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	scenarios, rest := report(t, pipe)
	if err := cmd.Wait(); err != nil && !t.Failed() {
		t.Errorf("the machine: %v", err)
	}
	if scenarios == 0 {
		t.Error("no scenario was run")
	}
	if t.Failed() {
		t.Logf("outside of the scenarios:\n%s", strings.Join(rest, "\n"))
	}
}

// raceBuilt reports whether a program has the race detector.
func raceBuilt(path string) bool {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return false // the peer is not written in Go
	}
	return slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// A result of a scenario, or of a part of one. What go test prints for a program
// begins with a SYN character.
var resultLine = regexp.MustCompile(`^\x16? *--- (PASS|FAIL|SKIP): TestInside/(\S+) \((.*)\)$`)

// report makes a subtest of each scenario as it ends and returns their number,
// and the lines that belong to none.
func report(t *testing.T, r io.Reader) (count int, rest []string) {
	var lines []string
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		line := scanner.Text()
		found := resultLine.FindStringSubmatch(line)
		switch {
		case found == nil:
			if line = strings.TrimPrefix(line, "\x16"); !strings.HasPrefix(line, "=== ") {
				lines = append(lines, line)
			}
			continue
		case strings.Contains(found[2], "/"):
			lines = append(lines, strings.TrimPrefix(line, "\x16"))
			continue
		}
		outcome, name, took := found[1], found[2], found[3]
		log := strings.Join(lines, "\n")
		lines = nil
		count++
		t.Run(name, func(t *testing.T) {
			t.Logf("took %s\n%s", took, log)
			switch outcome {
			case "FAIL":
				t.Fail()
			case "SKIP":
				t.SkipNow()
			}
		})
	}
	if err := scanner.Err(); err != nil {
		t.Errorf("reading the scenarios' output: %v", err)
	}
	return count, lines
}

// buildAll puts all programs that the machine needs into out, because it does not
// see everything of ours. CRI-O and crictl stay in a cache for the next time.
func buildAll(out string) error {
	engines, err := engineDir()
	if err != nil {
		return err
	}
	inside := filepath.Join(harness.Repo(), "tests/crio/inside")
	run := func(args ...string) error {
		cmd := exec.Command("go", args...)
		cmd.Dir = inside
		// The monitor may have been built with the race detector; these are not.
		cmd.Env = append(slices.Clone(os.Environ()), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off")
		if output, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, output)
		}
		return nil
	}
	if _, err := os.Stat(filepath.Join(engines, "crio")); err != nil {
		if err := buildEngines(engines, run); err != nil {
			return err
		}
	}
	if err := run("test", "-c", "-o", filepath.Join(out, "inside.test"), "."); err != nil {
		return err
	}
	if err := run("build", "-o", filepath.Join(out, "pinns"), "./pinns"); err != nil {
		return err
	}
	for name, from := range map[string]string{
		"conmon": harness.MonitorPath(), "crio": filepath.Join(engines, "crio"), "crictl": filepath.Join(engines, "crictl"),
	} {
		program, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(out, name), program, 0o755)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
