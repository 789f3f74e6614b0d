package proc

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// run starts a shell script with c's settings and returns what it printed.
func run(t *testing.T, c Command, script string) string {
	t.Helper()
	return start(t, c, "/bin/sh", "-c", script)
}

func start(t *testing.T, c Command, argv ...string) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c.Path, c.Argv = argv[0], argv
	c.Files = []int{-1, int(w.Fd()), -1}
	pid, pidfd, err := Start(&c)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	out, err := readToEnd(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Wait4(pid, nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func readToEnd(f *os.File) (string, error) {
	var b strings.Builder
	_, err := f.WriteTo(&b)
	return b.String(), err
}

func TestStartGivesCleanSignals(t *testing.T) {
	// Not through a shell: it changes them.
	out := start(t, Command{}, "/bin/cat", "/proc/self/status")
	for _, name := range []string{"SigBlk", "SigIgn", "SigCgt"} {
		if !strings.Contains(out, name+":\t0000000000000000\n") {
			t.Errorf("%s is not empty in\n%s", name, out)
		}
	}
}

func TestStartBlocksWhatIsAsked(t *testing.T) {
	_, out, _ := strings.Cut(start(t, Command{Blocked: Handled()}, "/bin/cat", "/proc/self/status"), "SigBlk:\t")
	out, _, _ = strings.Cut(out, "\n")
	want := uint64(1<<(unix.SIGHUP-1) | 1<<(unix.SIGINT-1) | 1<<(unix.SIGQUIT-1) | 1<<(unix.SIGTERM-1) |
		1<<(unix.SIGUSR1-1) | 1<<(unix.SIGUSR2-1) | 1<<(unix.SIGCHLD-1) | 1<<(unix.SIGPIPE-1))
	got, err := strconv.ParseUint(out, 16, 64)
	if err != nil || got != want {
		t.Errorf("%s, want %016x", out, want)
	}
}

func TestStartFillsListenPidIn(t *testing.T) {
	out := run(t, Command{ListenPid: true, Env: []string{"A=b"}}, `test "$LISTEN_PID" = $$ && echo $A`)
	if out != "b" {
		t.Errorf("printed %q", out)
	}
}

func TestStartSetsid(t *testing.T) {
	if out := run(t, Command{Setsid: true}, `test "$(cut -d' ' -f6 /proc/$$/stat)" = $$ && echo leader`); out != "leader" {
		t.Errorf("printed %q", out)
	}
}

func TestStartClosesOthers(t *testing.T) {
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFD, 0); err != nil {
		t.Fatal(err)
	}
	name := strconv.Itoa(int(f.Fd()))
	script := "test -e /proc/$$/fd/" + name + " && echo open || echo closed"
	if out := run(t, Command{}, script); out != "open" {
		t.Errorf("an inherited descriptor is %s", out)
	}
	if out := run(t, Command{CloseOthers: true}, script); out != "closed" {
		t.Errorf("with CloseOthers it is %s", out)
	}
}

func TestStartReportsExecErrors(t *testing.T) {
	_, _, err := Start(&Command{Path: "/nonexistent", Argv: []string{"x"}})
	if err == nil || !strings.Contains(err.Error(), "exec /nonexistent: no such file") {
		t.Errorf("error %v", err)
	}
}

func TestStartIsIdle(t *testing.T) {
	if out := run(t, Command{Idle: true}, "cut -d' ' -f41 /proc/$$/stat"); out != "5" {
		t.Errorf("scheduling policy %s, want 5 (idle)", out)
	}
}

// The targets overlap the sources: 3 and 4 change places.
func TestStartExchangesDescriptors(t *testing.T) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	files := []int{-1, -1, -1}
	for len(files) <= p[1] {
		files = append(files, p[0], p[1])
	}
	c := Command{Path: "/bin/sh", Argv: []string{"sh", "-c", "test -p /proc/self/fd/3 && test -p /proc/self/fd/4 && test ! -e /proc/self/fd/" + strconv.Itoa(len(files)+20)}, Files: files, CloseOthers: true}
	pid, pidfd, err := Start(&c)
	unix.Close(p[0])
	unix.Close(p[1])
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, 0, nil); err != nil || ws != 0 {
		t.Errorf("status %#x, %v", ws, err)
	}
}
