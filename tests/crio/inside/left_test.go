package inside

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"conmon/tests/harness"
)

// nothingLeft checks that nothing of any container is there once CRI-O has
// removed its pods. It waits for what is on its way out.
func (e *engine) nothingLeft(t *testing.T) {
	t.Helper()
	var left []string
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(harness.Patience); time.Now().Before(end); <-tick.C {
		if left = e.leftOvers(); len(left) == 0 {
			return
		}
	}
	for _, l := range left {
		t.Errorf("left over: %s", l)
	}
}

func (e *engine) leftOvers() []string {
	var left []string
	for pid := range processes() {
		if !e.before[pid] && pid != os.Getpid() && pid != e.daemon.Process.Pid {
			cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			left = append(left, fmt.Sprintf("process %d: %q", pid, strings.ReplaceAll(string(cmdline), "\x00", " ")))
		}
	}
	places := []string{e.exits + "/*", e.bundles + "/*/userdata/attach", e.temp + "/*", "/sys/fs/cgroup/pods/*/*/cgroup.procs"}
	if !harness.Peer() {
		// The peer leaves its symlinks to CRI-O, which leaves them too.
		places = append(places, e.sockets+"/*", "/run/conmon/*")
	}
	for _, p := range places {
		found, _ := filepath.Glob(p)
		left = append(left, slices.DeleteFunc(found, func(path string) bool {
			name := filepath.Base(path)
			return name == "exec-pid-dir" || strings.HasPrefix(name, "TestInside") // CRI-O's own, and ours
		})...)
	}
	slices.Sort(left)
	return left
}
