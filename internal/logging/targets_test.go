package logging

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/config"
	"conmon/internal/stdio"
)

func TestOpenFails(t *testing.T) {
	dir := t.TempDir()
	unix.Mkfifo(dir+"/fifo", 0o600)
	unix.Mkfifo(dir+"/read", 0o600)
	reader, err := unix.Open(dir+"/read", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(reader)
	os.Mkdir(dir+"/allowed", 0o755)
	os.Mkdir(dir+"/allowed-not", 0o755)
	os.Symlink("../allowed-not", dir+"/allowed/link")
	os.Symlink("../outside", dir+"/allowed/file")
	for _, c := range []struct {
		path, want string
		allow      bool
	}{
		{dir + "/missing/log", "no such file or directory", false},
		{dir, "is a directory", false},
		{dir + "/fifo", "a fifo without a reader", false},
		{dir + "/read", "a fifo cannot be a log file", false},
		{dir + "/log/", "does not name a file", false},
		{dir + "/log", "not below", true},
		{dir + "/allowed/../log", "not below", true},
		{dir + "/allowed-not/log", "not below", true},
		{dir + "/allowed/link/log", "not below", true},
		{dir + "/allowed/file", "too many levels of symbolic links", true},
	} {
		cfg := testConfig(config.Log{Drivers: k8s(c.path)})
		if c.allow {
			cfg.Log.AllowlistDirs = []string{dir + "/nowhere", dir + "/allowed/"}
		}
		_, err := Open(cfg)
		if err == nil || !strings.HasPrefix(err.Error(), "Failed to open log file "+c.path+": ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.path, err)
		}
	}
	if exists(dir + "/outside") {
		t.Error("made a file outside of the allowed directories")
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	os.Mkdir(dir+"/allowed", 0o755)
	os.Symlink("allowed", dir+"/link")
	os.Symlink("log", dir+"/to-log")
	defer unix.Umask(unix.Umask(0))
	for _, c := range []struct {
		path, file string
		allow      []string
	}{
		{dir + "/log", dir + "/log", nil},
		{dir + "/to-log", dir + "/log", nil},
		{dir + "/allowed/log", dir + "/allowed/log", []string{dir + "/allowed"}},
		{dir + "/link/log2", dir + "/allowed/log2", []string{dir + "/allowed"}},
		{dir + "/allowed/log3", dir + "/allowed/log3", []string{dir + "/link"}},
		{dir + "/allowed/log4", dir + "/allowed/log4", []string{"/"}},
		{"/dev/null", "", nil},
	} {
		l := newLog(t, config.Log{Drivers: k8s(c.path), AllowlistDirs: c.allow})
		put(l, stdio.Stdout, "a\n")
		if err := l.Reopen(clock.Now()); err != nil {
			t.Errorf("%s: reopen: %v", c.path, err)
		}
		l.Finish(clock.Now() + clock.Second)
		if s := l.Stats().Drivers[0]; s.Errors != 0 {
			t.Errorf("%s: %s", c.path, s.LastError)
		}
		if c.file == "" {
			continue
		}
		want(t, entries(t, c.file), "stdout F a")
		if st, err := os.Stat(c.file); err != nil || st.Mode() != 0o640 {
			t.Errorf("%s: mode %v", c.path, st.Mode())
		}
		os.Remove(c.file)
	}
}

// Once it is open, a log's directory may not be swapped for a link out of the
// allowed ones.
func TestAllowlistWhenRotating(t *testing.T) {
	dir := t.TempDir()
	os.MkdirAll(dir+"/allowed/pod", 0o755)
	os.Mkdir(dir+"/outside", 0o755)
	path := dir + "/allowed/pod/log"
	l := newLog(t, config.Log{Drivers: k8s(path), AllowlistDirs: []string{dir + "/allowed"}, Rotate: true, MaxFiles: 1})
	os.Rename(dir+"/allowed/pod", dir+"/allowed/pod2")
	os.Symlink("../outside", dir+"/allowed/pod")
	os.WriteFile(dir+"/outside/log", []byte("precious"), 0o600)
	if err := l.Reopen(clock.Now()); err == nil {
		t.Error("no error")
	}
	put(l, stdio.Stdout, "a\n")
	want(t, entries(t, dir+"/allowed/pod2/log"), "stdout F a")
	if read(t, dir+"/outside/log") != "precious" {
		t.Error("touched a file outside")
	}
}

func TestParseLogger(t *testing.T) {
	for _, c := range []struct {
		spec string
		want string // path and arguments; "": an error
	}{
		{"/bin/logger", "/bin/logger"},
		{"/bin/logger?arg=-x&arg=a b", "/bin/logger|-x|a b"},
		{"/bin/logger?arg=", "/bin/logger|"},
		{"/bin/logger?arg=a%26b%25%3d+", "/bin/logger|a&b%=+"},
		{"/bin/logger?", ""},
		{"/bin/logger?arg", ""},
		{"/bin/logger?args=x", ""},
		{"/bin/logger?arg=a&", ""},
		{"/bin/logger?arg=%4", ""},
		{"/bin/logger?arg=%4g", ""},
		{"/bin/logger?arg=%00", ""},
	} {
		path, args, err := parseLogger(c.spec)
		got := strings.Join(append([]string{path}, args...), "|")
		if err != nil {
			got = ""
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.spec, got, c.want)
		}
	}
}
