package attach

import (
	"math/rand/v2"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/stdio"
)

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
