package oom

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// These tests need a memory controller of cgroup v1 that may be written to; the
// harness says where with CONMON_TEST_CGROUP1=DIR. A kernel gives the controller
// to one version only, so they have a user-mode Linux of their own.

func newCgroupV1(t *testing.T, parent, name string) string {
	t.Helper()
	root := os.Getenv("CONMON_TEST_CGROUP1")
	if root == "" {
		t.Skip("no writable cgroup v1 memory controller (CONMON_TEST_CGROUP1 says where there is one)")
	}
	if parent == "" {
		parent, name = root, "conmon-test-"+strconv.Itoa(os.Getpid())+"-"+name
	}
	return makeCgroup(t, parent, name)
}

func TestV1ChildKilled(t *testing.T) {
	dir := newCgroupV1(t, "", "child")
	put(t, dir, "memory.limit_in_bytes", limit)
	c := startContainer(t, dir)
	c.oom() // before the baseline: not ours
	l := watch(t, c.pid())
	for i := 1; i <= 3; i++ {
		c.oom()
		l.until(func(r Report) bool { return r.Kills == i })
		l.upgrade()
	}
	l.quiet()
	if r, err := l.w.LastLook(); err != nil || r.Kills != 3 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestV1KilledBelow(t *testing.T) {
	dir := newCgroupV1(t, "", "below")
	sub := newCgroupV1(t, dir, "sub")
	put(t, dir, "memory.limit_in_bytes", limit)
	c := startContainer(t, dir)
	l := watch(t, c.pid())
	c.move(sub)
	c.oom()
	l.until(killed)
}

func TestV1NeighbourKilled(t *testing.T) {
	pod := newCgroupV1(t, "", "pod")
	put(t, pod, "memory.limit_in_bytes", limit)
	c := startContainer(t, newCgroupV1(t, pod, "a"))
	neighbour := startContainer(t, newCgroupV1(t, pod, "b"))
	l := watch(t, c.pid())
	neighbour.oom()
	if r := l.until(func(Report) bool { return true }); r.Happened() {
		t.Errorf("a neighbour's OOM is ours: %+v", r)
	}
	l.quiet()
	if r, err := l.w.LastLook(); err != nil || r.Happened() {
		t.Errorf("a neighbour's OOM is ours at last: %+v, %v", r, err)
	}
}

func TestV1WithoutKill(t *testing.T) {
	dir := newCgroupV1(t, "", "nokill")
	put(t, dir, "memory.limit_in_bytes", limit)
	put(t, dir, "memory.oom_control", "1") // the kernel is to stop, not to kill
	c := startContainer(t, dir)
	l := watch(t, c.pid())
	_, _ = c.in.Write([]byte("\n"))
	if r := l.until(func(r Report) bool { return r.New }); r.Kills != 0 || r.Local != 1 {
		t.Errorf("%+v", r)
	}
	put(t, dir, "memory.oom_control", "0") // now the child dies, and the shell goes on
	if s, err := c.out.ReadString('\n'); s != "137\n" {
		t.Errorf("the hog ended with %q, %v", s, err)
	}
}

func TestV1Removed(t *testing.T) {
	dir := newCgroupV1(t, "", "removed")
	c := startContainer(t, dir)
	l := watch(t, c.pid())
	c.stop()
	removeCgroup(t, dir)
	if r := l.until(func(r Report) bool { return r.Gone }); r.Happened() {
		t.Errorf("its removal counts as an OOM: %+v", r)
	}
	l.quiet()
}

func TestV1Place(t *testing.T) {
	dir := newCgroupV1(t, "", "place")
	c := startContainer(t, dir)
	l := watch(t, c.pid())
	if l.w.at != (place{1, filepath.Clean(dir)}) {
		t.Errorf("%+v, want v1 at %s", l.w.at, dir)
	}
}
