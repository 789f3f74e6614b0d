package tests

import (
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"conmon/internal/status/client"
	"conmon/tests/harness"
)

// An external logger that is killed all the time: the container notices nothing,
// the second driver has everything, and the logger gets what was not given up.
func TestLoggerKilled(t *testing.T) {
	harness.NeedOurs(t)
	const lines, length = 12_000, 100
	b := harness.NewBundle(t, harness.FakeRuntime(), payload(t, harness.FakeRuntime(), "count", lines, length, 3000))
	out, pids := b.Base+"/out", b.Base+"/pids"
	logger := b.Base + "/logger"
	script := "#!/bin/sh\necho $$ >>" + pids + "\n[ \"$CONTAINER_ID\" = " + b.ID + " ] || exit 1\nexec cat >>" + out + "\n"
	if err := os.WriteFile(logger, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	m := b.Run(t, harness.Launch{Log: []string{"exec:" + logger, "k8s-file:" + b.LogPath}})
	kills := 0
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(300 * time.Millisecond) {
		text, _ := os.ReadFile(pids)
		words := strings.Fields(string(text))
		if len(words) == 0 {
			continue
		}
		pid, err := strconv.Atoi(words[len(words)-1])
		if err == nil && harness.Alive(pid) && unix.Kill(pid, unix.SIGKILL) == nil {
			kills++
		}
	}
	s := status(t, m).Logs[0]
	if int(s.Restarts) < kills-1 || s.LastError == "" || kills < 3 {
		t.Errorf("killed %d times; %+v", kills, s)
	}
	if status := m.Finish(t); status != 0 || time.Since(start) > 10*time.Second {
		t.Errorf("exit status %d after %v", status, time.Since(start))
	}
	if got := counted(t, length-1, m.LogPath); len(got) != lines {
		t.Errorf("the second driver has %d lines", len(got))
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	exit := exitJSON(t, m)
	// What the killed ones had read and not written, at most 128 KiB each, is
	// nobody's fault but theirs.
	missing := exit.BytesLogged - int64(len(text))
	if exit.BytesLogged+exit.BytesLost != lines*length || missing < 0 || missing > int64(kills)*(128<<10) {
		t.Errorf("the logger wrote %d bytes, killed %d times; %+v", len(text), kills, exit)
	}
	last := -1
	for line := range strings.Lines(string(text)) {
		n, err := strconv.Atoi(line[:min(9, len(line))])
		if err == nil && len(line) == length && n <= last {
			t.Fatalf("after line %d line %d", last, n)
		}
		if err == nil && len(line) == length {
			last = n
		}
	}
}

// What cannot be a log is refused at once and clearly; what can hang does not.
func TestLogTargets(t *testing.T) {
	harness.NeedOurs(t)
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("echo hello; exit 4"))
	fifo := b.Base + "/fifo"
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, want string }{
		{"k8s-file:" + fifo, "Failed to open log file"},
		{"json-file:" + fifo, "Failed to open log file"},
		{b.Base + "/missing/log", "Failed to open log file"},
		{b.Base, "Failed to open log file"},
		{b.Dir + "/config.json/log", "Failed to open log file"},
		{"exec:" + b.Base + "/missing", "missing"},
		{"exec:" + b.Dir + "/config.json", "config.json"},
	} {
		start := time.Now()
		m := harness.Launch{Bundle: b, Log: []string{c.path}}.Run(t)
		if status := m.Wait(t); status != 1 || !strings.Contains(m.Output.String(), c.want) || time.Since(start) > 3*time.Second {
			t.Errorf("%s: status %d after %v, %q", c.path, status, time.Since(start), m.Output)
		}
	}
	for _, path := range []string{"/dev/null", "/dev/full"} {
		b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("echo hello; exit 4"))
		m := b.Run(t, harness.Launch{Log: []string{path, b.LogPath}})
		if status := m.Finish(t); status != 4 {
			t.Errorf("%s: exit status %d", path, status)
		}
		if got := m.Log(t); !slices.Equal(got, []string{"stdout F hello"}) {
			t.Errorf("%s: the second driver has %q", path, got)
		}
		if exit := exitJSON(t, m); (exit.LinesLost == 1) != (path == "/dev/full") {
			t.Errorf("%s: %+v", path, exit)
		}
	}
}

// A log path whose file system has died: the container goes on if it may, attach
// clients notice nothing, and the end is recorded in time.
func TestLogDeadFileSystem(t *testing.T) {
	harness.NeedOurs(t)
	for _, policy := range []string{"drop", "block"} {
		t.Run(policy, func(t *testing.T) {
			r := harness.FakeRuntime()
			b := harness.NewBundle(t, r, payload(t, r, "count", 1_000_000, 1000, 2000))
			disk := newDeadDisk(t, b)
			m := create(t, b, harness.Launch{Log: []string{"k8s-file:" + disk.dir + "/log"}, Args: []string{
				"--log-on-full", policy, "--exit-command", "/bin/touch", "--exit-command-arg", b.Base + "/cleaned-up",
			}})
			c := m.Attach(t)
			b.Start(t)
			harness.Eventually(t, "the log grows", func() bool { return disk.size.Load() > 500_000 })
			disk.dead.Store(true)

			waitStatus(t, m, "the log is stuck", func(s *client.Report) bool { return s.Logs[0].Waiting })
			received := 0
			for policy == "drop" && received < 6_000_000 { // three seconds' worth: more than is kept for the dead disk
				p, err := c.Receive()
				if err != nil {
					t.Fatalf("attach client: %v", err)
				}
				received += len(p.Data)
			}
			if _, err := client.Upgrade(m.Dir, ""); err == nil || !strings.Contains(err.Error(), "log file hangs") {
				t.Errorf("upgrade: %v", err)
			}
			if s := status(t, m); (s.Logs[0].Stdout.Lost.Bytes > 0) != (policy == "drop") {
				t.Errorf("status %+v", s.Logs[0])
			}
			start := time.Now()
			b.Kill(t, "KILL")
			status := m.ExitFile(t)
			if took := time.Since(start); status != 137 || took > 2*time.Second {
				t.Errorf("exit status %d after %v", status, took)
			}
			exit := exitJSON(t, m)
			if exit.BytesLost == 0 {
				t.Errorf("%+v", exit)
			}
			for {
				if _, err := c.Receive(); err != nil {
					if err != io.EOF {
						t.Errorf("attach client: %v", err)
					}
					break
				}
			}
			// It inherits nothing that hangs.
			harness.Eventually(t, "the exit command has run", func() bool {
				_, err := os.Stat(b.Base + "/cleaned-up")
				return err == nil
			})
			disk.bury()
			m.Gone(t)
		})
	}
}
