package status

import (
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
)

func TestStatusRequest(t *testing.T) {
	dir := t.TempDir()
	l := listen(t, dir)
	if l.server.Deadline() != 0 {
		t.Error("a deadline while nobody asks")
	}
	c := dial(t, dir)
	write(t, c, "status\n")
	r := l.request()
	if r.Kind != StatusRequest || r.Arg != "" {
		t.Errorf("request %+v", r)
	}
	l.server.Answer(r.Client, []byte("{}"))
	if got := read(c); got != "{}" {
		t.Errorf("answer %q", got)
	}
	if got := read(c); got != "" {
		t.Errorf("second answer %q", got)
	}
	l.server.Answer(r.Client, []byte("again")) // nobody is there
	if l.server.Deadline() != 0 {
		t.Error("a deadline after the last client")
	}
}

func TestParseRequest(t *testing.T) {
	longest := "/" + strings.Repeat("x", unix.PathMax-1)
	for _, c := range []struct {
		in   string
		kind Kind
		arg  string
	}{
		{"status", StatusRequest, ""},
		{"status\n", StatusRequest, ""},
		{"status x", 0, ""},
		{"upgrade", UpgradeRequest, ""},
		{"upgrade /a b", UpgradeRequest, "/a b"},
		{"upgrade " + longest, UpgradeRequest, longest},
		{"upgrade " + longest + "x", 0, ""},
		{"upgrade /a\x00b", 0, ""},
		{"\n", 0, ""},
		{"GET /metrics", 0, ""},
	} {
		kind, arg, ok := parseRequest([]byte(c.in))
		if kind != c.kind || ok != (c.kind != 0) || ok && arg != c.arg {
			t.Errorf("%.30q: %v, %.30q, %v", c.in, kind, arg, ok)
		}
	}
}

func TestNonsenseIsRefused(t *testing.T) {
	dir := t.TempDir()
	l := listen(t, dir)
	for _, request := range []string{"nonsense", "upgrade " + strings.Repeat("x", 20000)} {
		c := dial(t, dir)
		write(t, c, request)
		l.settle()
		if got := read(c); got != "error unknown request" {
			t.Errorf("%.20q: answer %q", request, got)
		}
	}
}

// Clients that never say anything have their time, and no more than their number.
func TestSilentClients(t *testing.T) {
	dir := t.TempDir()
	l := listen(t, dir)
	var silent []*net.UnixConn
	for range maxClients {
		silent = append(silent, dial(t, dir))
		l.settle()
	}
	if got := read(extra(t, l, dir)); got != "error too many are asking at the same time" {
		t.Errorf("one too many: %q", got)
	}
	limit := l.server.Deadline()
	if wait := limit - clock.Now(); wait <= 0 || wait > askTime {
		t.Errorf("deadline in %v", wait)
	}
	l.server.Tick(limit - 1)
	if l.server.Deadline() != limit {
		t.Error("given up too early")
	}
	l.server.Tick(limit + askTime)
	if got := read(silent[0]); got != "error timed out" || l.server.Deadline() != 0 {
		t.Errorf("after the limit: %q, deadline %v", got, l.server.Deadline())
	}
	c := dial(t, dir)
	write(t, c, "status")
	if r := l.request(); r.Kind != StatusRequest {
		t.Errorf("afterwards: %+v", r)
	}
}

// A client that asks again and again and never reads costs nobody anything.
func TestNeverReadingClient(t *testing.T) {
	dir := t.TempDir()
	l := listen(t, dir)
	before := openFDs(t)
	answer := make([]byte, 60<<10)
	for range 100 {
		c := dial(t, dir)
		write(t, c, "status")
		write(t, c, "status")
		r := l.request()
		start := time.Now()
		l.server.Answer(r.Client, answer)
		if d := time.Since(start); d > time.Second {
			t.Fatalf("answering took %v", d)
		}
		_ = c.Close()
	}
	l.settle()
	if n := openFDs(t); n != before {
		t.Errorf("%d descriptors, %d before", n, before)
	}
}

func TestOverlongAnswerEndsTheConnection(t *testing.T) {
	dir := t.TempDir()
	l := listen(t, dir)
	c := dial(t, dir)
	write(t, c, "status")
	l.server.Answer(l.request().Client, make([]byte, 64<<20))
	if got := read(c); got != "" {
		t.Errorf("%d bytes", len(got))
	}
}

// A client that leaves while it waits is noticed and does not wake us again.
func TestLeavingClient(t *testing.T) {
	dir := t.TempDir()
	l := listen(t, dir)
	c := dial(t, dir)
	write(t, c, "upgrade")
	if r := l.request(); r.Kind != UpgradeRequest {
		t.Fatalf("request %+v", r)
	}
	write(t, c, "status") // what it says now is not heard
	l.settle()
	if l.server.Deadline() == 0 {
		t.Fatal("the client is gone")
	}
	_ = c.Close()
	l.settle()
	if l.server.Deadline() != 0 {
		t.Error("the client is still there")
	}
	l.server.Upgraded("2")
}

func TestUpgradeFails(t *testing.T) {
	dir := t.TempDir()
	l := listen(t, dir)
	a, b := dial(t, dir), dial(t, dir)
	write(t, a, "upgrade")
	l.request()
	write(t, b, "upgrade /other")
	l.server.Refuse(l.request().Client, "busy")
	l.server.UpgradeFailed("no such file")
	if x, y := read(a), read(b); x != "error no such file" || y != "error busy" {
		t.Errorf("got %q and %q", x, y)
	}
}
