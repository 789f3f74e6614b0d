package status

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"conmon/internal/clock"
	"conmon/internal/handoff"
	"conmon/internal/poll"
)

const owner poll.Owner = 7

// loop is a server with a poll set of its own.
type loop struct {
	t      *testing.T
	poller *poll.Poller
	server *Server
}

func listen(t *testing.T, bundle string) *loop {
	t.Helper()
	p, err := poll.New()
	if err != nil {
		t.Fatal(err)
	}
	s, err := Listen(bundle, p, owner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return &loop{t, p, s}
}

// request runs the loop until a client has asked something.
func (l *loop) request() Request {
	l.t.Helper()
	for end := clock.Now() + 5*clock.Second; clock.Now() < end; {
		if r, ok := l.turn(end); ok {
			return r
		}
	}
	l.t.Fatal("no request")
	return Request{}
}

func (l *loop) turn(end clock.Mono) (Request, bool) {
	l.t.Helper()
	events, err := l.poller.Wait(end)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, ev := range events {
		if r, ok := l.server.Ready(ev); ok {
			return r, true
		}
	}
	return Request{}, false
}

// settle runs the loop until nothing happens at once.
func (l *loop) settle() {
	l.t.Helper()
	for {
		events, err := l.poller.Wait(1)
		if err != nil {
			l.t.Fatal(err)
		}
		if len(events) == 0 {
			return
		}
		for _, ev := range events {
			if _, ok := l.server.Ready(ev); ok {
				l.t.Fatal("a request nobody made")
			}
		}
	}
}

func dial(t *testing.T, bundle string) *net.UnixConn {
	t.Helper()
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: filepath.Join(bundle, "status"), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	return c
}

func write(t *testing.T, c *net.UnixConn, s string) {
	t.Helper()
	if _, err := c.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
}

// read returns the next packet, "" at the end.
func read(c *net.UnixConn) string {
	b := make([]byte, 64<<10)
	n, _ := c.Read(b)
	return string(b[:n])
}

func openFDs(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func extra(t *testing.T, l *loop, dir string) *net.UnixConn {
	t.Helper()
	c := dial(t, dir)
	l.settle()
	return c
}

// takeOver hands the server over as an upgrade does, within one process.
func takeOver(t *testing.T, l *loop) *loop {
	t.Helper()
	st := new(handoff.State)
	l.server.Save(st)
	st, err := handoff.Decode(st.Encode(nil))
	if err != nil {
		t.Fatal(err)
	}
	p, err := poll.New()
	if err != nil {
		t.Fatal(err)
	}
	s, err := Load(st, p, owner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return &loop{t, p, s}
}
