package harness

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// marker is the variable by which the processes of a bundle are known: it is in
// the environment of the monitor, so of the runtime, and in the container's.
func (b *Bundle) marker() string { return envMarker + "=" + b.Base }

// Processes returns the processes of the bundle that have not ended: monitors,
// runtimes, and what runs in the container.
func (b *Bundle) Processes() []int {
	// The variable may be the last one or not; a zero byte ends it either way.
	want := append([]byte(b.marker()), 0)
	var found []int
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err == nil && bytes.Contains(env, want) && Alive(pid) {
			found = append(found, pid)
		}
	}
	return found
}

// NothingLeft checks that no process of the bundle lives, and that its sockets,
// symlinks and temporary files are gone. It allows a moment for what is on its
// way out.
func (b *Bundle) NothingLeft(t testing.TB) {
	t.Helper()
	if !eventually(5*time.Second, func() bool { return len(b.Processes()) == 0 }) {
		for _, pid := range b.Processes() {
			t.Errorf("left over: process %s", describe(pid))
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	if b.untidy {
		return
	}
	b.nothingBelow(t, b.Temp)
	if Peer() { // it leaves its symlinks, and the socket of an exec that failed
		return
	}
	b.nothingBelow(t, b.Sockets)
	b.nothingBelow(t, b.registry())
	_ = filepath.WalkDir(b.Base, func(path string, d fs.DirEntry, err error) error {
		if err != nil || strings.HasPrefix(path, b.runtimeRoot()) {
			return nil // what cannot be read cannot be looked at
		}
		if d.Type()&fs.ModeSocket != 0 {
			t.Errorf("left over: socket %s", path)
		}
		return nil
	})
}

func (b *Bundle) nothingBelow(t testing.TB, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Error(err)
	}
	for _, e := range entries {
		t.Errorf("left over: %s", filepath.Join(dir, e.Name()))
	}
}

// dispose ends the container, looks at what is left and removes the bundle.
func (b *Bundle) dispose(t testing.TB) {
	t.Helper()
	if t.Failed() {
		b.report(t)
	}
	b.Delete()
	b.killContainer()
	b.NothingLeft(t)
	if err := os.RemoveAll(b.Base); err != nil {
		t.Errorf("removing the bundle: %v", err)
	}
}

// report tells what a failed test's monitors printed and what still runs.
func (b *Bundle) report(t testing.TB) {
	t.Helper()
	for _, m := range b.launched {
		if text := m.tail(); text != "" {
			t.Logf("monitor printed: %q", text)
		}
	}
	for _, pid := range b.Processes() {
		t.Logf("running: %s, parent %s, pending signals %s %s, blocked %s, ignored %s, caught %s", describe(pid), Status(pid, "PPid"),
			Status(pid, "SigPnd"), Status(pid, "ShdPnd"), Status(pid, "SigBlk"), Status(pid, "SigIgn"), Status(pid, "SigCgt"))
	}
}

// tail is what the launched process printed, if it has ended.
func (m *Monitor) tail() string {
	select {
	case <-m.waited:
		return m.Output.String()
	default:
		return ""
	}
}

// killContainer kills what the pid files of the bundle name: the fake runtime's
// delete does not.
func (b *Bundle) killContainer() {
	if len(b.launched) == 0 {
		return
	}
	alive := b.Processes()
	for _, m := range b.launched {
		text, err := os.ReadFile(m.PidFile)
		if err != nil {
			continue
		}
		// Only a process that still is the bundle's: the number may be another's.
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && slices.Contains(alive, pid) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}
