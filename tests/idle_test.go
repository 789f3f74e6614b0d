package tests

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"conmon/tests/harness"
)

// What a monitor may cost while its container does nothing: it runs once for
// every container on the machine.
const (
	maxUSS     = 700 // kB of memory that is its own
	maxThreads = 7
)

// kill ends a process that a test left running on purpose.
func kill(pid int) { _ = unix.Kill(pid, unix.SIGKILL) }

// idle returns n monitors of containers that have said one word and sleep.
func idle(t *testing.T, n int, terminal bool, args ...string) []int {
	t.Helper()
	var pids []int
	for range n {
		spec := harness.Shell("echo up; exec sleep 1000")
		spec.Terminal = terminal
		b := harness.NewBundle(t, harness.FakeRuntime(), spec)
		m := b.Run(t, harness.Launch{Args: args})
		m.WaitLog(t, "up")
		pids = append(pids, m.Pid(t))
	}
	return pids
}

func TestMemory(t *testing.T) {
	harness.NeedOurs(t)
	// Two: the pages of a lone monitor's program would count as its own.
	for _, pid := range idle(t, 2, false, "-i") {
		if kb := uss(t, pid); kb > maxUSS {
			t.Errorf("a monitor has %d kB of its own, the limit is %d", kb, maxUSS)
		}
		threads, err := strconv.Atoi(harness.Status(pid, "Threads"))
		if err != nil || threads > maxThreads {
			t.Errorf("%d threads (%v), the limit is %d", threads, err, maxThreads)
		}
	}
}

// uss is the memory in kB that would come back if the process went.
func uss(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if fields[0] == "Private_Clean:" || fields[0] == "Private_Dirty:" {
			kb, err := strconv.Atoi(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			sum += kb
		}
	}
	return sum
}

// The Go runtime wakes a thread about once a minute. So it is the median of
// several monitors that must be 0, and none may be woken often.
func TestNoWakeUps(t *testing.T) {
	harness.NeedOurs(t)
	for _, c := range []struct {
		name     string
		terminal bool
	}{{"pipes", false}, {"terminal", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // they only wait
			pids := idle(t, 5, c.terminal, "-i")
			time.Sleep(3 * time.Second) // timers of the start run out, a second after its last event
			before := make([]int, len(pids))
			for i, pid := range pids {
				before[i] = switches(t, pid)
			}
			time.Sleep(10 * time.Second)
			var woken []int
			for i, pid := range pids {
				woken = append(woken, switches(t, pid)-before[i])
			}
			slices.Sort(woken)
			if woken[len(woken)/2] != 0 || woken[len(woken)-1] > 4 {
				t.Errorf("wake-ups of %d idle monitors in 10 s: %v", len(pids), woken)
			}
		})
	}
}

// switches counts how often the threads of a process have gone to sleep.
func switches(t *testing.T, pid int) int {
	t.Helper()
	dir := "/proc/" + strconv.Itoa(pid) + "/task"
	tasks, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, task := range tasks {
		text, err := os.ReadFile(dir + "/" + task.Name() + "/status")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if count, found := strings.CutPrefix(line, "voluntary_ctxt_switches:"); found {
				n, err := strconv.Atoi(strings.TrimSpace(count))
				if err != nil {
					t.Fatal(err)
				}
				sum += n
			}
		}
	}
	return sum
}
