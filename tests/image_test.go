package tests

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"conmon/tests/harness"
)

// What every start pays for, whatever it is for: the size of the program, and
// what its packages allocate and put into tables before main.
const (
	maxProgram = 6 << 20
	maxInit    = 36 << 10
)

func TestProgramSize(t *testing.T) {
	harness.NeedOurs(t)
	info, err := os.Stat(harness.MonitorPath())
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > maxProgram {
		t.Errorf("the program has %d bytes, the limit is %d", info.Size(), maxProgram)
	}
}

// A package that makes a big table when it is initialised makes it in each of
// the many monitors on a node, and no other test would say which one it was.
func TestInit(t *testing.T) {
	harness.NeedOurs(t)
	cmd := exec.Command(harness.MonitorPath(), "--version")
	cmd.Env = []string{"GODEBUG=inittrace=1"}
	var trace strings.Builder
	cmd.Stderr = &trace
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	sum, packages := 0, 0
	for line := range strings.Lines(trace.String()) {
		// init PACKAGE @MS ms, MS ms clock, BYTES bytes, COUNT allocs
		f := strings.Fields(line)
		if len(f) < 9 || f[0] != "init" {
			continue
		}
		bytes, err := strconv.Atoi(f[7])
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		sum += bytes
		packages++
	}
	if packages == 0 || sum > maxInit {
		t.Errorf("%d packages allocate %d bytes when they are initialised, the limit is %d:\n%s", packages, sum, maxInit, trace.String())
	}
}

// Where a host gives huge pages to whoever does not object, a monitor objects:
// one of them would be five times what it needs.
func TestNoHugePages(t *testing.T) {
	harness.NeedOurs(t)
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage"); err != nil {
		harness.Skip(t, "this kernel has no huge pages to give")
	}
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("echo up; exec sleep 100"))
	m := b.Run(t, harness.Launch{})
	m.WaitLog(t, "up")
	file, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", m.Pid(t)))
	if err != nil {
		t.Fatal(err)
	}
	_, heap, found := strings.Cut(string(file), "\nc000000000-")
	_, flags, _ := strings.Cut(heap, "VmFlags:")
	flags, _, _ = strings.Cut(flags, "\n")
	if !found || !slices.Contains(strings.Fields(flags), "nh") {
		t.Errorf("the heap's flags: %q, in\n%s", flags, file)
	}
	b.Kill(t, "KILL")
	m.Finish(t)
}

// What a monitor allocates over the months is given back: it executes itself.
func TestRenewal(t *testing.T) {
	harness.NeedOurs(t)
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("trap 'exit 8' TERM; echo up; while :; do sleep 0.1; done"))
	m := b.Run(t, harness.Launch{})
	m.WaitLog(t, "up")
	time.Sleep(1500 * time.Millisecond) // the first look at the memory is a second after the start
	pid := m.Pid(t)
	before := uss(t, pid)
	for range 3000 {
		status(t, m)
	}
	if grown := uss(t, pid) - before; grown < 1200 {
		t.Skipf("asking 3000 times took only %d kB", grown)
	}
	harness.Eventually(t, "the memory given back", func() bool { return uss(t, pid) < before+400 })
	after := status(t, m)
	if int(after.Monitor.PID) != pid || after.Monitor.Upgrades != 0 || after.State != "running" {
		t.Errorf("after the renewal: %+v, %s", after.Monitor, after.State)
	}
	b.Kill(t, "TERM")
	if status := m.Finish(t); status != 8 {
		t.Errorf("exit status %d", status)
	}
}
