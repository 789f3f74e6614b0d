package logging

import (
	"strings"
	"testing"
	"time"

	"conmon/internal/clock"
	"conmon/internal/config"
	"conmon/internal/stdio"
)

// A reader that takes what it may, whenever it may, gets the rate, to the byte,
// and is not woken more than about twenty times a second.
func TestBucketRate(t *testing.T) {
	for _, c := range []struct{ rate, burst int64 }{{1000, 0}, {1 << 20, 64 << 10}, {3, 1}, {1 << 40, 1 << 41}, {7, 1 << 40}} {
		now := clock.Mono(5)
		b := newBucket(c.rate, c.burst, now)
		var got int64
		wakes := 0
		for end := now + 10*clock.Second; now < end; wakes++ {
			for !b.dry {
				n := min(b.level, 1<<30)
				b.take(int(n))
				got += n
			}
			due := b.ready()
			if due <= now {
				t.Fatalf("%+v: due at %d, it is %d", b, due, now)
			}
			now = due
			if b.fill(now); b.dry {
				t.Fatalf("%+v: still dry", b)
			}
		}
		want := b.burst + c.rate*10
		if slack := 2*b.sip() + 1; got < want-slack || got > want+slack {
			t.Errorf("%d/%d: got %d bytes, want %d", c.rate, c.burst, got, want)
		}
		if wakes > 250 {
			t.Errorf("%d/%d: %d wake-ups", c.rate, c.burst, wakes)
		}
	}
}

func TestBucketAfterLongPause(t *testing.T) {
	b := newBucket(1<<40, 1<<50, 1)
	b.take(1 << 49)
	b.fill(1 << 62)
	if b.level != 1<<50 {
		t.Errorf("level %d", b.level)
	}
}

func TestRateLimitBlocks(t *testing.T) {
	path := t.TempDir() + "/log"
	r := newRig(t, config.Log{Drivers: k8s(path), RateLimit: 1000, RateBurst: 100})
	now := clock.Now()
	if n := r.Budget(64); n != 64 {
		t.Errorf("budget %d", n)
	}
	if n := r.Budget(1 << 16); n != 100 {
		t.Errorf("budget %d", n)
	}
	r.Write(stdio.Stderr, []byte(strings.Repeat("x", 99)+"\n"), time.Now(), now)
	if !r.Blocked(stdio.Stdout) || !r.Blocked(stdio.Stderr) {
		t.Error("one bucket for both streams: not blocked")
	}
	r.upgrade()
	due := r.Deadline()
	if due-now < 49*clock.Millisecond || due-now > 60*clock.Millisecond {
		t.Errorf("due after %d us", (due-now)/1000)
	}
	r.Tick(due)
	if r.Blocked(stdio.Stdout) {
		t.Error("still blocked")
	}
	r.Write(stdio.Stdout, []byte(strings.Repeat("x", 100)), time.Now(), due)
	r.BeginDrain(clock.Now() + 60*clock.Second)
	if r.Blocked(stdio.Stdout) || r.Budget(1<<16) != 1<<16 {
		t.Error("limited while draining")
	}
}

func TestRateLimitDrops(t *testing.T) {
	path := t.TempDir() + "/log"
	r := newRig(t, config.Log{Drivers: k8s(path), RateLimit: 1000, RateBurst: 20, RateDrop: true})
	r.rate.at = 1 << 60 // time stands still
	put(r.Log, stdio.Stdout, "one\ntwo\nthr")
	put(r.Log, stdio.Stderr, "a\n")
	put(r.Log, stdio.Stdout, "ee and more than there is\nfour\n")
	r.upgrade()
	put(r.Log, stdio.Stdout, "five\n")
	if r.Blocked(stdio.Stdout) || r.Budget(10) != 10 {
		t.Error("the container is limited")
	}
	r.BeginDrain(clock.Now() + 60*clock.Second)
	put(r.Log, stdio.Stdout, "six\n")
	want(t, entries(t, path), "stdout F one", "stdout F two", "stderr F a", "stdout F three and more than there is", "stdout F six")
	s := r.Stats()
	w, l := s.Drivers[0].Streams[0].Written, s.RateLimited[0]
	if w.Bytes+l.Bytes != s.Read[0].Bytes || w.Lines+l.Lines != s.Read[0].Lines || s.Read[0].Lines != 6 {
		t.Errorf("stats %+v", s)
	}
}
