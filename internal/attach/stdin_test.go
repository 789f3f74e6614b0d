package attach

import (
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/stdio"
)

// drain reads what is in a pipe and reports whether its writer is gone.
func drain(t *testing.T, fd int, into *[]byte) (eof bool) {
	t.Helper()
	b := make([]byte, 65536)
	for {
		n, err := unix.Read(fd, b)
		if err == unix.EAGAIN {
			return false
		}
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return true
		}
		*into = append(*into, b[:n]...)
	}
}

// send writes all of b in packets, as far as the socket takes them.
func (c *peer) send(b []byte, packet int) (rest []byte) {
	for len(b) > 0 {
		n := min(len(b), packet)
		if c.write(b[:n]) != nil {
			break
		}
		b = b[n:]
	}
	return b
}

// TestInput: 48 MB of binary input, upgraded on the way, then SHUT_WR.
func TestInput(t *testing.T) {
	r := newRig(t, Options{Stdin: true})
	c := r.connect()
	want := random(48<<20, 9)
	rest := c.send(want, 32768)
	r.settle() // before the container exists
	in := r.stdin()
	var got []byte
	for i := 0; len(rest) > 0; i++ {
		rest = c.send(rest, 1+i*7919%32768)
		r.turn(0)
		if i%3 != 0 {
			drain(t, in, &got)
		}
		if i%100 == 50 {
			r.upgrade()
		}
	}
	if err := unix.Shutdown(c.fd, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	r.until("end of file", func() bool { return drain(t, in, &got) })
	same(t, "stdin", got, want)
	r.s.Output(stdio.Stdout, []byte("still here"))
	if c.read(); string(c.got[0]) != "still here" {
		t.Error("no output after SHUT_WR")
	}
	if n := r.s.Stats().Input; n != uint64(len(want)) {
		t.Error("counted", n)
	}
}

// TestStdinEnds says who closes the container's stdin.
func TestStdinEnds(t *testing.T) {
	shut := func(c *peer) { _ = unix.Shutdown(c.fd, unix.SHUT_WR) }
	leave := func(c *peer) { c.close() }
	abort := func(c *peer) { // leaves with output unread
		c.read()
		c.close()
	}
	none := func(*peer) {}
	empty := func(c *peer) { _ = c.write(nil) }
	for _, c := range []struct {
		name string
		opts Options
		a, b func(*peer)
		want bool
	}{
		{"shut down", Options{Stdin: true}, shut, none, true},
		{"leaves, another stays", Options{Stdin: true}, leave, none, false},
		{"both leave", Options{Stdin: true}, leave, leave, true},
		{"both abort", Options{Stdin: true}, abort, abort, true},
		{"empty packet", Options{Stdin: true}, empty, none, false},
		{"left open, shut down", Options{Stdin: true, LeaveStdinOpen: true}, shut, shut, false},
		{"left open, both leave", Options{Stdin: true, LeaveStdinOpen: true}, leave, leave, false},
		{"terminal", Options{Stdin: true, Terminal: true}, shut, leave, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.opts)
			in := r.stdin()
			x, y := r.connect(), r.connect()
			_ = x.write([]byte("x"))
			_ = y.write([]byte("y"))
			r.settle()
			r.s.Output(stdio.Stdout, []byte("unread"))
			c.a(x)
			r.settle()
			c.b(y)
			r.settle()
			var got []byte
			if eof := drain(t, in, &got); eof != c.want || string(got) != "xy" {
				t.Errorf("closed: %v, want %v; %q", eof, c.want, got)
			}
		})
	}
}

// TestLeavesEarly: all that a client sent reaches a container that reads only
// after the client has left, and then the end of file.
func TestLeavesEarly(t *testing.T) {
	r := newRig(t, Options{Stdin: true})
	c := r.connect()
	in := r.stdin()
	r.s.Output(stdio.Stdout, []byte("unread, so that the connection is reset"))
	want := random(1<<20, 4)
	var rest []byte
	for rest = c.send(want, 32768); ; {
		r.settle()
		left := len(rest)
		if rest = c.send(rest, 32768); len(rest) == left {
			break
		}
	}
	want = want[:len(want)-len(rest)]
	c.close()
	r.settle()
	if r.turn(20 * clock.Millisecond) {
		t.Error("a client that left while its input waits keeps the loop busy")
	}
	r.upgrade()
	r.settle()
	if r.turn(20 * clock.Millisecond) {
		t.Error("the same after an upgrade")
	}
	var got []byte
	r.until("end of file", func() bool { return drain(t, in, &got) })
	same(t, "stdin", got, want)
}

