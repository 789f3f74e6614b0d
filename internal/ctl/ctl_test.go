package ctl

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/handoff"
	"conmon/internal/poll"
)

const owner = poll.Owner(7)

func newPoller(t *testing.T) *poll.Poller {
	t.Helper()
	p, err := poll.New()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// next waits for one round of events and returns their commands.
func next(t *testing.T, p *poll.Poller, c *Control, wait clock.Mono) (out []Command) {
	t.Helper()
	events, err := p.Wait(clock.Now() + wait)
	if err != nil {
		t.Fatal(err)
	}
	for _, ev := range events {
		out = append(out, c.Ready(ev)...)
	}
	return out
}

// write does what engines do: open without blocking, write, close.
func write(t *testing.T, path, text string) {
	t.Helper()
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func TestFifos(t *testing.T) {
	defer unix.Umask(unix.Umask(0o022))
	dir := t.TempDir()
	ctl, winsz := filepath.Join(dir, "ctl"), filepath.Join(dir, "winsz")
	if err := os.WriteFile(ctl, []byte("left over"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newPoller(t)
	c, err := Open(dir, p, owner)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{ctl, winsz} {
		if info, err := os.Lstat(path); err != nil || info.Mode() != os.ModeNamedPipe|0o640 {
			t.Errorf("%s: %v %v", path, info.Mode(), err)
		}
	}
	write(t, ctl, "1 24 80\n2 0")
	if got, want := next(t, p, c, clock.Second), []Command{{Kind: Resize, Height: 24, Width: 80}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := next(t, p, c, 20*clock.Millisecond); got != nil {
		t.Errorf("a writer that left woke the monitor up: %v", got)
	}

	// The successor finishes the line that the predecessor began.
	var st handoff.State
	c.Save(&st)
	p = newPoller(t)
	if c, err = Load(&st, p, owner); err != nil {
		t.Fatal(err)
	}
	write(t, ctl, " 0\n")
	if got, want := next(t, p, c, clock.Second), []Command{{Kind: Reopen}}; !reflect.DeepEqual(got, want) {
		t.Errorf("after the upgrade: got %v, want %v", got, want)
	}
	write(t, winsz, "5 6\n")
	if got, want := next(t, p, c, clock.Second), []Command{{Kind: Resize, Height: 5, Width: 6}}; !reflect.DeepEqual(got, want) {
		t.Errorf("winsz: got %v, want %v", got, want)
	}
	c.Close()
	if _, err := os.Lstat(ctl); err != nil {
		t.Error("the fifo's name does not outlive the monitor")
	}
}

func TestOpenFails(t *testing.T) {
	if _, err := Open("/nonexistent", newPoller(t), owner); err == nil {
		t.Error("no error for a missing bundle")
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "winsz"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, newPoller(t), owner); err == nil {
		t.Error("no error for a directory in the fifo's place")
	}
}
