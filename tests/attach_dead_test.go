package tests

import (
	"os"
	"testing"
	"time"

	"conmon/internal/status/client"
	"conmon/tests/harness"
)

// The disk of the attach backlog dies under it: the container waits for the
// client that lags, as for a full backlog, or drops it; the end is recorded in
// time, and the exit command runs.
func TestAttachBacklogDeadDisk(t *testing.T) {
	harness.NeedOurs(t)
	for _, policy := range []string{"block", "disconnect"} {
		t.Run(policy, func(t *testing.T) {
			r := harness.FakeRuntime()
			b := harness.NewBundle(t, r, harness.Shell("while :; do read line </proc/uptime; head -c 30000 /dev/zero; sleep 0.01; done"))
			disk := newDeadDisk(t, b)
			b.Persist = disk.dir
			m := create(t, b, harness.Launch{Args: []string{
				"--attach-on-full", policy,
				"--exit-command", "/bin/touch", "--exit-command-arg", b.Base + "/cleaned-up",
			}})
			stalled := m.Attach(t)
			defer stalled.Close()
			b.Start(t)
			harness.Eventually(t, "the backlog's file is used", func() bool { return disk.size.Load() > 100_000 })
			disk.dead.Store(true)
			if policy == "block" {
				waitStatus(t, m, "the container waits", func(s *client.Report) bool { return s.Streams.Stdout.Paused })
			} else {
				waitStatus(t, m, "the client is dropped", func(s *client.Report) bool { return s.Attach.Disconnected == 1 })
			}
			start := time.Now()
			b.Kill(t, "KILL")
			status := m.ExitFile(t)
			if took := time.Since(start); status != 137 || took > 2*time.Second {
				t.Errorf("exit status %d after %v", status, took)
			}
			harness.Eventually(t, "the exit command has run", func() bool {
				_, err := os.Stat(b.Base + "/cleaned-up")
				return err == nil
			})
			disk.bury()
			m.Gone(t)
		})
	}
}
