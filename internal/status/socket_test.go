package status

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/handoff"
	"conmon/internal/poll"
)

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

// askAs connects as another user, and returns what the server says to that. The
// user is a thread's, so the thread is not used again.
func askAs(uid int, path string) string {
	runtime.LockOSThread()
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
		return "setresuid: " + errno.Error()
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "socket: " + err.Error()
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return "connect: " + err.Error()
	}
	_, _ = unix.Write(fd, []byte("status"))
	b := make([]byte, 1000)
	n, err := unix.Read(fd, b)
	if err == unix.ECONNRESET { // our request was not read; the answer comes after
		n, err = unix.Read(fd, b)
	}
	if err != nil {
		return "read: " + err.Error()
	}
	return string(b[:n])
}
