package tests

import (
	"encoding/json"
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

// A fault in one part of the monitor ends neither the monitor nor the container,
// and its end is recorded even if faults are all there is. The faults are built
// in: one in every answer to a question, one in the last look for OOMs.
func TestPanics(t *testing.T) {
	harness.NeedOurs(t)
	faulty := altered(t,
		alteration{"internal/monitor/status.go", "	switch request.Kind {\n", "	panic(\"built-in fault\")\n	switch request.Kind {\n"},
		alteration{"internal/monitor/finish.go", "m.noteOOM(m.oom.LastLook())", "panic(\"built-in fault\")"},
	)
	t.Setenv("CONMON_UNDER_TEST", faulty)
	for _, c := range []struct {
		name  string
		blind bool
	}{{"some", false}, {"too many", true}} {
		t.Run(c.name, func(t *testing.T) {
			b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("echo first; read x; echo last; exit 7"))
			m := create(t, b, harness.Launch{Args: []string{"-i"}})
			typist := m.Attach(t)
			b.Start(t)
			m.WaitLog(t, "first")
			if !c.blind {
				for range 5 {
					_ = askInVain(t, m)
				}
				if p, err := typist.Receive(); err != nil || string(p.Data) != "first\n" {
					t.Errorf("the client got %q, %v", p.Data, err)
				}
				typist.Send(t, []byte("x\n"))
			} else { // it gives up everything but waiting for the container's end
				harness.Eventually(t, "the monitor hears nobody", func() bool { return askInVain(t, m) == unix.EAGAIN })
				b.Kill(t, "KILL")
			}
			want, lines := 7, []string{"stdout F first", "stdout F last"}
			if c.blind {
				want, lines = 137, lines[:1]
			}
			if status := m.Finish(t); status != want {
				t.Errorf("exit status %d, want %d", status, want)
			}
			if got := m.Log(t); !slices.Equal(got, lines) {
				t.Errorf("log %q", got)
			}
			if exit := exitJSON(t, m); exit.Status != want {
				t.Errorf("%+v", exit)
			}
		})
	}
}

// askInVain asks a monitor for its status and does not wait for the answer. The
// error is EAGAIN if nobody has accepted those who asked before.
func askInVain(t *testing.T, m *harness.Monitor) error {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: m.Dir + "/status"}); err != nil {
		return err
	}
	return unix.Sendto(fd, []byte("status"), unix.MSG_NOSIGNAL, nil)
}

// Everything that exit.json tells, of ends of all kinds.
func TestExitRecord(t *testing.T) {
	harness.NeedOurs(t)
	for _, c := range []struct {
		name, script, signal string
		args                 []string
		want                 exitRecord
		reason               string
	}{
		{"exits", "echo out; printf err >&2; exit 3", "", nil, exitRecord{Status: 3, BytesLogged: 7, LinesLogged: 1}, "exited"},
		{"killed", "echo up; exec sleep 1000", "KILL", nil, exitRecord{Status: 137, Signal: 9, BytesLogged: 3, LinesLogged: 1}, "signal 9"},
		{"time limit", "echo up; exec sleep 1000", "", []string{"-T", "1"}, exitRecord{Status: -1, Signal: 9, TimedOut: true, BytesLogged: 3, LinesLogged: 1}, "timed out"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := time.Now()
			b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell(c.script))
			m := b.Run(t, harness.Launch{Args: c.args})
			if c.signal != "" {
				m.WaitLog(t, "up")
				b.Kill(t, c.signal)
			}
			m.Finish(t)
			got := exitJSON(t, m)
			var more struct {
				Schema            int
				ID                string
				Core, OOM         *bool
				Started, Finished time.Time
			}
			text, err := os.ReadFile(b.Persist + "/exit.json")
			if err == nil {
				err = json.Unmarshal(text, &more)
			}
			if err != nil || more.Schema != 1 || more.ID != b.ID || more.Core == nil || *more.Core || more.OOM == nil || *more.OOM ||
				before.After(more.Started) || more.Started.After(more.Finished) || more.Finished.After(time.Now()) {
				t.Errorf("%v in %s", err, text)
			}
			reason := got.Reason
			if got.Reason = ""; got != c.want || !strings.Contains(reason, c.reason) {
				t.Errorf("%s, want %+v and %q", text, c.want, c.reason)
			}
		})
	}
}

// A destination that has gone does not keep the others from being written.
func TestMissingDestination(t *testing.T) {
	harness.NeedOurs(t)
	for _, missing := range []string{"exit dir", "persist dir"} {
		b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("echo up; exec sleep 1000"))
		m := b.Run(t, harness.Launch{})
		m.WaitLog(t, "up")
		gone, left := b.ExitDir, b.Persist+"/exit"
		if missing == "persist dir" {
			gone, left = b.Persist, b.ExitDir+"/"+b.ID
		}
		if err := os.RemoveAll(gone); err != nil {
			t.Fatal(err)
		}
		b.Kill(t, "TERM")
		m.Gone(t)
		if status := harness.ReadNumber(t, left); status != 143 {
			t.Errorf("without %s: exit status %d", missing, status)
		}
	}
}

// An unfinished line, such as a prompt, is at the client at once and in the log
// after the flush interval, or else at the end.
func TestUnfinishedLine(t *testing.T) {
	harness.NeedOurs(t)
	for _, interval := range []string{"100ms", "1h"} {
		b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("printf 'prompt> '; read line; printf end"))
		m := create(t, b, harness.Launch{Args: []string{"-i", "--log-flush-interval", interval}})
		c := m.Attach(t)
		b.Start(t)
		if p, err := c.Receive(); err != nil || string(p.Data) != "prompt> " {
			t.Errorf("the client got %q, %v", p.Data, err)
		}
		want := []string{"stdout P prompt> end"}
		if interval == "100ms" {
			m.WaitLog(t, "stdout P prompt> \n")
			want = []string{"stdout P prompt> ", "stdout P end"}
		} else {
			waitStatus(t, m, "the line waits", func(s *client.Report) bool { return s.Logs[0].Stdout.Pending.Bytes == 8 })
		}
		c.Send(t, []byte("\n"))
		m.Finish(t)
		if got := m.Log(t); !slices.Equal(got, want) {
			t.Errorf("%s: log %q", interval, got)
		}
	}
}

// A session whose time is over is gone, with descendants that made themselves
// independent, and the container lives on.
func TestExecTimeoutDescendants(t *testing.T) {
	harness.NeedOurs(t)
	harness.EachRuntime(t, func(t *testing.T, r harness.Runtime) {
		b := running(t, r)
		spec := harness.Shell("setsid sh -c 'trap \"\" TERM HUP; (sleep 4711 &) ; sleep 4711' & sleep 4711 & sh -c 'sleep 4711; :' & echo begun; wait")
		m := harness.Launch{Bundle: b, Engine: harness.CRIO, Exec: &spec, Args: []string{"--sync", "-T", "1"}}.Run(t)
		if msg := m.Message(t); msg.Value != -1 || msg.Text != "command timed out" {
			t.Errorf("message %q", msg.Raw)
		}
		m.Wait(t)
		if got := m.Log(t); !slices.Equal(got, []string{"stdout F begun"}) {
			t.Errorf("log %q", got)
		}
		harness.Eventually(t, "all processes of the session are gone", func() bool {
			for _, pid := range b.Processes() {
				if text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline"); strings.Contains(string(text), "4711") {
					return false
				}
			}
			return true
		})
	})
}
