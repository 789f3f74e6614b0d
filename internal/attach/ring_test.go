package attach

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"conmon/internal/clock"
	"conmon/internal/stdio"
)

// gate is a job that does not begin before the gate is open: a disk that does
// not answer.
type gate struct {
	job  *ringJob
	open chan struct{}
}

func (g *gate) Run() {
	<-g.open
	g.job.Run()
}

// shut makes a spool's disk one that stops answering, and returns what makes it
// go on.
func shut(t *testing.T, s *spool) *gate {
	t.Helper()
	if s.file.helper == nil && !s.file.hire() {
		t.Fatal("no helper")
	}
	g := &gate{&s.file.helper.job, make(chan struct{})}
	s.file.helper.work = g
	return g
}

// slowDown makes the disk answer now, later, or not yet.
func slowDown(t *testing.T, s *spool, rnd *rand.Rand) {
	t.Helper()
	switch {
	case s.file.pending && rnd.IntN(2) == 0:
		answer(s)
	case !s.file.pending && rnd.IntN(2) == 0:
		shut(t, s)
		s.file.helper.patience = 0
	case !s.file.pending && s.file.helper != nil:
		s.file.helper.work = &s.file.helper.job
	}
}

// answer lets what is pending end.
func answer(s *spool) {
	if g, ok := s.file.helper.work.(*gate); ok { // else it is only slow
		close(g.open)
	}
	s.file.helper.await(clock.Now() + 60*clock.Second)
	s.settle()
	s.file.helper.work = &s.file.helper.job
}

// fill writes output until stream is blocked.
func (r *rig) fill(stream stdio.Stream) (written []byte) {
	r.t.Helper()
	for !r.s.Blocked(stream) {
		chunk := random(32768, uint64(len(written)))
		r.s.Output(stream, chunk)
		if written = append(written, chunk...); len(written) > 64<<20 {
			r.t.Fatal("never blocked")
		}
	}
	return written
}

// TestDeadDiskBlocks: a backlog's file that does not answer is a full backlog.
// When it answers again, all goes on and nothing is missing.
func TestDeadDiskBlocks(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{})
	p := r.connect()
	var want []byte
	for range 3 {
		g := shut(t, &r.s.spool)
		want = append(want, r.fill(stdio.Stdout)...)
		if !r.s.Busy() || r.s.spool.file.helper.patience != 0 {
			t.Fatal("blocked, and not busy; or still patient")
		}
		begin := clock.Now()
		last := random(3_000_000, 7) // the container's last words come even so
		r.s.Output(stdio.Stdout, last)
		want = append(want, last...)
		if took := clock.Now() - begin; took > clock.Second {
			t.Error("took", took/clock.Millisecond, "ms")
		}
		p.read() // as much as its socket holds
		r.turn(0)
		if !r.s.Blocked(stdio.Stdout) {
			t.Error("not blocked any more")
		}
		close(g.open)
		r.until("the stream goes on", func() bool { return !r.s.Busy() && !r.s.Blocked(stdio.Stdout) })
		r.upgrade()
	}
	for range 100 {
		chunk := random(32768, uint64(len(want)))
		r.s.Output(stdio.Stdout, chunk)
		want = append(want, chunk...)
	}
	if r.s.Stats().BacklogFile < 1<<20 {
		t.Error("the file is not used:", r.s.Stats())
	}
	r.until("all", func() bool { p.read(); return len(p.got[0]) >= len(want) })
	same(t, "stdout", p.got[0], want)
}

