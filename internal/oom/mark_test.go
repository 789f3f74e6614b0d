package oom

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/handoff"
	"conmon/internal/poll"
)

func TestMark(t *testing.T) {
	bundle, persist := t.TempDir(), t.TempDir()
	missing := filepath.Join(bundle, "missing")
	for _, c := range []struct {
		name, bundle, persist string
		errs                  int
	}{
		{"exec session", "", "", 0},
		{"both", bundle, persist, 0},
		{"again", bundle, persist, 0},
		{"bundle missing", missing, persist, 1},
		{"persist dir missing", bundle, missing, 1},
	} {
		_ = os.Remove(filepath.Join(bundle, "oom"))
		_ = os.Remove(filepath.Join(persist, "oom"))
		job := Marking{Bundle: c.bundle, PersistDir: c.persist}
		if job.Run(); len(job.Errs) != c.errs {
			t.Errorf("%s: %v", c.name, job.Errs)
		}
		for _, dir := range []string{c.bundle, c.persist} {
			fi, err := os.Stat(filepath.Join(dir, "oom"))
			if want := dir != "" && dir != missing; (err == nil) != want || want && fi.Size() != 0 {
				t.Errorf("%s: marker in %q: %v, %v", c.name, dir, fi, err)
			}
		}
	}
}

func TestMarkNeitherFollowsNorWaits(t *testing.T) {
	dir, other := t.TempDir(), filepath.Join(t.TempDir(), "target")
	if err := os.Symlink(other, filepath.Join(dir, "oom")); err != nil {
		t.Fatal(err)
	}
	if errs := Mark(dir, ""); len(errs) != 1 {
		t.Errorf("a symlink: %v", errs)
	}
	if _, err := os.Lstat(other); err == nil {
		t.Error("the marker was written through a symlink")
	}
	fifo := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(fifo, "oom"), 0o600); err != nil {
		t.Fatal(err)
	}
	Mark(fifo, "") // must return
}

func TestNilWatcher(t *testing.T) {
	var w *Watcher
	var st handoff.State
	w.Save(&st)
	r1, err1 := w.Ready(poll.Event{})
	r2, err2 := w.Look()
	r3, err3 := w.Tick(clock.Now())
	r4, err4 := w.LastLook()
	if w.Deadline() != 0 || r1 != r2 || r3 != r4 || r1 != w.Report() || err1 != nil || err2 != nil || err3 != nil || err4 != nil {
		t.Error("a nil watcher is to watch nothing")
	}
	w.Close()
	if w, err := Load(&st, nil, 0); w != nil || err != nil {
		t.Errorf("nothing saved, but %v, %v", w, err)
	}
}

func TestNoSuchProcess(t *testing.T) {
	if w, err := Watch(1<<22+1, nil, 0); w != nil || err == nil {
		t.Errorf("%v, %v", w, err)
	}
}
