package logging

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/config"
	"conmon/internal/handoff"
	"conmon/internal/poll"
	"conmon/internal/stdio"
)

// newJournaldRig is a rig with a journald driver that talks to a fake journal.
func newJournaldRig(t testing.TB, cfg config.Log) (*rig, *fakeJournal) {
	fake := newFakeJournal(t, t.TempDir()+"/socket")
	r := newRig(t, cfg)
	r.journal(fake.path, new(handoff.State))
	return r, fake
}

func (r *rig) journal(path string, st *handoff.State) *journald {
	j := loadJournald(path, r.cfg, st, driverKey(0), r.p, poll.Tag{Owner: 7})
	r.drivers, r.index = []driver{j}, []int{0}
	return j
}

func TestJournalFields(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(c *config.Config)
		want entry
	}{
		{"name", func(*config.Config) {}, entry{"CONTAINER_NAME": "box", "SYSLOG_IDENTIFIER": "box"}},
		{"no name", func(c *config.Config) { c.Name = "" }, entry{"SYSLOG_IDENTIFIER": "0123456789ab"}},
		{"tag", func(c *config.Config) { c.Log.Tag = "tag" }, entry{"CONTAINER_NAME": "box", "CONTAINER_TAG": "tag", "SYSLOG_IDENTIFIER": "tag"}},
		{"labels", func(c *config.Config) { c.Log.Labels = []string{"A_1=x y", "B=\n"} }, entry{"CONTAINER_NAME": "box", "SYSLOG_IDENTIFIER": "box", "A_1": "x y", "B": "\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, fake := newJournaldRig(t, config.Log{})
			c.edit(r.cfg)
			r.journal(fake.path, new(handoff.State))
			put(r.Log, stdio.Stdout, "text\n")
			c.want["CONTAINER_ID"], c.want["CONTAINER_ID_FULL"] = "0123456789ab", "0123456789abcdef"
			c.want["MESSAGE"], c.want["PRIORITY"] = "text", "6"
			if got := fake.next(); fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestJournalEntries(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", entryMax/16)
	for _, c := range []struct {
		name   string
		chunks []string // "!" ends the stream
		want   []string // priority, P for a piece, text
	}{
		{"lines", []string{"a\n\nb\n"}, []string{"3  a", "3  ", "3  b"}},
		{"unfinished lines are joined", []string{"abc", "def\nxyz", "!"}, []string{"3  abcdef", "3 P xyz"}},
		{"priority", []string{"<0>a\n<7>b\n<8>c\nd<1>\n<5>\n"}, []string{"0  a", "7  b", "3  <8>c", "3  d<1>", "5  "}},
		{"priority across chunks", []string{"<", "4", ">", "a\n", "<2", ">b\n"}, []string{"4  a", "2  b"}},
		{"binary", []string{"\x00\xff=\r\n"}, []string{"3  \x00\xff=\r"}},
		{"longest", []string{long, "\n"}, []string{"3  " + long}},
		{"too long", []string{"<4>" + long, "<5>\n"}, []string{"4 P " + long[:entryMax-3], "4  " + long[entryMax-3:] + "<5>"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, fake := newJournaldRig(t, config.Log{})
			for _, chunk := range c.chunks {
				if chunk == "!" {
					eof(r.Log, stdio.Stderr)
				} else {
					put(r.Log, stdio.Stderr, chunk)
				}
			}
			if r.Deadline() != 0 {
				t.Error("wakes up for nothing")
			}
			for _, want := range c.want {
				e, piece := fake.next(), ""
				if e["CONTAINER_PARTIAL_MESSAGE"] == "true" {
					piece = "P"
				}
				if got := fmt.Sprintf("%s %s %s", e["PRIORITY"], piece, e["MESSAGE"]); got != want {
					t.Errorf("got %.60q, want %.60q", got, want)
				}
			}
			if e := fake.next(); e != nil {
				t.Errorf("one more: %.60v", e)
			}
		})
	}
}

func TestJournalNoPartialMessage(t *testing.T) {
	r, fake := newJournaldRig(t, config.Log{NoPartialMessage: true})
	put(r.Log, stdio.Stdout, "a")
	eof(r.Log, stdio.Stdout)
	if e := fake.next(); e["MESSAGE"] != "a" || len(e) != 6 {
		t.Errorf("got %v", e)
	}
}

// A journal that has stopped keeps the container for a moment, once, and then no
// more; what does not fit the queue is counted, and the rest arrives when the
// journal is back, also after an upgrade.
func TestJournalStops(t *testing.T) {
	r, fake := newJournaldRig(t, config.Log{})
	line := strings.Repeat("x", 999)
	sent := 0
	send := func() {
		sent++
		put(r.Log, stdio.Stdout, fmt.Sprintf("%06d%s\n", sent, line))
	}
	for !r.Blocked(stdio.Stdout) {
		send()
	}
	start := time.Now()
	r.until("gives up", func() bool { return !r.Blocked(stdio.Stdout) })
	if d := time.Since(start); d > 1500*time.Millisecond {
		t.Errorf("the container waited for %v", d)
	}
	for range 3000 {
		if send(); r.Blocked(stdio.Stdout) {
			t.Fatal("waits again")
		}
	}
	if r.Deadline() != 0 {
		t.Error("wakes up without need")
	}
	st := new(handoff.State)
	r.Save(st)
	r.drivers[0].close()
	r.journal(fake.path, st)
	s := r.Stats().Drivers[0]
	if !s.Waiting || s.LastError == "" {
		t.Errorf("stats %+v", s)
	}
	got, last := 0, ""
	r.until("all arrived", func() bool {
		for e := fake.next(); e != nil; e = fake.next() {
			if e["MESSAGE"] <= last {
				t.Fatalf("%.8s after %.8s", e["MESSAGE"], last)
			}
			last = e["MESSAGE"]
			got++
		}
		return r.Stats().Drivers[0].Streams[0].Pending.Lines == 0
	})
	s = r.Stats().Drivers[0]
	if p := s.Streams[0]; int(p.Written.Lines) != got || int(p.Lost.Lines) != sent-got || p.Lost.Lines == 0 || s.Waiting {
		t.Errorf("sent %d, got %d, stats %+v", sent, got, p)
	}
}

// The last words are kept for a journal that had stopped: it may be back in time.
func TestJournalIsBackForTheEnd(t *testing.T) {
	r, fake := newJournaldRig(t, config.Log{})
	r.drivers[0].(*journald).stopped = true
	if n := r.Budget(1 << 16); n != journalChunk {
		t.Errorf("reads %d bytes at once", n)
	}
	r.BeginDrain(clock.Now() + 60*clock.Second)
	const lines = 3000
	for range lines {
		put(r.Log, stdio.Stdout, strings.Repeat("x", 999)+"\n")
	}
	unix.SetNonblock(fake.fd, false)
	var reader sync.WaitGroup
	reader.Go(func() {
		for range lines {
			fake.next()
		}
	})
	r.Finish(clock.Now() + 30*clock.Second)
	_ = unix.Shutdown(fake.fd, unix.SHUT_RD)
	reader.Wait()
	if s := r.Stats().Drivers[0].Streams[0]; s.Lost != (Count{}) || s.Written.Lines != lines {
		t.Errorf("stats %+v", s)
	}
}

// A journal that is only slow makes the container wait, and loses nothing.
func TestSlowJournal(t *testing.T) {
	r, fake := newJournaldRig(t, config.Log{})
	const lines = 5000
	sent, got := 0, 0
	for got < lines {
		for ; !r.Blocked(stdio.Stdout) && sent < lines; sent++ {
			put(r.Log, stdio.Stdout, strings.Repeat("x", 999)+"\n")
		}
		for fake.next() != nil {
			got++
		}
		r.Ready(poll.Event{}) // there is room
	}
	if s := r.Stats().Drivers[0].Streams[0]; s.Lost != (Count{}) || s.Written.Lines != lines {
		t.Errorf("stats %+v", s)
	}
}

// The journal may be restarted together with its socket, or be missing at first.
func TestJournalRestarts(t *testing.T) {
	r, fake := newJournaldRig(t, config.Log{})
	put(r.Log, stdio.Stdout, "one\n")
	fake.next()
	fake.stop()
	put(r.Log, stdio.Stdout, "two\n")
	if r.Deadline() == 0 || r.Blocked(stdio.Stdout) {
		t.Error("not tried again, or the container waits")
	}
	fake.start()
	r.until("reconnected", func() bool { return !r.Stats().Drivers[0].Waiting })
	if e := fake.next(); e["MESSAGE"] != "two" {
		t.Errorf("got %v", e)
	}
	fake.stop()
	fake.start()
	put(r.Log, stdio.Stdout, "three\n")
	if e := fake.next(); e["MESSAGE"] != "three" {
		t.Errorf("got %v", e)
	}
}

func TestFinishJournal(t *testing.T) {
	r, fake := newJournaldRig(t, config.Log{})
	for range 300 {
		put(r.Log, stdio.Stdout, strings.Repeat("x", 99)+"\n")
	}
	put(r.Log, stdio.Stdout, "last")
	start := clock.Now()
	r.Finish(start + 150*clock.Millisecond)
	if d := clock.Now() - start; d > 300*clock.Millisecond {
		t.Errorf("took %d ms", d/clock.Millisecond)
	}
	got := 0
	for fake.next() != nil {
		got++
	}
	if s := r.Stats().Drivers[0].Streams[0]; s.Pending != (Count{}) || int(s.Written.Lines) != got || s.Lost.Bytes == 0 {
		t.Errorf("got %d, stats %+v", got, s)
	}
}

func TestJournalAllocatesNothing(t *testing.T) {
	r, fake := newJournaldRig(t, config.Log{})
	b, chunk, wall := make([]byte, 4096), []byte("some line\n"), time.Now()
	n := testing.AllocsPerRun(100, func() {
		r.Write(stdio.Stdout, chunk, wall, 1)
		_, _ = unix.Read(fake.fd, b)
	})
	if n != 0 {
		t.Errorf("%v allocations per entry", n)
	}
}

// BenchmarkJournald sends entries to a journal that does nothing but read.
func BenchmarkJournald(b *testing.B) {
	for _, n := range []int{20, 100, 1000, 20000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r, fake := newJournaldRig(b, config.Log{})
			unix.SetNonblock(fake.fd, false)
			go func() {
				for buf := make([]byte, 1<<16); ; {
					if _, err := unix.Read(fake.fd, buf); err != nil {
						return
					}
				}
			}()
			chunk := chunkOf(n)
			b.SetBytes(int64(len(chunk)))
			for b.Loop() {
				r.Write(stdio.Stdout, chunk, time.Time{}, clock.Now())
				for r.Blocked(stdio.Stdout) {
					_, _ = unix.Poll([]unix.PollFd{{Fd: int32(r.drivers[0].(*journald).fd), Events: unix.POLLOUT}}, -1)
					r.Ready(poll.Event{})
				}
			}
			_ = unix.Shutdown(fake.fd, unix.SHUT_RD)
		})
	}
}
