package logging

import (
	"testing"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/config"
	"conmon/internal/handoff"
	"conmon/internal/poll"
)

// newLog opens cfg's drivers as the launching image does, and loads them as the
// staying image does.
func newLog(t testing.TB, cfg config.Log) *Log {
	t.Helper()
	return newLogWith(t, cfg, noSpawner{t}, func() {})
}

func newLogWith(t testing.TB, cfg config.Log, sp Spawner, wake func()) *Log {
	t.Helper()
	c := testConfig(cfg)
	targets, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	st := new(handoff.State)
	targets.Save(st)
	l, err := Load(c, st, newPoller(t), 7, wake, sp)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func testConfig(cfg config.Log) *config.Config {
	if cfg.MaxLine == 0 {
		cfg.MaxLine = 16384
	}
	if cfg.FlushInterval == 0 {
		cfg.FlushInterval = int64(100 * clock.Millisecond)
	}
	return &config.Config{CID: "0123456789abcdef", Name: "box", Log: cfg}
}

func newPoller(t testing.TB) *poll.Poller {
	t.Helper()
	p, err := poll.New()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// noSpawner is for tests that start no helper.
type noSpawner struct{ testing.TB }

func (s noSpawner) Spawn(path string, _, _ []string, _ []int, _ bool) (int, error) {
	s.Errorf("started %s", path)
	return 0, unix.EPERM
}
