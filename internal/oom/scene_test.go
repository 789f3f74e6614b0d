package oom

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"conmon/internal/clock"
	"conmon/internal/handoff"
	"conmon/internal/poll"
)

const testOwner poll.Owner = 7

// limit is the memory of a test's container; its hog wants eight times that.
const limit = "4194304"

// hog answers each line with the status of a process that wants 32 MiB at once.
// It, not the shell, is what the kernel should choose.
const hog = `while read x; do (echo 1000 >/proc/self/oom_score_adj; exec dd if=/dev/zero of=/dev/null bs=32M count=1 2>/dev/null); echo $?; done`

// newCgroup makes a v2 cgroup below parent ("" for the root) and removes it.
func newCgroup(t *testing.T, parent, name string) string {
	t.Helper()
	if os.Getenv("CONMON_TEST_CGROUP2") != "1" {
		t.Skip("no writable cgroup v2 memory controller (CONMON_TEST_CGROUP2=1 says there is one)")
	}
	if parent == "" {
		parent, name = "/sys/fs/cgroup", "conmon-test-"+strconv.Itoa(os.Getpid())+"-"+name
	}
	return makeCgroup(t, parent, name)
}

func makeCgroup(t *testing.T, parent, name string) string {
	t.Helper()
	dir := filepath.Join(parent, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeCgroup(t, dir) })
	return dir
}

func put(t *testing.T, dir, file, value string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, file), []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// container is a shell in a cgroup that goes out of memory on demand.
type container struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startContainer(t *testing.T, dir string) *container {
	t.Helper()
	c := &container{t: t, cmd: exec.Command("/bin/sh", "-c", hog)}
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	c.move(dir)
	return c
}

func (c *container) pid() int { return c.cmd.Process.Pid }

func (c *container) move(dir string) {
	c.t.Helper()
	put(c.t, dir, "cgroup.procs", strconv.Itoa(c.pid()))
}

func (c *container) stop() {
	c.in.Close()
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// oom makes the container's child go out of memory; the container survives.
func (c *container) oom() {
	c.t.Helper()
	_, _ = io.WriteString(c.in, "\n")
	if s, err := c.out.ReadString('\n'); s != "137\n" {
		c.t.Fatalf("the hog ended with %q, %v", s, err)
	}
}

// loop is a monitor's loop around one watcher.
type loop struct {
	t *testing.T
	p *poll.Poller
	w *Watcher
}

func watch(t *testing.T, pid int) *loop {
	t.Helper()
	p, err := poll.New()
	if err != nil {
		t.Fatal(err)
	}
	w, err := Watch(pid, p, testOwner)
	if err != nil {
		t.Fatal(err)
	}
	l := &loop{t, p, w}
	t.Cleanup(func() { l.w.Close() })
	return l
}

// until turns the loop until a report satisfies want; it fails after ten seconds.
func (l *loop) until(want func(Report) bool) Report {
	l.t.Helper()
	end := clock.Now() + 10*clock.Second
	for clock.Now() < end {
		if r, ok := l.turn(end); ok && want(r) {
			return r
		}
	}
	l.t.Fatalf("not within 10 s; last report %+v", l.w.Report())
	return Report{}
}

// turn is one turn of the loop; ok if it brought a report.
func (l *loop) turn(deadline clock.Mono) (r Report, ok bool) {
	l.t.Helper()
	events, err := l.p.Wait(clock.Earlier(l.w.Deadline(), deadline))
	if err != nil {
		l.t.Fatal(err)
	}
	if len(events) > 0 { // there is one at a time
		if r, err = l.w.Ready(events[0]); err != nil {
			l.t.Fatal(err)
		}
		return r, true
	}
	if d := l.w.Deadline(); d != 0 && clock.Now() >= d {
		if r, err = l.w.Tick(clock.Now()); err != nil {
			l.t.Fatal(err)
		}
		return r, true
	}
	return r, false
}

// quiet fails if there is anything to do within 300 ms.
func (l *loop) quiet() {
	l.t.Helper()
	// What an event left behind (a counter's late notice) may still come.
	for end := clock.Now() + 300*clock.Millisecond; clock.Now() < end; {
		l.turn(end)
	}
	if r, ok := l.turn(clock.Now() + 300*clock.Millisecond); ok {
		l.t.Errorf("woken up for %+v", r)
	}
}

// upgrade hands the watcher over as the live upgrade does.
func (l *loop) upgrade() {
	l.t.Helper()
	var st handoff.State
	l.w.Save(&st)
	decoded, err := handoff.Decode(st.Encode(nil))
	if err != nil {
		l.t.Fatal(err)
	}
	p, err := poll.New()
	if err != nil {
		l.t.Fatal(err)
	}
	before := l.w.Report()
	if l.w, err = Load(decoded, p, testOwner); err != nil || l.w == nil {
		l.t.Fatalf("load: %v, %v", l.w, err)
	}
	l.p = p
	if after := l.w.Report(); after != before {
		l.t.Errorf("%+v became %+v", before, after)
	}
}

// removeCgroup removes a cgroup whose processes have been waited for; the kernel
// may still be at it, and tells nobody when it is done.
func removeCgroup(t *testing.T, dir string) {
	t.Helper()
	for range 500 {
		if err := os.Remove(dir); err == nil || errors.Is(err, os.ErrNotExist) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%s stays", dir)
}
