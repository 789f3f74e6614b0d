package attach

import (
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/stdio"
)

func TestOutput(t *testing.T) {
	r := newRig(t, Options{})
	a := r.connect()
	r.s.Output(stdio.Stdout, []byte("out"))
	b := r.connect()
	r.s.Output(stdio.Stderr, []byte("err"))
	big := random(20000, 1)
	r.s.Output(stdio.Stdout, big)
	for _, c := range []struct {
		p   *peer
		out string
	}{{a, "out" + string(big)}, {b, string(big)}} {
		c.p.read()
		same(t, "stdout", c.p.got[0], []byte(c.out))
		same(t, "stderr", c.p.got[1], []byte("err"))
		if c.p.eof {
			t.Error("early end of file")
		}
	}
	late := dial(t, r.opts.Bundle+"/attach") // not accepted yet
	r.s.EndOutput(clock.Now() + clock.Second)
	for _, c := range []*peer{a, b, late} {
		if c.read(); !c.eof {
			t.Error("no end of file")
		}
	}
	later := dial(t, r.opts.Bundle+"/attach")
	r.settle()
	if later.read(); !later.eof {
		t.Error("no end of file after the end")
	}
	last := dial(t, r.opts.Bundle+"/attach")
	r.s.Close()
	if last.read(); !last.eof {
		t.Error("no end of file at close")
	}
}

// TestLaggard: one client stalls while 24 MB pass, the other keeps up; upgrades
// happen in between. Both get every byte.
func TestLaggard(t *testing.T) {
	r := newRig(t, Options{})
	stalled, quick := r.connect(), r.connect()
	var want [2][]byte
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := 0; len(want[0]) < 24<<20; i++ {
		stream := stdio.Stdout
		if rnd.IntN(3) == 0 {
			stream = stdio.Stderr
		}
		size := 1 + rnd.IntN(65536)
		if i%5 == 0 {
			size = 1 + rnd.IntN(40)
		}
		chunk := random(size, uint64(i))
		r.s.Output(stream, chunk)
		want[stream.Index()] = append(want[stream.Index()], chunk...)
		quick.read()
		r.turn(0)
		if r.s.Blocked(stdio.Stdout) || r.s.Blocked(stdio.Stderr) {
			t.Fatal("blocked within the backlog")
		}
		if i%300 == 100 {
			r.upgrade()
		}
	}
	r.until("quick has all", func() bool { quick.read(); return len(quick.got[0]) == len(want[0]) })
	if st := r.s.Stats(); st.BacklogFile < 20<<20 || st.Clients[0].Lag < 20<<20 || st.Clients[1].Lag != 0 {
		t.Errorf("%+v", st)
	}
	for i := 0; len(stalled.got[0])+len(stalled.got[1]) < len(want[0])+len(want[1]); i++ {
		stalled.read()
		r.turn(clock.Second)
		if i%40 == 20 {
			r.upgrade()
		}
	}
	quick.read()
	for i := range want {
		same(t, "quick", quick.got[i], want[i])
		same(t, "stalled", stalled.got[i], want[i])
	}
	if !r.s.spool.empty() {
		t.Error("the backlog is not empty")
	}
	r.until("buffers given back", func() bool { return r.s.Deadline() == 0 })
	if s := &r.s.spool; s.taken != nil || s.scratch != nil || s.file.fd >= 0 {
		t.Error("buffers are still held")
	}
}

// TestSmallWrites: bytes written one by one reach a laggard in few packets.
func TestSmallWrites(t *testing.T) {
	r := newRig(t, Options{})
	c := r.connect()
	fill := random(1<<20, 1)
	r.s.Output(stdio.Stdout, fill)
	want := fill
	for i := range 20000 {
		r.s.Output(stdio.Stdout, []byte{byte(i)})
		want = append(want, byte(i))
	}
	r.until("all", func() bool { c.read(); return len(c.got[0]) >= len(want) })
	same(t, "stdout", c.got[0], want)
	if c.n > 140 {
		t.Error(c.n, "packets")
	}
}

func TestBlock(t *testing.T) {
	r := newRig(t, Options{Backlog: 1 << 20})
	c := r.connect()
	chunk := random(65536, 1)
	sent := 0
	for !r.s.Blocked(stdio.Stdout) {
		r.s.Output(stdio.Stdout, chunk)
		r.turn(0)
		sent += len(chunk)
	}
	if sent < 1<<20 || sent > 2<<20 {
		t.Error("blocked after", sent)
	}
	if r.s.Blocked(stdio.Stderr) {
		t.Error("the other stream is blocked too")
	}
	r.upgrade()
	if !r.s.Blocked(stdio.Stdout) {
		t.Error("the upgrade forgot")
	}
	for r.s.Blocked(stdio.Stdout) {
		c.read()
		r.turn(clock.Second)
	}
	for range 3 { // the last output of a container comes even while blocked
		for !r.s.Blocked(stdio.Stdout) {
			r.s.Output(stdio.Stdout, chunk)
			sent += len(chunk)
		}
		r.s.Output(stdio.Stdout, chunk)
		sent += len(chunk)
	}
	r.until("all", func() bool { c.read(); return len(c.got[0]) >= sent })
	for off := 0; off < sent; off += len(chunk) {
		same(t, "chunk", c.got[0][off:off+len(chunk)], chunk)
	}
	c.close()
	r.settle()
	if r.s.Blocked(stdio.Stdout) {
		t.Error("blocked for nobody")
	}
}

func TestDisconnect(t *testing.T) {
	r := newRig(t, Options{Backlog: 1 << 20, Disconnect: true})
	stalled, quick := r.connect(), r.connect()
	chunk := random(65536, 1)
	for range 100 {
		r.s.Output(stdio.Stdout, chunk)
		quick.read()
		r.turn(0)
		if r.s.Blocked(stdio.Stdout) {
			t.Fatal("blocked")
		}
	}
	if stalled.read(); !stalled.eof {
		t.Error("the stalled client is still connected")
	}
	r.until("all", func() bool { quick.read(); return len(quick.got[0]) >= 100*len(chunk) })
	if st := r.s.Stats(); st.Disconnected != 1 || len(st.Clients) != 1 {
		t.Errorf("%+v", st)
	}
}

// TestIdle holds a server whose clients are quiet to not waking up.
func TestIdle(t *testing.T) {
	r := newRig(t, Options{Stdin: true})
	r.stdin()
	c := r.connect()
	if err := unix.Shutdown(c.fd, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	r.connect()
	r.settle()
	r.until("nothing to do", func() bool { return r.s.Deadline() == 0 })
	if r.turn(50 * clock.Millisecond) {
		t.Error("woken up")
	}
}
