package logging

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/config"
	"conmon/internal/stdio"
)

func TestReopen(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(path string)
		rotate bool
		want   map[string]string
	}{
		{"same file", func(string) {}, false, map[string]string{"": "aaaa bbbb"}},
		{"renamed away", func(p string) { os.Rename(p, p+".old") }, false, map[string]string{"": "bbbb", ".old": "aaaa"}},
		{"removed", func(p string) { os.Remove(p) }, false, map[string]string{"": "bbbb"}},
		{"another file there", func(p string) {
			os.Rename(p, p+".old")
			os.WriteFile(p, nil, 0o640)
		}, false, map[string]string{"": "bbbb", ".old": "aaaa"}},
		{"rotate", func(string) {}, true, map[string]string{"": "bbbb", ".1": "aaaa"}},
		{"rotate, renamed away", func(p string) { os.Rename(p, p+".old") }, true, map[string]string{"": "bbbb", ".old": "aaaa"}},
		{"copytruncate", func(p string) {
			b, _ := os.ReadFile(p)
			os.WriteFile(p+".copy", b, 0o640)
			os.Truncate(p, 0)
		}, false, map[string]string{"": "bbbb", ".copy": "aaaa"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := t.TempDir() + "/log"
			l := newLog(t, config.Log{Drivers: k8s(path), Rotate: c.rotate})
			put(l, stdio.Stdout, "aaaa\n")
			c.before(path)
			events := watchFor(t, path, unix.IN_CREATE|unix.IN_MODIFY)
			if err := l.Reopen(clock.Now()); err != nil {
				t.Fatal(err)
			}
			if !events() {
				t.Error("no inotify event on the path")
			}
			put(l, stdio.Stdout, "bbbb\n")
			for suffix, w := range c.want {
				got := strings.ReplaceAll(strings.Join(entries(t, path+suffix), " "), "stdout F ", "")
				if got != w {
					t.Errorf("%q has %q, want %q", suffix, got, w)
				}
			}
			if s := l.Stats().Drivers[0]; s.Reopens != 1 {
				t.Errorf("counted %d reopenings", s.Reopens)
			}
		})
	}
}

// watchFor watches path's directory. The returned function reports whether there
// was one of the events for path.
func watchFor(t *testing.T, path string, mask uint32) func() bool {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), mask); err != nil {
		t.Fatal(err)
	}
	return func() bool {
		b := make([]byte, 4096)
		n, _ := unix.Read(fd, b)
		return bytes.Contains(b[:max(n, 0)], []byte(filepath.Base(path)+"\x00"))
	}
}

// An error while reopening leaves the log where it is.
func TestReopenFails(t *testing.T) {
	dir := t.TempDir() + "/d"
	os.Mkdir(dir, 0o755)
	l := newLog(t, config.Log{Drivers: k8s(dir + "/log")})
	os.Rename(dir, dir+"2")
	if err := l.Reopen(clock.Now()); err == nil {
		t.Error("no error")
	}
	put(l, stdio.Stdout, "a\n")
	want(t, entries(t, dir+"2/log"), "stdout F a")
	if s := l.Stats().Drivers[0]; s.Errors != 1 || !strings.HasPrefix(s.LastError, "reopen ") {
		t.Errorf("stats: %d %q", s.Errors, s.LastError)
	}
}

// A thousand reopenings under load, half of them after a rename: every line is
// in one file, in order.
func TestReopenUnderLoad(t *testing.T) {
	path := t.TempDir() + "/log"
	l := newLog(t, config.Log{Drivers: k8s(path), FlushInterval: int64(time.Hour)})
	var sent, got bytes.Buffer
	var files []string
	for i := range 1000 {
		text := strings.Repeat(fmt.Sprint("line ", i, "\n"), i%7+1) + "begin"
		sent.WriteString(text)
		put(l, stdio.Stdout, text)
		if i%2 == 0 {
			files = append(files, fmt.Sprint(path, ".", i))
			os.Rename(path, files[len(files)-1])
		}
		if err := l.Reopen(clock.Now()); err != nil {
			t.Fatal(err)
		}
	}
	eof(l, stdio.Stdout)
	for _, f := range append(files, path) {
		got.WriteString(plain(t, f))
	}
	if got.String() != sent.String() {
		t.Errorf("sent %d bytes, logged %d others", sent.Len(), got.Len())
	}
}
