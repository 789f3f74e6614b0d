package notify

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"conmon/internal/handoff"
	"conmon/internal/poll"
)

func TestFilter(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"READY=1", "READY=1\n"},
		{"READY=1\n", "READY=1\n"},
		{"MAINPID=1\nREADY=1\nSTATUS=up and running", "READY=1\nSTATUS=up and running\n"},
		{"MAINPID=1", ""},
		{"READY=0", ""},
		{"READY=1x", ""},
		{" READY=1", ""},
		{"WATCHDOG=trigger\nWATCHDOG=1\nWATCHDOG_USEC=5", "WATCHDOG=trigger\nWATCHDOG=1\n"},
		{"FDSTORE=1\nERRNO=2\nBUSERROR=x\nMONOTONIC_USEC=7\nRELOADING=1\nSTOPPING=1", "ERRNO=2\nBUSERROR=x\nMONOTONIC_USEC=7\nRELOADING=1\nSTOPPING=1\n"},
		{"X=1\x00\nREADY=1", "READY=1\n"},
		{"", ""},
	} {
		if got := string(filter(nil, []byte(tc.in))); got != tc.want {
			t.Errorf("%q: %q, want %q", tc.in, got, tc.want)
		}
	}
}

func FuzzFilter(f *testing.F) {
	f.Add([]byte("READY=1\nMAINPID=7\n"))
	f.Fuzz(func(t *testing.T, message []byte) {
		for line := range strings.Lines(string(filter(nil, message))) {
			if !passes([]byte(strings.TrimSuffix(line, "\n"))) {
				t.Fatalf("%q passed", line)
			}
		}
	})
}

// dgram binds a datagram socket.
func dgram(t *testing.T, path string) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if path != "" {
		if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
			t.Fatal(err)
		}
	}
	return fd
}

func TestRelay(t *testing.T) {
	// Longer than a socket's address.
	bundle := filepath.Join(t.TempDir(), strings.Repeat("b", 100))
	if err := os.MkdirAll(filepath.Join(bundle, dir), 0o755); err != nil {
		t.Fatal(err)
	}
	hostPath := filepath.Join(t.TempDir(), "host")
	host := dgram(t, hostPath)
	p, err := poll.New()
	if err != nil {
		t.Fatal(err)
	}
	r, err := Listen(bundle, hostPath, p, 1)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(bundle, dir, name)); err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("socket: %v, %v", info, err)
	}
	d, err := os.Open(filepath.Join(bundle, dir))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	container := dgram(t, "")
	send := func(s string) {
		t.Helper()
		to := &unix.SockaddrUnix{Name: filepath.Join("/proc/self/fd", strconv.Itoa(int(d.Fd())), name)}
		if err := unix.Sendto(container, []byte(s), 0, to); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(want string) {
		t.Helper()
		var b [4096]byte
		n, err := unix.Read(host, b[:])
		if err != nil || string(b[:n]) != want {
			t.Errorf("host got %q, %v, want %q", b[:max(n, 0)], err, want)
		}
	}
	send("MAINPID=1\nREADY=1")
	r.Ready(poll.Event{})
	expect("READY=1\n")

	// Across an upgrade nothing that waits is lost.
	send("STATUS=later")
	st := new(handoff.State)
	r.Save(st)
	p.Remove(r.in)
	if r, err = Load(st, p, 1); err != nil {
		t.Fatal(err)
	}
	r.Drain()
	expect("STATUS=later\n")

	r.Close()
	if _, err := os.Lstat(filepath.Join(bundle, dir, name)); !os.IsNotExist(err) {
		t.Errorf("the socket stays: %v", err)
	}
}
