package client

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	monitor "conmon/internal/status/client"
)

func TestParseKeys(t *testing.T) {
	for _, c := range []struct {
		in, want string
		fails    bool
	}{
		{"ctrl-p,ctrl-q", "\x10\x11", false},
		{"", "", false},
		{"a", "a", false},
		{"ctrl-a,a,Z,5", "\x01aZ5", false},
		{"ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", "\x00\x1b\x1c\x1d\x1e\x1f", false},
		{"DEL", "\x7f", false},
		{"ctrl-P", "\x10", false},
		{"ctrl-", "", true},
		{"ctrl-1", "", true},
		{"ctrl-pq", "", true},
		{"ab", "", true},
		{"a,,b", "", true},
		{"ctrl-p,", "", true},
	} {
		got, err := ParseKeys(c.in)
		if string(got) != c.want || (err != nil) != c.fails {
			t.Errorf("%q: %q, %v", c.in, got, err)
		}
	}
}

func TestScan(t *testing.T) {
	for _, c := range []struct {
		name, keys, in, out string
		found               bool
	}{
		{"typed", "\x10\x11", "ls\n\x10\x11", "ls\n", true},
		{"what follows is dropped", "\x10\x11", "a\x10\x11b", "a", true},
		{"only the first", "\x10\x11", "a\x10b", "a\x10b", false},
		{"first twice", "\x10\x11", "\x10\x10\x11", "\x10", true},
		{"overlap", "aab", "aaab", "a", true},
		{"longer overlap", "ababc", "abababc", "ab", true},
		{"none wanted", "", "\x10\x11", "\x10\x11", false},
		{"one key", "q", "aqb", "a", true},
		{"unfinished", "abc", "xab", "xab", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, step := range []int{1, 2, len(c.in)} {
				if out, found := typeIn(c.keys, c.in, step); out != c.out || found != c.found {
					t.Errorf("in steps of %d: %q %v", step, out, found)
				}
			}
		})
	}
}

// typeIn scans in by pieces of step bytes.
func typeIn(keys, in string, step int) (string, bool) {
	s := scanner{keys: []byte(keys)}
	var out []byte
	for len(in) > 0 {
		n := min(max(step, 1), len(in))
		var found bool
		if out, found = s.scan(out, []byte(in[:n])); found {
			return string(out), true
		}
		in = in[n:]
	}
	return string(s.rest(out)), false
}

func FuzzScan(f *testing.F) {
	f.Add("ctrl-p,ctrl-q", "a\x10\x10\x11", 1)
	f.Add("a,b,a,b,c", "abababc", 3)
	f.Fuzz(func(t *testing.T, text, in string, step int) {
		parsed, err := ParseKeys(text)
		if err != nil {
			return
		}
		keys := string(parsed)
		want, _, wantFound := strings.Cut(in, keys)
		if keys == "" {
			want, wantFound = in, false
		}
		if out, found := typeIn(keys, in, step); out != want || found != wantFound {
			t.Fatalf("%q in %q: got %q %v, want %q %v", keys, in, out, found, want, wantFound)
		}
	})
}

// listen plays the monitor in a new bundle with a long path.
func listen(t *testing.T) (bundle string, fd int) {
	t.Helper()
	bundle = filepath.Join(t.TempDir(), strings.Repeat("b", 120))
	if err := os.Mkdir(bundle, 0o700); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(bundle)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/attach"}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
	return bundle, fd
}

func accept(t *testing.T, fd int) int {
	t.Helper()
	c, _, err := unix.Accept(fd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(c) })
	return c
}

// readAll reads packets until the client's input ends.
func readAll(t *testing.T, fd int) (all []byte) {
	t.Helper()
	b := make([]byte, inputPacket)
	for {
		n, err := unix.Read(fd, b)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return all
		}
		all = append(all, b[:n]...)
	}
}

func TestSession(t *testing.T) {
	bundle, listener := listen(t)
	c, err := Dial(bundle)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	server := accept(t, listener)
	input := bytes.Repeat([]byte("0123456789\x10"), 20000)
	done := make(chan []byte)
	go func() {
		got := readAll(t, server)
		for _, packet := range []string{"\x02out", "\x03err", "\x02 and more"} {
			_, _ = unix.Write(server, []byte(packet))
		}
		_ = unix.Shutdown(server, unix.SHUT_WR)
		done <- got
	}()
	var out, errs bytes.Buffer
	detached, err := c.Run(Streams{In: bytes.NewReader(input), Out: &out, Err: &errs, DetachKeys: []byte("\x10\x11")})
	if err != nil || detached || out.String() != "out and more" || errs.String() != "err" {
		t.Errorf("%v %v %q %q", detached, err, &out, &errs)
	}
	if got := <-done; !bytes.Equal(got, input) {
		t.Errorf("the monitor got %d bytes of %d", len(got), len(input))
	}
}

func TestDetach(t *testing.T) {
	bundle, listener := listen(t)
	c, err := Dial(bundle)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	server := accept(t, listener)
	r, w := io.Pipe()
	go func() { _, _ = w.Write([]byte("ls\n\x10\x11")) }()
	detached, err := c.Run(Streams{In: r, Out: io.Discard, Err: io.Discard, DetachKeys: []byte("\x10\x11")})
	if !detached || err != nil {
		t.Error(detached, err)
	}
	if got := string(readAll(t, server)); got != "ls\n" {
		t.Errorf("the monitor got %q", got)
	}
}

func TestHangup(t *testing.T) {
	bundle, listener := listen(t)
	c, err := Dial(bundle)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	accept(t, listener)
	go c.Hangup()
	if detached, err := c.Run(Streams{Out: io.Discard, Err: io.Discard}); detached || err != nil {
		t.Error(detached, err)
	}
}

func TestDialFails(t *testing.T) {
	empty := t.TempDir()
	if _, err := Dial(empty); !errors.Is(err, monitor.ErrNoMonitor) {
		t.Error(err)
	}
	bundle, listener := listen(t)
	unix.Close(listener)
	if _, err := Dial(bundle); !errors.Is(err, monitor.ErrNoMonitor) {
		t.Error(err)
	}
	if _, err := Dial("/nonexistent"); err == nil {
		t.Error("no error for a missing bundle")
	}
}
