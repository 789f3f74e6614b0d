package poll

import (
	"testing"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
)

func newPipe(t *testing.T) (r, w int) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p[0]); unix.Close(p[1]) })
	return p[0], p[1]
}

func TestTagsComeBack(t *testing.T) {
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	r, w := newPipe(t)
	tag := Tag{Owner: 7, ID: 0xfffffffe}
	if err := p.Add(r, tag, In); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(w, []byte("x")); err != nil {
		t.Fatal(err)
	}
	events, err := p.Wait(0)
	if err != nil || len(events) != 1 || events[0] != (Event{tag, In}) {
		t.Fatalf("%v, %v", events, err)
	}
	p.Remove(r)
	if events, err := p.Wait(1); err != nil || len(events) != 0 {
		t.Errorf("after Remove: %v, %v", events, err)
	}
}

func TestWaitKeepsTheDeadline(t *testing.T) {
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	deadline := clock.Now() + 5*clock.Millisecond
	if events, err := p.Wait(deadline); err != nil || len(events) != 0 {
		t.Fatalf("%v, %v", events, err)
	}
	if now := clock.Now(); now < deadline {
		t.Errorf("%d ns early", deadline-now)
	}
}

func TestBell(t *testing.T) {
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewBell()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := p.Add(b.FD(), Tag{Owner: 1}, In); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		done := make(chan bool)
		go func() {
			b.Ring()
			b.Ring() // twice is once
			close(done)
		}()
		if events, err := p.Wait(0); len(events) != 1 || err != nil {
			t.Fatalf("%v, %v", events, err)
		}
		<-done
		b.Hear()
		if events, err := p.Wait(clock.Now()); len(events) != 0 || err != nil {
			t.Fatalf("%v, %v after the bell was heard", events, err)
		}
	}
}
