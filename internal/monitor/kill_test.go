package monitor

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
)

func TestLook(t *testing.T) {
	c := newCensus(1)
	defer c.close()
	self, alive := c.look(int32(os.Getpid()))
	if !alive || int(self.parent) != os.Getppid() || self.start == 0 {
		t.Errorf("we look like %+v, alive %v", self, alive)
	}
	cmd := exec.Command("/bin/true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	awaitExit(t, cmd.Process.Pid)
	child, alive := c.look(int32(cmd.Process.Pid))
	if alive || int(child.parent) != os.Getpid() || child.start < self.start {
		t.Errorf("a process that is not reaped: %+v, alive %v", child, alive)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, alive := c.look(int32(cmd.Process.Pid)); alive {
		t.Error("a process that is reaped is alive")
	}
}

// family is a shell with a child of its own; it ends when gate is closed.
func family(t *testing.T) (shell *exec.Cmd, gate io.Closer, child int) {
	t.Helper()
	shell = exec.Command("/bin/sh", "-c", "sleep 100 >/dev/null & echo $!; exec >/dev/null; read x")
	gate, err := shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := shell.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if child, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		t.Fatal(err)
	}
	return shell, gate, child
}

// A descendant whose parent has died, and is not reaped, is still recognised;
// another process with its number is not.
func TestKillOneWithADeadParent(t *testing.T) {
	shell, gate, pid := family(t)
	c := newCensus(1)
	defer c.close()
	p, alive := c.look(int32(pid))
	if !alive || int(p.parent) != shell.Process.Pid {
		t.Fatalf("parent %d, want %d", p.parent, shell.Process.Pid)
	}
	gate.Close()
	awaitExit(t, shell.Process.Pid)
	other := p
	other.start--
	if c.killOne(&other) {
		t.Error("a process that was started at another time was killed")
	}
	if !c.killOne(&p) {
		t.Error("the orphan was not killed")
	}
	awaitExit(t, pid)
	_ = shell.Wait()
}

// A whole tree is found, with parents before their children, and killed.
func TestKillTree(t *testing.T) {
	shell, gate, pid := family(t)
	defer gate.Close()
	s := session{census: newCensus(shell.Process.Pid)}
	defer s.close()
	s.scan(deadlineIn(60 * clock.Second))
	depth := func(pid int) int32 {
		i := find(s.rows, int32(pid))
		if i < 0 {
			t.Fatalf("%d was not found", pid)
		}
		return s.rows[i].depth
	}
	if a, b, us := depth(shell.Process.Pid), depth(pid), depth(os.Getpid()); a != 1 || b != 2 || us != outside {
		t.Errorf("depths %d and %d, ours %d", a, b, us)
	}
	if !s.killAll(deadlineIn(60 * clock.Second)) {
		t.Error("nobody was killed")
	}
	awaitExit(t, shell.Process.Pid)
	awaitExit(t, pid)
	_ = shell.Wait()
}

// Who has left the tree is known by the pipe that it holds.
func TestHoldsPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(r.Fd())))
	if err != nil {
		t.Fatal(err)
	}
	c := newCensus(1)
	defer c.close()
	if !c.holdsAny(int32(os.Getpid()), []string{"pipe:[1]", name}) {
		t.Error("we do not hold our pipe")
	}
	if c.holdsAny(int32(os.Getpid()), []string{"pipe:[1]"}) {
		t.Error("we hold another's")
	}
}

func TestDepths(t *testing.T) {
	c := newCensus(10)
	defer c.close()
	c.seen = addRow(c.seen, process{pid: 60})
	for _, p := range []process{
		{pid: 1},
		{pid: 5, parent: 11},
		{pid: 10, parent: 1},
		{pid: 11, parent: 10},
		{pid: 20, parent: 1},
		{pid: 21, parent: 20},
		{pid: 30, parent: 31},
		{pid: 31, parent: 30},
		{pid: 40, parent: 39},
		{pid: 61, parent: 60},
	} {
		c.rows = addRow(c.rows, p)
	}
	want := []int32{outside, 3, 1, 2, outside, outside, outside, outside, outside, 1}
	for i := range c.rows {
		c.findDepth(i)
	}
	for i, p := range c.rows {
		if p.depth != want[i] {
			t.Errorf("depth of %d is %d, want %d", p.pid, p.depth, want[i])
		}
	}
}

// However many processes there are, nothing is left on a heap that is never freed.
func TestCensusAllocates(t *testing.T) {
	s := session{census: newCensus(os.Getpid()), pipes: []string{"pipe:[1]"}}
	defer s.close()
	s.cgroup = string(s.read(int32(os.Getpid()), "/cgroup"))
	s.scan(deadlineIn(60 * clock.Second))
	if n := testing.AllocsPerRun(5, func() { s.scan(deadlineIn(60 * clock.Second)) }); n > 2 {
		t.Errorf("%v allocations per scan of %d processes", n, len(s.rows))
	}
	for range 3 * censusRows {
		s.rows = addRow(s.rows, process{pid: 7})
	}
	if last := s.rows[len(s.rows)-1]; last.pid != 7 {
		t.Errorf("%+v", last)
	}
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
