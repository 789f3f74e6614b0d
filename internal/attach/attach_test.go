package attach

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/handoff"
	"conmon/internal/stdio"
)

func TestSocketAndLink(t *testing.T) {
	root, err := os.MkdirTemp("/tmp", "a")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(root)
	long := filepath.Join(root, strings.Repeat("b", 200))
	for _, c := range []struct {
		name, bundle, dir, cuuid, link string
	}{
		{"plain", root + "/bundle", root + "/run/deep", "uuid", root + "/run/deep/uuid"},
		{"long bundle", long, root + "/run", "uuid", root + "/run/uuid"},
		{"link of 106", root + "/b1", root, strings.Repeat("u", 106-len(root)-1), root + "/" + strings.Repeat("u", 106-len(root)-1)},
		{"link of 107", root + "/b2", root, strings.Repeat("u", 107-len(root)-1), root + "/" + strings.Repeat("u", 106-len(root)-1)},
		{"full attach", root + "/b3", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := os.MkdirAll(c.bundle, 0o700); err != nil {
				t.Fatal(err)
			}
			// What a predecessor left is replaced.
			if err := os.WriteFile(c.bundle+"/attach", nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if c.link != "" {
				if err := os.MkdirAll(c.dir, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink("/nowhere", c.link); err != nil {
					t.Fatal(err)
				}
			}
			r := newRig(t, Options{Bundle: c.bundle, SocketDir: c.dir, CUUID: c.cuuid})
			info, err := os.Lstat(c.bundle + "/attach")
			if err != nil || info.Mode() != os.ModeSocket|0o700 {
				t.Error(info.Mode(), err)
			}
			if c.link != "" {
				if to, err := os.Readlink(c.link); to != c.bundle || err != nil {
					t.Error(to, err)
				}
			}
			r.upgrade()
			r.s.Close()
			for _, path := range []string{c.bundle + "/attach", c.link} {
				if _, err := os.Lstat(path); path != "" && err == nil {
					t.Error("left behind:", path)
				}
			}
		})
	}
}

func TestListenFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/attach", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, bundle := range []string{"/nonexistent", dir} {
		if _, err := Listen(Options{Bundle: bundle, FullAttach: true}, nil, owner); err == nil {
			t.Error("no error for", bundle)
		}
	}
	if s, err := Load(Options{}, new(handoff.State), nil, owner); s != nil || err != nil {
		t.Error("loaded from nothing:", s, err)
	}
}

// TestSuccessorsNames holds a monitor that ends late to leaving the socket of
// the next monitor in the same bundle alone.
func TestSuccessorsNames(t *testing.T) {
	bundle, dir := t.TempDir(), t.TempDir()
	old := newRig(t, Options{Bundle: bundle, SocketDir: dir, CUUID: "u"})
	newRig(t, Options{Bundle: bundle, SocketDir: dir, CUUID: "u"})
	old.s.Close()
	for _, path := range []string{bundle + "/attach", dir + "/u"} {
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	}
}

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

// TestEndWaits: what a client has not read yet at the end still reaches it, but
// one that never reads is waited for no longer than told, and stays till Close.
func TestEndWaits(t *testing.T) {
	r := newRig(t, Options{})
	slow, dead := r.connect(), r.connect()
	want := random(8<<20, 3)
	r.s.Output(stdio.Stdout, want)
	var wg sync.WaitGroup
	wg.Go(func() {
		for !slow.eof {
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(slow.fd), Events: unix.POLLIN}}, -1)
			slow.read()
		}
	})
	begin := clock.Now()
	r.s.EndOutput(begin + 400*clock.Millisecond)
	if took := clock.Now() - begin; took < 350*clock.Millisecond || took > 2*clock.Second {
		t.Error("took", took/clock.Millisecond, "ms")
	}
	slowDone := make(chan struct{})
	go func() { wg.Wait(); close(slowDone) }()
	for more := true; more; {
		select {
		case <-slowDone:
			more = false
		default:
			r.s.EndOutput(clock.Now() + 50*clock.Millisecond)
		}
	}
	same(t, "slow", slow.got[0], want)
	if !r.s.Lagging() {
		t.Error("the client that lags is forgotten")
	}
	r.s.CloseDoor()
	r.upgrade()
	r.s.Close()
	if dead.read(); !dead.eof || r.s.Stats().Unsent == 0 {
		t.Error(dead.eof, r.s.Stats())
	}
}

// TestNoReset: unread input must not turn a client's end of file into an error,
// which would hide the last output from it.
func TestNoReset(t *testing.T) {
	r := newRig(t, Options{Stdin: true})
	r.stdin()
	c := r.connect()
	for range 6 { // more than pipe and queue hold
		_ = c.write(make([]byte, inputPacket))
		r.turn(0)
	}
	r.s.Output(stdio.Stdout, []byte("last words"))
	r.s.EndOutput(clock.Now() + clock.Second)
	if c.read(); !c.eof || string(c.got[0]) != "last words" {
		t.Errorf("%v %q", c.eof, c.got[0])
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

// TestChurn: a hundred clients connect, type, read, stop reading and leave at
// random while output flows; the ones that stay get every byte.
func TestChurn(t *testing.T) {
	r := newRig(t, Options{Stdin: true, LeaveStdinOpen: true})
	in := r.stdin()
	keeper := r.connect()
	done := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 7))
			for range 20 {
				visit(t, r.opts.Bundle+"/attach", rnd)
			}
		})
	}
	go func() { wg.Wait(); close(done) }()
	var want []byte
	sink := make([]byte, 65536)
	for busy := true; busy; {
		select {
		case <-done:
			busy = false
		default:
		}
		chunk := random(30000, uint64(len(want)))
		if len(want) < 16<<20 {
			r.s.Output(stdio.Stdout, chunk)
			want = append(want, chunk...)
		}
		_, _ = unix.Read(in, sink)
		keeper.read()
		r.turn(clock.Millisecond)
	}
	r.until("all", func() bool { keeper.read(); return len(keeper.got[0]) >= len(want) })
	same(t, "keeper", keeper.got[0], want)
	r.until("all left", func() bool { _, _ = unix.Read(in, sink); return len(r.s.Stats().Clients) == 1 })
}

// visit is one client's short life.
func visit(t *testing.T, path string, rnd *rand.Rand) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Error(err)
		return
	}
	b := make([]byte, 10000)
	for range rnd.IntN(6) {
		switch rnd.IntN(4) {
		case 0:
			_, _, _ = unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
		case 1:
			_ = unix.Send(fd, b[:rnd.IntN(len(b))], unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		case 2:
			_ = unix.Shutdown(fd, rnd.IntN(2)) // SHUT_RD or SHUT_WR
		case 3:
			_, _, _ = unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
			_, _, _ = unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
		}
	}
}
