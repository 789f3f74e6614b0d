package proc

import (
	"fmt"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Command is a program to start. The child gets default signal dispositions,
// close-on-exec descriptors closed, and everything else as the fields say.
type Command struct {
	Path string
	Argv []string
	Env  []string
	// Files[i] becomes the child's descriptor i; a negative one is left as it is.
	// They are borrowed.
	Files []int
	// Blocked is the child's signal mask.
	Blocked unix.Sigset_t
	// ParentDeath kills the child when the thread that starts it ends. The Go
	// runtime keeps its threads, so that means: when the monitor ends.
	ParentDeath bool
	// Setsid makes the child the leader of a new session.
	Setsid bool
	// CloseOthers closes every descriptor above those of Files and above 2.
	CloseOthers bool
	// ListenPid fills the child's pid in for LISTEN_PID, which must not be in Env.
	ListenPid bool
	// OOMScoreAdj is written to the child's oom_score_adj unless empty.
	OOMScoreAdj string
	// Idle runs the child at idle CPU and disk priority.
	Idle bool
}

// Start starts c and returns its pid and a pidfd, close-on-exec, that the caller
// owns. An error of the exec itself is returned here too, unless that hangs.
//
// This is not syscall.ForkExec because that gives a child the mask its own
// thread was born with, and the monitor's threads are born with the signals
// blocked that arrive through a signalfd; a container must not inherit that.
func Start(c *Command) (pid, pidfd int, err error) {
	l, err := prepare(c)
	if err != nil {
		return 0, -1, err
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return 0, -1, fmt.Errorf("pipe: %w", err)
	}
	l.status = p[1]
	pid, fd, errno := fork(l)
	_ = unix.Close(p[1])
	defer unix.Close(p[0])
	if errno != 0 {
		return 0, -1, fmt.Errorf("fork: %w", errno)
	}
	if !answers(p[0]) {
		return pid, int(fd), nil
	}
	var report [8]byte
	n, err := readFull(p[0], report[:])
	if n < len(report) { // closed by the exec: the program runs
		return pid, int(fd), err
	}
	_ = unix.Close(int(fd))
	_, _ = unix.Wait4(pid, nil, 0, nil)
	failed := syscall.Errno(*(*uint64)(unsafe.Pointer(&report)))
	return 0, -1, fmt.Errorf("exec %s: %w", c.Path, failed)
}

// execTime bounds the wait for an exec, in milliseconds. It closes what is
// close-on-exec, and closing a file on a dead server may take for ever: then the
// child hangs, and the monitor must not hang with it.
const execTime = 1000

// answers waits until the status pipe can be read or was closed by the exec.
func answers(fd int) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, execTime)
		if err != unix.EINTR {
			return n != 0
		}
	}
}

// readFull reads until b is full or the other end is closed.
func readFull(fd int, b []byte) (n int, err error) {
	for n < len(b) {
		m, err := unix.Read(fd, b[n:])
		if err == unix.EINTR {
			continue
		}
		if m <= 0 || err != nil {
			return n, err
		}
		n += m
	}
	return n, nil
}

func prepare(c *Command) (*launch, error) {
	l := &launch{
		files: slices.Clone(c.Files), scratch: max(len(c.Files), 3), blocked: uint64(c.Blocked.Val[0]), all: ^uint64(0), parent: unix.Getpid(),
		pdeath: c.ParentDeath, setsid: c.Setsid, closeOthers: c.CloseOthers, idle: c.Idle,
	}
	var err error
	if l.path, err = unix.BytePtrFromString(c.Path); err != nil {
		return nil, fmt.Errorf("start %q: %w", c.Path, err)
	}
	if l.argv, err = syscall.SlicePtrFromStrings(c.Argv); err != nil {
		return nil, fmt.Errorf("arguments of %s: %w", c.Path, err)
	}
	env := c.Env
	if c.ListenPid {
		env = append(append([]string(nil), env...), "")
	}
	if l.envv, err = syscall.SlicePtrFromStrings(env); err != nil {
		return nil, fmt.Errorf("environment of %s: %w", c.Path, err)
	}
	if c.ListenPid {
		l.listenPid = make([]byte, len(listenPidPrefix)+12)
		copy(l.listenPid, listenPidPrefix)
		l.envv[len(env)-1] = &l.listenPid[0]
	}
	if c.OOMScoreAdj != "" {
		l.oomPath, _ = unix.BytePtrFromString(oomScoreAdjPath)
		l.oom = []byte(c.OOMScoreAdj)
	}
	return l, nil
}

const listenPidPrefix = "LISTEN_PID="

// fork makes the child. Nothing between blocking the signals and unblocking
// them may be preempted: the function and all it calls are nosplit. While the
// child is in our memory, no handler of ours may run in it: that is what the
// signals are blocked for.
//
//go:norace
//go:nosplit
func fork(l *launch) (pid int, pidfd int32, errno syscall.Errno) {
	pidfd = -1
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&l.all)), uintptr(unsafe.Pointer(&l.old)), sigsetSize, 0, 0)
	r, e := vfork(uintptr(unix.SIGCHLD)|unix.CLONE_PIDFD|vforkFlags, &pidfd)
	if r == 0 && e == 0 {
		child(l) // does not return
	}
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&l.old)), 0, sigsetSize, 0, 0)
	return int(r), pidfd, syscall.Errno(e)
}
