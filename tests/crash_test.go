package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"conmon/tests/harness"
)

// moment finds out how long after a container's death its records are being
// made: it moves towards the moment before which none and after which all are
// there, so that most kills fall among the writing.
type moment struct {
	mu    sync.Mutex
	after time.Duration
}

func (m *moment) get() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.after
}

func (m *moment) learn(early bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if early {
		m.after += m.after/4 + 50*time.Microsecond
	} else {
		m.after -= m.after / 5
	}
}

// The monitor is killed around the moment at which it records its container's
// end: each record is whole or absent, and who sees one sees those before it.
func TestMonitorKilledAtTheEnd(t *testing.T) {
	harness.NeedOurs(t)
	when := &moment{after: 3 * time.Millisecond}
	var counts [4]int // by the number of records
	var mu sync.Mutex
	t.Run("", func(t *testing.T) {
		for i := range 200 {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				n := killAtTheEnd(t, when, i)
				when.learn(n < 2)
				mu.Lock()
				defer mu.Unlock()
				counts[n]++
			})
		}
	})
	t.Logf("killed with 0 to 3 records there: %d times; at last %v after the end", counts, when.after)
	if counts[0] == 0 || counts[3] == 0 {
		t.Errorf("the moment was never before, or never after the records: %d", counts)
	}
}

// killAtTheEnd kills a container and, after a moment, its monitor, looks at the
// records and returns how many there are.
func killAtTheEnd(t *testing.T, when *moment, i int) (n int) {
	t.Helper()
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Spec{Args: []string{"sleep", "1000"}})
	b.Untidy() // what a killed monitor leaves is for its successor to remove
	m := harness.Launch{Bundle: b, Env: []string{"FAKE_AUTOSTART=1"}}.Run(t)
	container := m.Created(t)
	monitor := m.Launched(t)
	// Until then it is the fake runtime's, a Go program, which SIGUSR1 does not end.
	harness.Eventually(t, "the container is what it is to run", func() bool { return harness.Status(container, "Name") == "sleep" })
	signal := []unix.Signal{unix.SIGKILL, unix.SIGTERM, unix.SIGUSR1, unix.SIGHUP}[i%4]
	if err := unix.Kill(container, signal); err != nil {
		t.Fatal(err)
	}
	time.Sleep(when.get())
	_ = unix.Kill(monitor, unix.SIGKILL) // it may have ended
	harness.WaitProcess(t, monitor)
	// In the order in which they are made.
	want := strconv.Itoa(128 + int(signal))
	records := []string{b.Persist + "/exit.json", b.Persist + "/exit", b.ExitDir + "/" + b.ID}
	for k, path := range records {
		text, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			continue
		}
		var exit exitRecord
		switch {
		case err != nil:
			t.Error(err)
		case k == 0 && (json.Unmarshal(text, &exit) != nil || exit.Signal != int(signal) || exit.Status != 128+int(signal)):
			t.Errorf("%s is %q", path, text)
		case k > 0 && string(text) != want:
			t.Errorf("%s holds %q, want %q", path, text, want)
		}
		if n != k {
			t.Errorf("there is %s, but not what comes before it", path)
		}
		n++
	}
	return n
}

// inNamespace is set in the pid namespace that TestExitsAndPids makes.
const inNamespace = "CONMON_TEST_PIDS"

// Thousands of containers end, each with a status of its own, while pids are
// used again and again: the kernel is told to number from the beginning all the
// time. No status is lost, doubled or somebody else's. It takes place in a pid
// namespace, whose pids are nobody else's, and in memory, as it is not the disk
// that is tried.
func TestExitsAndPids(t *testing.T) {
	harness.NeedOurs(t)
	harness.NeedRoot(t)
	if os.Getenv(inNamespace) != "" {
		exitsAndPids(t, harness.Count(2000, 10_000))
		return
	}
	dir, err := os.MkdirTemp("", "pids")
	if err == nil {
		err = unix.Mount("tmpfs", dir, "tmpfs", 0, "")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(dir)
	defer unix.Unmount(dir, unix.MNT_DETACH)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The shell is the namespace's first process, which reaps the monitors.
	cmd := exec.Command(harness.NeedTool(t, "unshare"), "--fork", "--kill-child", "--pid", "--mount-proc",
		"/bin/sh", "-c", `"$@"; exit $?`, "sh", self, "-test.run=^TestExitsAndPids$", "-test.parallel=4")
	cmd.Env = append(os.Environ(), inNamespace+"=1", "TMPDIR="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out[max(0, len(out)-10_000):])
	}
}

func exitsAndPids(t *testing.T, count int) {
	t.Helper()
	stop := make(chan struct{})
	churned := make(chan int)
	go func() { churned <- churnPids(stop) }()
	var mu sync.Mutex
	seen := map[int]int{} // how many containers had a pid
	t.Run("", func(t *testing.T) {
		for i := range count {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell(fmt.Sprintf("exit %d", i%256)))
				// One whose parent is not the monitor has to live until the monitor has
				// looked at it: before that a pid is but a number.
				foreign := i%8 == 7
				env := []string{"FAKE_AUTOSTART=1"}
				if foreign {
					env = []string{"FAKE_MODE=keeper"}
				}
				m := harness.Launch{Bundle: b, Env: env}.Run(t)
				pid := m.Created(t)
				if foreign {
					b.Start(t)
				}
				// Where the kernel tells nobody but the parent, it is unknown.
				// Nor can the monitor be waited for: its pid may be another's by now.
				got := m.ExitFile(t)
				if got != i%256 && (!foreign || got != -1) || got != harness.ReadNumber(t, b.Persist+"/exit") {
					t.Errorf("container %d: exit status %d, want %d", i, got, i%256)
				}
				mu.Lock()
				defer mu.Unlock()
				seen[pid]++
			})
		}
	})
	close(stop)
	if n := <-churned; n < 100 || len(seen) > count/2 {
		t.Errorf("pids were reset %d times; %d containers had %d of them", n, count, len(seen))
	}
}

// churnPids has the namespace's pids begin anew every few milliseconds.
func churnPids(stop <-chan struct{}) (times int) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return times
		case <-tick.C:
			if os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte("100"), 0) == nil {
				times++
			}
		}
	}
}
