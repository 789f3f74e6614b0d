package tests

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"conmon/internal/status/client"
	"conmon/tests/harness"
)

// raceBuild builds a program as "make build-race" does, but elsewhere.
func raceBuild(t *testing.T, source string) (path string) {
	t.Helper()
	harness.NeedTool(t, "go")
	harness.NeedTool(t, "gcc")
	path = t.TempDir() + "/conmon"
	cmd := exec.Command("sh", "-c", `exec go build -race -overlay "$(tools/overlay .build)" -o "$0" "$1"`, path, source)
	cmd.Dir, cmd.Env = harness.Repo(), append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building with the race detector: %v\n%s", err, out)
	}
	return path
}

// The race detector sees the heap of a program that looks like a monitor: with the
// heap of tools/overlay it would be blind.
func TestRaceDetectorSees(t *testing.T) {
	cmd := exec.Command(raceBuild(t, "./tests/testdata/race"), "--cid", "c")
	if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), "DATA RACE") {
		t.Errorf("a race was not seen: %q", out)
	}
}

// A hundred clients that come, type, read, stop reading and go at random, while
// others ask for the status and the log is reopened: who stays gets every byte,
// nobody who left is remembered, and the race detector has nothing to say.
func TestAttachCrowd(t *testing.T) {
	harness.NeedOurs(t)
	const seed, steps, step, crowd = 34, 100, 300_000, 100
	t.Setenv("CONMON_UNDER_TEST", raceBuild(t, "./cmd/conmon"))
	r := volumeRuntime()
	b := harness.NewBundle(t, r, payload(t, r, "steps", seed, step))
	races := b.Base + "/race"
	m := create(t, b, harness.Launch{
		Args: []string{"-i", "--leave-stdin-open", "--log-rotate", "--log-size-max=10000000", "--log-max-files=100"},
		Env:  []string{"GORACE=log_path=" + races},
	})
	keeper := newTap(t, m)
	b.Start(t)
	var group sync.WaitGroup
	for i := range crowd {
		group.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(i)))
			for range 3 {
				visit(t, m, random)
			}
		})
	}
	gone := make(chan struct{})
	go func() { group.Wait(); close(gone) }()
	// As long as somebody may wait for output there is some.
	for typed, over := 0, false; !over || typed < steps; typed++ {
		keeper.client.Send(t, []byte{1})
		if typed%10 == 0 {
			ctl(t, m, "2 0 0\n")
		}
		harness.Eventually(t, "output flows", func() bool { return keeper.got.Load() > int64(typed)*step })
		select {
		case <-gone:
			over = true
		default:
		}
	}
	waitStatus(t, m, "the crowd is gone", func(s *client.Report) bool { return s.Attach.Clients == 1 })
	input := int64(status(t, m).Attach.Input)
	harness.Eventually(t, "the container has answered everybody", func() bool { return keeper.got.Load() == input*step })
	b.Kill(t, "KILL")
	keeper.wait(t)
	if status := m.Finish(t); status != 137 {
		t.Errorf("exit status %d", status)
	}
	want := sampleSum(seed, input*step)
	compare(t, "the client that stayed", keeper.stdout, want)
	logged, _ := logSum(t, backups(m.LogPath)...)
	compare(t, "log", logged, want)
	found, _ := filepath.Glob(races + ".*")
	for _, path := range found {
		text, _ := os.ReadFile(path)
		if strings.Contains(string(text), "DATA RACE") {
			t.Errorf("%s", text)
		}
	}
}

// visit is one client's short life.
func visit(t *testing.T, m *harness.Monitor, random *rand.Rand) {
	t.Helper()
	c := m.Attach(t)
	defer c.Close()
	for range random.IntN(6) {
		switch random.IntN(4) {
		case 0, 1:
			for range random.IntN(300) {
				if _, err := c.Receive(); err != nil {
					t.Errorf("a visitor receives: %v", err)
					return
				}
			}
		case 2:
			if random.IntN(20) == 0 { // each byte makes a megabyte of output
				c.Send(t, []byte{1})
			}
		case 3:
			_, _ = client.Status(m.Dir) // or too many are asking at the same time
		}
	}
}
