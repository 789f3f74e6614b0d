package logging

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/config"
	"conmon/internal/stdio"
)

// script writes a logger and returns its --log-path, less "exec:".
func script(t *testing.T, text, query string) string {
	t.Helper()
	path := t.TempDir() + "/logger"
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path + query
}

func newLoggerRig(t *testing.T, text, query string) *rig {
	return newRig(t, config.Log{Drivers: []config.Driver{{Kind: config.ExecLogger, Path: script(t, text, query)}}})
}

func TestLogger(t *testing.T) {
	out := t.TempDir()
	r := newLoggerRig(t, `cd "$1"; echo "$CONTAINER_ID $CONTAINER_NAME $2" >about; cat <&3 >err & cat >out; wait; ls -l /proc/self/fd | wc -l >fds`, "?arg="+out+"&arg=a%20b")
	r.until("started", func() bool { return !r.Stats().Drivers[0].Waiting })
	var sent strings.Builder
	for i := range 2000 {
		line := fmt.Sprintf("%d \x00\xff\n", i)
		sent.WriteString(line)
		put(r.Log, stdio.Stdout, line)
		if i%100 == 0 {
			put(r.Log, stdio.Stderr, "oops\n")
			r.turn()
		}
		if i == 1000 {
			r.upgrade()
		}
	}
	put(r.Log, stdio.Stdout, "end")
	r.EOF(stdio.Stdout, time.Now(), clock.Now())
	r.Finish(clock.Now() + 2*clock.Second)
	if got := read(t, out+"/out"); got != sent.String()+"end" {
		t.Errorf("sent %d bytes, got %d", sent.Len()+3, len(got))
	}
	if got := read(t, out+"/err"); got != strings.Repeat("oops\n", 20) {
		t.Errorf("stderr: %q", got)
	}
	if got := read(t, out+"/about"); got != "0123456789abcdef box a b\n" {
		t.Errorf("environment and arguments: %q", got)
	}
	r.turn()
	if s := r.Stats().Drivers[0]; s.Streams[0].Lost != (Count{}) || s.Restarts != 0 || s.Errors != 0 {
		t.Errorf("stats %+v", s)
	}
}

// A logger that dies again and again is started again and again, and what it had
// not read waits in the pipe.
func TestLoggerDies(t *testing.T) {
	out := t.TempDir() + "/out"
	r := newLoggerRig(t, `for i in 1 2 3; do IFS= read -r line || exit 0; echo "$line" >>$1; done; exit 1`, "?arg="+out)
	for i := range 9 {
		put(r.Log, stdio.Stdout, fmt.Sprintln("line", i))
	}
	start := time.Now()
	r.until("all read", func() bool { return exists(out) && strings.Count(read(t, out), "\n") == 9 })
	if d := time.Since(start); d < 290*time.Millisecond {
		t.Errorf("no pause between attempts: %v", d)
	}
	var want strings.Builder
	for i := range 9 {
		fmt.Fprintln(&want, "line", i)
	}
	if got := read(t, out); got != want.String() {
		t.Errorf("got %q", got)
	}
	if s := r.Stats().Drivers[0]; s.Restarts < 2 || !strings.Contains(s.LastError, "ended by itself") {
		t.Errorf("stats %+v", s)
	}
}

// A logger that reads nothing loses lines, whole ones, which are counted; the
// container never waits for it.
func TestLoggerHangs(t *testing.T) {
	out := t.TempDir() + "/out"
	if err := unix.Mkfifo(out+".go", 0o600); err != nil {
		t.Fatal(err)
	}
	r := newLoggerRig(t, `read go <$2; cat >$1`, "?arg="+out+"&arg="+out+".go")
	r.until("started", func() bool { return !r.Stats().Drivers[0].Waiting })
	sent := 0
	for range 20000 {
		sent++
		put(r.Log, stdio.Stdout, fmt.Sprintf("%06d %s\n", sent, strings.Repeat("x", 90)))
		if r.Blocked(stdio.Stdout) {
			t.Fatal("the container waits")
		}
	}
	before := r.Stats().Drivers[0].Streams[0]
	if before.Lost.Lines == 0 || before.Pending.Lines == 0 {
		t.Errorf("stats %+v", before)
	}
	if err := os.WriteFile(out+".go", nil, 0); err != nil {
		t.Fatal(err)
	}
	r.Finish(clock.Now() + 2*clock.Second)
	s := r.Stats().Drivers[0].Streams[0]
	got := read(t, out)
	for line := range strings.Lines(got) {
		if len(line) != 98 {
			t.Fatalf("torn line %q", line)
		}
	}
	if int(s.Written.Lines) != strings.Count(got, "\n") || int(s.Written.Bytes) != len(got) || int(s.Lost.Lines+s.Written.Lines) != sent || s.Pending != (Count{}) {
		t.Errorf("got %d bytes of %d lines, stats %+v, before %+v", len(got), sent, s, before)
	}
}

// At the end, a logger that cannot be started or does not stop costs no more than
// the time there is.
func TestFinishLogger(t *testing.T) {
	for _, c := range []struct{ name, text string }{
		{"never stops", "exec sleep 20"},
		{"dies at once", "exit 1"},
		{"not started yet", "exec sleep 20"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newLoggerRig(t, c.text, "")
			if c.name != "not started yet" {
				r.until("started", func() bool { return r.drivers[0].(*logger).startedAt != 0 })
			}
			put(r.Log, stdio.Stdout, strings.Repeat("line\n", 100000))
			start := clock.Now()
			r.Finish(start + 200*clock.Millisecond)
			if d := clock.Now() - start; d > 400*clock.Millisecond {
				t.Errorf("took %d ms", d/clock.Millisecond)
			}
			if s := r.Stats().Drivers[0].Streams[0]; s.Pending != (Count{}) || s.Lost.Lines == 0 {
				t.Errorf("stats %+v", s)
			}
			if pid := r.drivers[0].(*logger).pid; pid != 0 {
				if p, err := os.FindProcess(pid); err == nil {
					_ = p.Kill()
				}
			}
		})
	}
}

func TestLoggerIsChecked(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(dir+"/plain", nil, 0o644)
	for _, c := range []struct{ path, want string }{
		{dir + "/missing", "no such file"},
		{dir, "not a program"},
		{dir + "/plain", "permission denied"},
		{"/bin/sh?what=x", "is not arg=VALUE"},
	} {
		_, err := Open(testConfig(config.Log{Drivers: []config.Driver{{Kind: config.ExecLogger, Path: c.path}}}))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.path, err)
		}
	}
}
