package oom

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"conmon/internal/poll"
)

// These tests need a memory controller of cgroup v2 that may be written to. The
// harness says so with CONMON_TEST_CGROUP2=1, natively or in user-mode Linux.

func killed(r Report) bool { return r.New && r.Kills > 0 }

func TestChildKilled(t *testing.T) {
	dir := newCgroup(t, "", "child")
	put(t, dir, "memory.max", limit)
	c := startContainer(t, dir)
	c.oom() // before the baseline: not ours
	l := watch(t, c.pid())
	l.quiet()
	c.oom()
	l.until(killed)
	l.quiet()
	r, err := l.w.LastLook()
	if err != nil || r.Kills != 1 || r.OOMs < 1 || r.Local != r.OOMs || r.GroupKills != 0 || r.New {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestLastLookAlone(t *testing.T) {
	dir := newCgroup(t, "", "last")
	put(t, dir, "memory.max", limit)
	c := startContainer(t, dir)
	l := watch(t, c.pid())
	c.oom()
	c.stop()
	if r, err := l.w.LastLook(); err != nil || !killed(r) || r.Kills != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestNeighbourKilled(t *testing.T) {
	pod := newCgroup(t, "", "pod")
	put(t, pod, "cgroup.subtree_control", "+memory")
	put(t, pod, "memory.max", limit)
	ours, theirs := newCgroup(t, pod, "a"), newCgroup(t, pod, "b")
	c, neighbour := startContainer(t, ours), startContainer(t, theirs)
	l := watch(t, c.pid())
	neighbour.oom()
	l.quiet()
	if r, err := l.w.Look(); err != nil || r.Happened() {
		t.Fatalf("a neighbour's OOM is ours: %+v, %v", r, err)
	}
	// The same limit, and now the victim is ours.
	c.oom()
	if r := l.until(killed); r.OOMs != 0 || !strings.Contains(r.Cause(), "above") {
		t.Errorf("%+v, %s", r, r.Cause())
	}
}

func TestGroupKilled(t *testing.T) {
	dir := newCgroup(t, "", "group")
	put(t, dir, "memory.max", limit)
	put(t, dir, "memory.oom.group", "1")
	c := startContainer(t, dir)
	l := watch(t, c.pid())
	_, _ = io.WriteString(c.in, "\n")
	l.until(func(r Report) bool { return r.Kills >= 2 })
	_ = c.cmd.Wait()
	if r, err := l.w.LastLook(); err != nil || r.Kills < 2 || r.GroupKills != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestHundredInARow(t *testing.T) {
	dir := newCgroup(t, "", "hundred")
	put(t, dir, "memory.max", limit)
	c := startContainer(t, dir)
	l := watch(t, c.pid())
	for i := 1; i <= 100; i++ {
		c.oom()
		if i%10 == 0 {
			l.until(func(r Report) bool { return r.Kills == i })
			l.upgrade()
		}
	}
	l.quiet()
	if r := l.w.Report(); r.Kills != 100 || r.OOMs < 100 {
		t.Errorf("%+v", r)
	}
}

func TestRemovedFirst(t *testing.T) {
	dir := newCgroup(t, "", "removed")
	put(t, dir, "memory.max", limit)
	c := startContainer(t, dir)
	l := watch(t, c.pid())
	c.oom()
	l.until(killed)
	c.stop()
	removeCgroup(t, dir)
	r, err := l.w.Look()
	if err != nil || !r.Gone || r.Kills != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	l.quiet()
	if r, err = l.w.LastLook(); err != nil || r.Gone || r.Kills != 1 {
		t.Errorf("then %+v, %v", r, err)
	}
}

func TestMovedBelow(t *testing.T) {
	dir := newCgroup(t, "", "below")
	sub := newCgroup(t, dir, "init")
	c := startContainer(t, dir)
	l := watch(t, c.pid())
	c.move(sub)
	put(t, dir, "cgroup.subtree_control", "+memory")
	put(t, sub, "memory.max", limit)
	c.oom()
	if r := l.until(killed); r.Local != 0 || r.OOMs < 1 || !strings.Contains(r.Cause(), "inside") {
		t.Errorf("%+v, %s", r, r.Cause())
	}
}

func TestMovedAway(t *testing.T) {
	from, to := newCgroup(t, "", "from"), newCgroup(t, "", "to")
	put(t, to, "memory.max", limit)
	before := startContainer(t, to)
	before.oom()
	c := startContainer(t, from)
	l := watch(t, c.pid())
	c.move(to)
	l.until(func(Report) bool { return l.w.at.dir == to })
	if l.w.Report().Happened() {
		t.Errorf("what happened there before is ours: %+v", l.w.Report())
	}
	c.oom()
	l.until(killed)
}

func TestNothingToWatch(t *testing.T) {
	if os.Getenv("CONMON_TEST_CGROUP2") != "1" {
		t.Skip("needs cgroup v2 (CONMON_TEST_CGROUP2=1)")
	}
	c := startContainer(t, "/sys/fs/cgroup") // the root has no memory.events
	p, err := poll.New()
	if err != nil {
		t.Fatal(err)
	}
	if w, err := Watch(c.pid(), p, testOwner); w != nil || !errors.Is(err, unix.ENOENT) {
		t.Errorf("%v, %v", w, err)
	}
}
