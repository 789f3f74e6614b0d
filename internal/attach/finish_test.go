package attach

import (
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/stdio"
)

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
