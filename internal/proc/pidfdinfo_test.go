package proc

import (
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// grandchild starts a shell whose own child runs script once begun is called;
// the shell reaps that child after reap is called. The pidfd is the child's.
func grandchild(t *testing.T, script string) (pidfd int, begin, reap func()) {
	t.Helper()
	// The inner shell waits for a line on descriptor 3, the outer one on its
	// standard input before it waits for the inner one.
	gateR, gateW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", `/bin/sh -c 'read x <&3; `+script+`' & echo $!; read y; wait $!; exit 0`)
	cmd.ExtraFiles = []*os.File{gateR}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gateR.Close()
	var b [32]byte
	n, err := out.Read(b[:])
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil {
		t.Fatal(err)
	}
	pidfd, err = unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pidfd) })
	begin = func() { gateW.Close() }
	reap = func() {
		io.WriteString(in, "\n")
		if err := cmd.Wait(); err != nil {
			t.Errorf("the shell between: %v", err)
		}
	}
	return pidfd, begin, reap
}

// awaitEnd waits until the process behind pidfd has ended.
func awaitEnd(t *testing.T, pidfd int) {
	t.Helper()
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 10_000)
		if err == unix.EINTR {
			continue
		}
		if n != 1 || err != nil {
			t.Fatalf("poll: %d, %v", n, err)
		}
		return
	}
}

func TestExitInfoOfGrandchild(t *testing.T) {
	for _, c := range []struct {
		name, script string
		status       int
	}{
		{"exit 9", "exit 9", 9},
		{"exit 0", "exit 0", 0},
		{"killed", "kill -9 $$", 128 + 9},
	} {
		t.Run(c.name, func(t *testing.T) {
			pidfd, begin, reap := grandchild(t, c.script)
			if ws, ok := ExitInfo(pidfd); ok {
				t.Errorf("alive, yet it ended with %#x", ws)
			}
			begin()
			awaitEnd(t, pidfd)
			if os.Geteuid() == 0 {
				check(t, "unreaped", pidfd, c.status)
			}
			reap()
			if !keepsStatus(t) {
				if ws, ok := ExitInfo(pidfd); ok {
					t.Errorf("reaped on a kernel that keeps no status, yet %#x", ws)
				}
				return
			}
			check(t, "reaped", pidfd, c.status)
		})
	}
}

func check(t *testing.T, when string, pidfd, want int) {
	t.Helper()
	ws, ok := ExitInfo(pidfd)
	if status, _, _ := ExitStatus(ws); !ok || status != want {
		t.Errorf("%s: status %d, %v, want %d", when, status, ok, want)
	}
}

// keepsStatus tells whether this kernel tells the status of a reaped process.
func keepsStatus(t *testing.T) bool {
	t.Helper()
	cmd := exec.Command("/bin/true")
	pidfd := -1
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &pidfd}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	_, ok := reapedStatus(pidfd)
	return ok
}

func TestExitInfoOfNoPidfd(t *testing.T) {
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if ws, ok := ExitInfo(int(f.Fd())); ok {
		t.Errorf("/dev/null ended with %#x", ws)
	}
}

func TestParseZombie(t *testing.T) {
	tail := strings.Repeat(" 0", 48)
	for _, c := range []struct {
		name, stat string
		ws         unix.WaitStatus
		ok         bool
	}{
		{"zombie", "7 (sh) Z" + tail + " 2304\n", 0x900, true},
		{"name with a bracket", "7 (a) Z) Z" + tail + " 9\n", 9, true},
		{"running", "7 (sh) R" + tail + " 0\n", 0, false},
		{"cut off", "7 (sh) Z 1 2 3", 0, false},
		{"negative", "7 (sh) Z" + tail + " -1\n", 0, false},
		{"empty", "", 0, false},
	} {
		if ws, ok := parseZombie([]byte(c.stat)); ok != c.ok || ok && ws != c.ws {
			t.Errorf("%s: %#x, %v, want %#x, %v", c.name, ws, ok, c.ws, c.ok)
		}
	}
}

func FuzzParseZombie(f *testing.F) {
	f.Add([]byte("7 (sh) Z" + strings.Repeat(" 0", 48) + " 2304\n"))
	f.Add([]byte(")"))
	f.Fuzz(func(t *testing.T, stat []byte) {
		if ws, ok := parseZombie(stat); ok && ws > 0xffff {
			t.Errorf("wait status %#x", ws)
		}
	})
}
