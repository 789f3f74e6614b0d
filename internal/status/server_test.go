package status

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

func TestModeAndRemoval(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "status")
	before := openFDs(t)
	l := listen(t, dir)
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	// A successor in the same bundle, as with a container that is restarted.
	next := listen(t, dir)
	l.server.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the successor's socket: %v", err)
	}
	next.server.Close()
	next.server.Close()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("after closing: %v", err)
	}
	if n := openFDs(t) - before; n != 2 { // the two poll sets
		t.Errorf("%d descriptors more", n)
	}
}

func TestListenWhere(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 200))
	file, link := filepath.Join(t.TempDir(), "status"), filepath.Join(t.TempDir(), "status")
	for _, err := range []error{os.Mkdir(long, 0o700), os.WriteFile(file, []byte("mine"), 0o600), os.Symlink(file, link)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ name, dir, want string }{
		{"long path", long, ""},
		{"missing", "/nonexistent", "status socket in /nonexistent: open the bundle: no such file or directory"},
		{"a file there", filepath.Dir(file), "status socket in " + filepath.Dir(file) + ": status exists and is not a socket"},
		{"a link there", filepath.Dir(link), "status socket in " + filepath.Dir(link) + ": status exists and is not a socket"},
	} {
		p, err := poll.New()
		if err != nil {
			t.Fatal(err)
		}
		s, err := Listen(c.dir, p, owner)
		if got := text(err); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		s.Close()
	}
	if b, err := os.ReadFile(file); string(b) != "mine" {
		t.Errorf("the file is now %q, %v", b, err)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
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

func extra(t *testing.T, l *loop, dir string) *net.UnixConn {
	t.Helper()
	c := dial(t, dir)
	l.settle()
	return c
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

// The answer to an upgrade comes from the new image; nobody else notices.
func TestUpgrade(t *testing.T) {
	dir := t.TempDir()
	old := listen(t, dir)
	asker, silent, late := dial(t, dir), dial(t, dir), dial(t, dir)
	write(t, asker, "upgrade /new/conmon")
	if r := old.request(); r.Kind != UpgradeRequest || r.Arg != "/new/conmon" {
		t.Fatalf("request %+v", r)
	}
	old.settle()
	waiting := dial(t, dir) // in the socket's queue during the exec
	write(t, waiting, "status")
	l := takeOver(t, old)

	l.server.Upgraded("9.9.9")
	if got := read(asker); got != "ok upgraded: version 9.9.9" {
		t.Errorf("the asker got %q", got)
	}
	if r := l.request(); r.Kind != StatusRequest {
		t.Errorf("request %+v", r)
	} else {
		l.server.Answer(r.Client, []byte("{2}"))
	}
	if got := read(waiting); got != "{2}" {
		t.Errorf("the waiting one got %q", got)
	}
	write(t, late, "status")
	l.server.Answer(l.request().Client, []byte("{3}"))
	if got := read(late); got != "{3}" {
		t.Errorf("the late one got %q", got)
	}
	l.server.Close()
	if got := read(silent); got != "error the container has ended" {
		t.Errorf("the silent one got %q", got)
	}
	if _, err := os.Lstat(filepath.Join(dir, "status")); !os.IsNotExist(err) {
		t.Errorf("after closing: %v", err)
	}
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

// An exec session without a bundle has no server.
func TestNilServer(t *testing.T) {
	s, err := Load(new(handoff.State), nil, owner)
	if s != nil || err != nil {
		t.Fatalf("loaded %v, %v", s, err)
	}
	_, ok := s.Ready(poll.Event{})
	s.Tick(1)
	s.Answer(1, nil)
	s.Refuse(1, "")
	s.Upgraded("")
	s.UpgradeFailed("")
	s.Save(new(handoff.State))
	s.Close()
	if ok || s.Deadline() != 0 {
		t.Error("it does something")
	}
}

func TestStrangerIsNotTrusted(t *testing.T) {
	if unix.Geteuid() != 0 {
		t.Skip("needs root: a peer of another user")
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	if !trusted(pair[0]) {
		t.Error("we do not trust ourselves")
	}
	dir := t.TempDir()
	l := listen(t, dir)
	// Everybody may connect now, as if a container saw the bundle.
	for p := dir; p != "/tmp" && p != "/"; p = filepath.Dir(p) {
		if err := os.Chmod(p, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "status"), 0o777); err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 1)
	go func() { got <- askAs(65534, filepath.Join(dir, "status")) }()
	for end := clock.Now() + 5*clock.Second; ; {
		select {
		case answer := <-got:
			if answer != "error permission denied" {
				t.Errorf("answer %q", answer)
			}
			return
		default:
			if _, ok := l.turn(clock.Now() + 20*clock.Millisecond); ok || clock.Now() > end {
				t.Fatal("the stranger was heard")
			}
		}
	}
}