// TestDeadDiskReads: readers wait for a disk that does not answer, without the
// loop being woken up for them, and get all when it does.
func TestDeadDiskReads(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{})
	a := r.connect()
	head := random(1<<20, 1)
	r.s.Output(stdio.Stdout, head)
	b := r.connect()
	rest := random(4<<20, 2)
	r.s.Output(stdio.Stdout, rest)
	g := shut(t, &r.s.spool)
	for !r.s.Busy() {
		a.read()
		b.read()
		r.turn(0)
	}
	r.settle()
	r.until("buffers are let alone", func() bool { return r.s.Deadline() == 0 })
	a.read()
	b.read()
	r.settle()
	if r.turn(20 * clock.Millisecond) {
		t.Error("woken up for readers that have to wait")
	}
	close(g.open)
	r.until("all", func() bool {
		a.read()
		b.read()
		return len(a.got[0]) == len(head)+len(rest) && len(b.got[0]) == len(rest)
	})
	same(t, "a", a.got[0], append(bytes.Clone(head), rest...))
	same(t, "b", b.got[0], rest)
}

// TestDeadDiskDisconnects: under the policy that drops laggards, the container
// waits for a moment, in case the disk is only slow.
func TestDeadDiskDisconnects(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{Disconnect: true})
	stalled, quick := r.connect(), r.connect()
	g := shut(t, &r.s.spool)
	var want []byte
	for !r.s.Blocked(stdio.Stdout) {
		chunk := random(32768, uint64(len(want)))
		r.s.Output(stdio.Stdout, chunk)
		want = append(want, chunk...)
		quick.read()
	}
	r.until("the laggard is dropped", func() bool { quick.read(); return r.s.Stats().Disconnected == 1 })
	if r.s.Blocked(stdio.Stdout) || !r.s.Busy() {
		t.Error("blocked", r.s.Blocked(stdio.Stdout), "busy", r.s.Busy())
	}
	if stalled.read(); !stalled.eof {
		t.Error("the laggard is still connected")
	}
	r.until("all", func() bool { quick.read(); return len(quick.got[0]) == len(want) })
	same(t, "quick", quick.got[0], want)
	close(g.open)
	r.until("not busy", func() bool { return !r.s.Busy() })
	r.until("buffers given back", func() bool { return r.s.Deadline() == 0 })
	if s := &r.s.spool; s.taken != nil || s.scratch != nil || s.lent != nil || s.file.fd >= 0 {
		t.Error("buffers are still held")
	}
}

// TestDeadDiskEnd: nobody waits for a dead disk at the end, and no descriptor
// stays that would hang whoever inherits it. What is in memory is still sent.
func TestDeadDiskEnd(t *testing.T) {
	for _, tc := range []struct {
		name    string
		reading bool // it dies while a client is served, not while output comes
		probed  bool // it is found dead only when all is over
	}{
		{"while writing", false, false},
		{"while reading", true, false},
		{"unnoticed", true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Options{})
			p := r.connect()
			if tc.reading {
				r.s.Output(stdio.Stdout, random(4<<20, 1))
			}
			g := shut(t, &r.s.spool)
			switch {
			case tc.probed:
			case tc.reading:
				for !r.s.Busy() {
					p.read()
					r.turn(0)
				}
				p.read()
			default:
				r.s.Output(stdio.Stdout, random(4<<20, 1))
			}
			begin := clock.Now()
			r.s.EndOutput(begin + 300*clock.Millisecond)
			if took := clock.Now() - begin; took > clock.Second {
				t.Error("took", took/clock.Millisecond, "ms")
			}
			r.s.CloseDoor()
			lost := r.s.Stats().Disconnected == 1
			if r.s.Busy() || r.s.spool.file.fd >= 0 || lost != tc.reading {
				t.Error("busy", r.s.Busy(), "file", r.s.spool.file.fd, "stats", r.s.Stats())
			}
			for limit := clock.Now() + 60*clock.Second; !p.eof && clock.Now() < limit; {
				p.read()
				r.s.EndOutput(clock.Now() + 10*clock.Millisecond)
			}
			if !p.eof || len(p.got[0]) == 4<<20 == lost {
				t.Error("end of file", p.eof, "after", len(p.got[0]))
			}
			r.s.Close()
			close(g.open)
		})
	}
}
