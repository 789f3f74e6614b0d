package tests

import (
	"os"
	"testing"
	"time"

	"conmon/tests/harness"
)

// memoryLimit is small enough to be passed at once, and enough for a shell.
const memoryLimit = 16 << 20

// hog wants four times that, and the kernel is to choose it before the shell.
const hog = "(echo 1000 >/proc/self/oom_score_adj; exec dd if=/dev/zero of=/dev/null bs=64M count=1)"

func limited(script string) harness.Spec {
	spec := harness.Shell(script)
	spec.Memory = memoryLimit
	return spec
}

func present(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// markers reports in which of the two places the OOM file is.
func markers(b *harness.Bundle) (bundle, persist bool) {
	return present(b.Dir + "/oom"), present(b.Persist + "/oom")
}

func TestCgroup2OOMOfPid1(t *testing.T) {
	harness.NeedCgroup2(t)
	harness.EachRealRuntime(t, func(t *testing.T, r harness.Runtime) {
		b := harness.NewBundle(t, r, limited("exec dd if=/dev/zero of=/dev/null bs=64M count=1"))
		m := b.Run(t, harness.Launch{})
		if status := m.Finish(t); status != 137 {
			t.Errorf("exit status %d", status)
		}
		if bundle, persist := markers(b); !bundle || !persist {
			t.Errorf("OOM file in the bundle %v, in the persist dir %v", bundle, persist)
		}
	})
}

// The container survives its child, and the engine is told while it runs.
func TestCgroup2OOMOfChild(t *testing.T) {
	harness.NeedCgroup2(t)
	harness.EachRealRuntime(t, func(t *testing.T, r harness.Runtime) {
		b := harness.NewBundle(t, r, limited(hog+"; echo survived; read x; exit 3"))
		m := b.Run(t, harness.Launch{Args: []string{"-i"}})
		harness.WaitFile(t, b.Dir+"/oom")
		harness.WaitFile(t, b.Persist+"/oom")
		m.WaitLog(t, "survived")
		m.Attach(t).Send(t, []byte("\n"))
		if status := m.Finish(t); status != 3 {
			t.Errorf("exit status %d", status)
		}
	})
}

// With memory.oom.group the whole container goes at once.
func TestCgroup2OOMOfGroup(t *testing.T) {
	harness.NeedCgroup2(t)
	r := harness.RealRuntime(t, "crun")
	spec := limited(hog + "; echo survived; sleep 100")
	spec.Linux = map[string]any{"resources": map[string]any{
		"memory":  map[string]any{"limit": memoryLimit, "swap": memoryLimit},
		"unified": map[string]any{"memory.oom.group": "1"},
	}}
	b := harness.NewBundle(t, r, spec)
	m := b.Run(t, harness.Launch{})
	if status := m.Finish(t); status != 137 {
		t.Errorf("exit status %d", status)
	}
	if bundle, persist := markers(b); !bundle || !persist {
		t.Errorf("OOM file in the bundle %v, in the persist dir %v", bundle, persist)
	}
}

// A neighbour in the same parent has run out of memory: not our business.
func TestCgroup2OOMOfNeighbour(t *testing.T) {
	harness.NeedCgroup2(t)
	harness.EachRealRuntime(t, func(t *testing.T, r harness.Runtime) {
		const parent = "/sys/fs/cgroup/conmon-test-parent"
		if err := os.Mkdir(parent, 0o755); err != nil {
			t.Fatal(err)
		}
		// The runtimes have removed what is below it by then.
		t.Cleanup(func() {
			harness.Eventually(t, "the parent cgroup can be removed", func() bool { return os.Remove(parent) == nil })
		})
		place := func(name string, spec harness.Spec) harness.Spec {
			spec.Linux = map[string]any{"cgroupsPath": "/conmon-test-parent/" + name}
			return spec
		}
		ours := harness.NewBundle(t, r, place("ours", limited("echo up; read x; exit 0")))
		m := ours.Run(t, harness.Launch{Args: []string{"-i"}})
		m.WaitLog(t, "up")
		theirs := harness.NewBundle(t, r, place("theirs", limited("exec dd if=/dev/zero of=/dev/null bs=64M count=1")))
		theirs.Run(t, harness.Launch{}).Finish(t)
		m.Attach(t).Send(t, []byte("\n"))
		m.Finish(t)
		if bundle, persist := markers(ours); bundle || persist {
			t.Error("the neighbour's OOM has been taken for ours")
		}
	})
}

// The one who removes the cgroup may be faster than the last look.
func TestCgroup2Removed(t *testing.T) {
	harness.NeedCgroup2(t)
	harness.EachRealRuntime(t, func(t *testing.T, r harness.Runtime) {
		for range harness.Count(5, 50) {
			b := harness.NewBundle(t, r, limited("echo up; sleep 100"))
			m := b.Run(t, harness.Launch{})
			m.WaitLog(t, "up")
			begun := time.Now()
			b.Delete()
			if status := m.Finish(t); status != 137 {
				t.Errorf("exit status %d", status)
			}
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("the end took %v", took)
			}
			if bundle, _ := markers(b); bundle {
				t.Error("a removed cgroup has been taken for an OOM")
			}
		}
	})
}

func TestCgroup1OOM(t *testing.T) {
	harness.NeedCgroup1(t)
	harness.EachRealRuntime(t, func(t *testing.T, r harness.Runtime) {
		b := harness.NewBundle(t, r, limited(hog+"; echo survived; read x; exit 3"))
		m := b.Run(t, harness.Launch{Args: []string{"-i"}})
		harness.WaitFile(t, b.Dir+"/oom")
		m.WaitLog(t, "survived")
		m.Attach(t).Send(t, []byte("\n"))
		if status := m.Finish(t); status != 3 {
			t.Errorf("exit status %d", status)
		}
	})
}

// The eventfd of v1 is signalled when the cgroup goes, too.
func TestCgroup1Removed(t *testing.T) {
	harness.NeedCgroup1(t)
	harness.EachRealRuntime(t, func(t *testing.T, r harness.Runtime) {
		b := harness.NewBundle(t, r, limited("echo up; sleep 100"))
		m := b.Run(t, harness.Launch{})
		m.WaitLog(t, "up")
		b.Delete()
		m.Finish(t)
		if bundle, _ := markers(b); bundle {
			t.Error("a removed cgroup has been taken for an OOM")
		}
	})
}
