package attach

import (
	"os"
	"path/filepath"
	"strings"
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

// TestTooManyClients: they wait until there is room.
func TestTooManyClients(t *testing.T) {
	r := newRig(t, Options{})
	r.s.maxClients = 2
	first := dial(t, r.opts.Bundle+"/attach")
	for range 2 {
		dial(t, r.opts.Bundle+"/attach")
	}
	r.until("two accepted", func() bool { return len(r.s.Stats().Clients) == 2 })
	if r.turn(20 * clock.Millisecond); len(r.s.Stats().Clients) != 2 {
		t.Error("more than there is room for")
	}
	first.close()
	r.until("the third is accepted", func() bool { return r.s.totals.accepted == 3 })
}

// TestNoDescriptors: a monitor that has run out of descriptors neither spins nor
// forgets who waits.
func TestNoDescriptors(t *testing.T) {
	r := newRig(t, Options{})
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	c := dial(t, r.opts.Bundle+"/attach")
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	r.turn(clock.Second)
	if r.turn(20 * clock.Millisecond) {
		t.Error("the loop is kept busy")
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	r.until("accepted", func() bool { return len(r.s.Stats().Clients) == 1 })
	r.s.Output(stdio.Stdout, []byte("hello"))
	if c.read(); string(c.got[0]) != "hello" {
		t.Errorf("got %q", c.got[0])
	}
}
