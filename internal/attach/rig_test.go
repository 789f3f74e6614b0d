package attach

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/handoff"
	"conmon/internal/poll"
	"conmon/internal/stdio"
)

const owner = poll.Owner(5)

// rig is a server and the loop that drives it, by hand.
type rig struct {
	t    *testing.T
	opts Options
	p    *poll.Poller
	s    *Server
}

func newRig(t *testing.T, opts Options) *rig {
	t.Helper()
	if opts.Bundle == "" {
		opts.Bundle = t.TempDir()
	}
	if opts.Backlog == 0 {
		opts.Backlog = 64 << 20
	}
	if opts.BacklogDirs == nil {
		opts.BacklogDirs = []string{t.TempDir()}
	}
	if opts.SocketDir == "" {
		opts.FullAttach = true
	}
	r := &rig{t: t, opts: opts}
	var err error
	if r.p, err = poll.New(); err != nil {
		t.Fatal(err)
	}
	if r.s, err = Listen(opts, r.p, owner); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.s.Close() })
	return r
}

// turn is one turn of the loop; it reports whether something happened.
func (r *rig) turn(wait clock.Mono) bool {
	r.t.Helper()
	events, err := r.p.Wait(clock.Now() + wait)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, ev := range events {
		r.s.Ready(ev)
	}
	now := clock.Now()
	if d := r.s.Deadline(); d != 0 && d <= now {
		r.s.Tick(now)
	}
	return len(events) > 0
}

// settle turns until nothing happens any more.
func (r *rig) settle() {
	r.t.Helper()
	for r.turn(clock.Millisecond) {
	}
}

// until turns until the condition holds.
func (r *rig) until(what string, cond func() bool) {
	r.t.Helper()
	limit := clock.Now() + 20*clock.Second
	for !cond() {
		if clock.Now() > limit {
			r.t.Fatal("not reached:", what)
		}
		r.turn(5 * clock.Millisecond)
	}
}

// upgrade replaces the server by a successor that knows only the encoded state.
func (r *rig) upgrade() {
	r.t.Helper()
	var st handoff.State
	r.s.Save(&st)
	next, err := handoff.Decode(st.Encode(nil))
	if err != nil {
		r.t.Fatal(err)
	}
	if r.p, err = poll.New(); err != nil {
		r.t.Fatal(err)
	}
	if r.s, err = Load(r.opts, next, r.p, owner); err != nil {
		r.t.Fatal(err)
	}
}

// connect returns a new client's socket, non-blocking, known to the server.
func (r *rig) connect() *peer {
	r.t.Helper()
	c := dial(r.t, r.opts.Bundle+"/attach")
	r.settle()
	return c
}

// stdin gives the server a pipe to write input to and returns the reading end.
func (r *rig) stdin() int {
	r.t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { unix.Close(p[0]) })
	if err := r.s.UseStdin(p[1]); err != nil {
		r.t.Fatal(err)
	}
	return p[0]
}

// peer is an attach client and what it has read.
type peer struct {
	t   *testing.T
	fd  int
	got [2][]byte // by stdio.Stream.Index
	n   int       // packets
	eof bool
	buf []byte
}

func dial(t *testing.T, path string) *peer {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	c := &peer{t: t, fd: fd, buf: make([]byte, 1+packetData+1)}
	t.Cleanup(func() { c.close() })
	return c
}

func (c *peer) close() {
	if c.fd >= 0 {
		unix.Close(c.fd)
		c.fd = -1
	}
}

// read reads all packets that are there, and checks their form.
func (c *peer) read() {
	c.t.Helper()
	for !c.eof {
		n, err := unix.Read(c.fd, c.buf)
		if err == unix.EAGAIN {
			return
		}
		if err != nil {
			c.t.Fatal("client reads:", err)
		}
		if c.eof = n == 0; c.eof {
			return
		}
		c.n++
		if b := c.buf[0]; n > 1+packetData || n < 2 || b != 2 && b != 3 {
			c.t.Fatalf("packet of %d bytes for stream %d", n, b)
		}
		i := stdio.Stream(c.buf[0]).Index()
		c.got[i] = append(c.got[i], c.buf[1:n]...)
	}
}

// write sends one packet of input.
func (c *peer) write(b []byte) error {
	_, err := unix.Write(c.fd, b)
	return err
}

// random returns n bytes that differ between seeds.
func random(n int, seed uint64) []byte {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

func same(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	t.Fatalf("%s: %d bytes, want %d; first difference at %d", what, len(got), len(want), i)
}

// nullWatcher watches nothing.
type nullWatcher struct{}

func (*nullWatcher) Add(int, poll.Tag, uint32) error    { return nil }
func (*nullWatcher) Modify(int, poll.Tag, uint32) error { return nil }
func (*nullWatcher) Remove(int)                         {}