// TestNeverReads: a container that does not read holds its clients' input back
// and nothing else.
func TestNeverReads(t *testing.T) {
	r := newRig(t, Options{Stdin: true})
	r.stdin()
	c, other := r.connect(), r.connect()
	for range 100 {
		c.send(make([]byte, 1<<20), 32768)
		r.turn(0)
	}
	r.settle()
	if r.turn(20 * clock.Millisecond) {
		t.Error("the loop is kept busy")
	}
	if n := r.s.Stats().Input; n > 256<<10 {
		t.Error("took", n)
	}
	r.s.Output(stdio.Stdout, []byte("hello"))
	for _, p := range []*peer{c, other} {
		if p.read(); string(p.got[0]) != "hello" {
			t.Errorf("got %q", p.got[0])
		}
	}
}

// TestClosedStdin: a container that closes its stdin harms no client.
func TestClosedStdin(t *testing.T) {
	r := newRig(t, Options{Stdin: true})
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	if err := r.s.UseStdin(p[1]); err != nil {
		t.Fatal(err)
	}
	c := r.connect()
	c.send(make([]byte, 1<<20), 32768)
	r.settle() // the queue is full
	unix.Close(p[0])
	r.settle()
	if rest := c.send(make([]byte, 8192), 4096); len(rest) > 0 {
		t.Error("the client is stuck")
	}
	r.settle()
	if r.turn(20 * clock.Millisecond) {
		t.Error("the loop is kept busy")
	}
	r.s.Output(stdio.Stdout, []byte("hello"))
	if c.read(); string(c.got[0]) != "hello" {
		t.Errorf("got %q", c.got[0])
	}
}

// TestNoStdin: without -i, input is thrown away.
func TestNoStdin(t *testing.T) {
	r := newRig(t, Options{})
	c := r.connect()
	for range 64 {
		c.send(make([]byte, 64<<10), 32768)
		r.settle()
	}
	if rest := c.send(make([]byte, 32768), 32768); len(rest) > 0 {
		t.Error("the client is stuck")
	}
	if r.s.stdin.buf != nil {
		t.Error("input was kept")
	}
}

// TestTerminal types into a terminal that nobody has open, that is full, and
// that is opened again.
func TestTerminal(t *testing.T) {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("no pseudo-terminals here:", err)
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	slave := func() *os.File {
		fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
		if errno != 0 {
			t.Fatal(errno)
		}
		tio, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		tio.Lflag &^= unix.ECHO | unix.ICANON
		if err := unix.IoctlSetTermios(int(fd), unix.TCSETS, tio); err != nil {
			t.Fatal(err)
		}
		return os.NewFile(fd, "slave")
	}
	r := newRig(t, Options{Terminal: true})
	if err := r.s.UseStdin(master); err != nil {
		t.Fatal(err)
	}
	first := slave()
	first.Close()
	c := r.connect()
	if c.write([]byte("typed too early")) != nil {
		t.Fatal("not accepted")
	}
	r.settle()
	if r.turn(20 * clock.Millisecond) {
		t.Error("a closed terminal keeps the loop busy")
	}
	second := slave()
	defer second.Close()
	want := random(1<<20, 5)
	for i := range want {
		want[i] = 'a' + want[i]%26
	}
	all := append([]byte("typed too early"), want...)
	var got []byte
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 4096)
		for len(got) < len(all) {
			n, err := second.Read(b)
			if err != nil {
				t.Error(err)
				return
			}
			got = append(got, b[:n]...)
		}
	})
	rest := want
	r.until("all typed", func() bool { rest = c.send(rest, 1000); return len(rest) == 0 })
	r.until("all delivered", func() bool { return r.s.Stats().Input == uint64(len(all)) && len(r.s.stdin.queue) == 0 })
	wg.Wait()
	same(t, "terminal", got, all)
}
