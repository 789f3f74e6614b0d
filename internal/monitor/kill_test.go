package monitor

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHasEnded(t *testing.T) {
	if hasEnded(os.Getpid()) {
		t.Error("we have not ended")
	}
	cmd := exec.Command("/bin/true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	awaitExit(t, cmd.Process.Pid)
	if !hasEnded(cmd.Process.Pid) {
		t.Error("a process that is not reaped has ended")
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if !hasEnded(cmd.Process.Pid) {
		t.Error("a process that is reaped has ended")
	}
}

// A descendant whose parent has died, and is not reaped, is still recognised.
func TestKillOneWithADeadParent(t *testing.T) {
	cmd := exec.Command("/bin/sh", "-c", "sleep 100 >/dev/null & echo $!; exec >/dev/null; read x")
	gate, err := cmd.StdinPipe()
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
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	parent := parentOf(pid)
	if parent != cmd.Process.Pid {
		t.Fatalf("parent %d, want %d", parent, cmd.Process.Pid)
	}
	gate.Close()
	awaitExit(t, parent)
	if !killOne(pid, parent) {
		t.Error("the orphan was not killed")
	}
	awaitExit(t, pid)
	_ = cmd.Wait()
}

// awaitExit waits for a process's end and leaves it unreaped.
func awaitExit(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
		if err == unix.EINTR {
			continue
		}
		if n != 1 || err != nil {
			t.Fatalf("process %d has not ended: %v", pid, err)
		}
		return
	}
}
