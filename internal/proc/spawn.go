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

// launch is a Command in the shape that the child can use: it runs as a thread
// that the Go runtime does not know, in this process's memory or a copy of it, and
// must neither allocate nor grow its stack.
type launch struct {
	path, oomPath  *byte
	argv, envv     []*byte
	files          []int  // a copy
	status         int    // the pipe's writing end, close-on-exec
	scratch        int    // first descriptor that is nobody's target
	blocked        uint64 // the kernel's set: 64 signals
	all, old       uint64 // the mask around the fork
	listenPid      []byte // "LISTEN_PID=" and room for digits, nil: none
	oom            []byte
	parent         int
	pdeath, setsid bool
	closeOthers    bool
	idle           bool
}

// sigsetSize is the kernel's sigset_t: 64 signals.
const sigsetSize = 8

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

// child turns the forked process into the program. It ends by exec or exit.
//
//go:norace
//go:nosplit
func child(l *launch) {
	errno := become(l)
	report := uint64(errno)
	syscall.RawSyscall(unix.SYS_WRITE, uintptr(l.status), uintptr(unsafe.Pointer(&report)), 8)
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 127, 0, 0)
	}
}

//go:norace
//go:nosplit
func become(l *launch) syscall.Errno {
	if l.pdeath {
		syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0)
		if ppid, _, _ := syscall.RawSyscall(unix.SYS_GETPPID, 0, 0, 0); int(ppid) != l.parent {
			return syscall.ESRCH // the monitor died before the line above
		}
	}
	if l.setsid {
		syscall.RawSyscall(unix.SYS_SETSID, 0, 0, 0)
	}
	if len(l.oom) > 0 {
		fd, _, errno := syscall.RawSyscall6(unix.SYS_OPENAT, fdCwd, uintptr(unsafe.Pointer(l.oomPath)), unix.O_WRONLY|unix.O_CLOEXEC, 0, 0, 0)
		if errno == 0 {
			syscall.RawSyscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(&l.oom[0])), uintptr(len(l.oom)))
		}
	}
	if l.idle {
		makeIdle()
	}
	if errno := arrange(l); errno != 0 {
		return errno
	}
	if l.listenPid != nil {
		pid, _, _ := syscall.RawSyscall(unix.SYS_GETPID, 0, 0, 0)
		putDecimal(l.listenPid[len(listenPidPrefix):], int(pid))
	}
	resetSignals(&l.blocked)
	_, _, errno := syscall.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(l.path)),
		uintptr(unsafe.Pointer(&l.argv[0])), uintptr(unsafe.Pointer(&l.envv[0])))
	return errno
}

// fdCwd is AT_FDCWD as a system call's argument.
const fdCwd = ^uintptr(99)

// arrange puts the descriptors in place. Whatever lies where a descriptor is to
// go is moved out of the way first, the status pipe too.
//
//go:norace
//go:nosplit
func arrange(l *launch) syscall.Errno {
	if l.status < l.scratch && !moveUp(&l.status, l.scratch) {
		return syscall.EMFILE
	}
	for i := range l.files {
		if fd := l.files[i]; fd >= 0 && fd < l.scratch && fd != i && !moveUp(&l.files[i], l.scratch) {
			return syscall.EMFILE
		}
	}
	for i, fd := range l.files {
		var errno syscall.Errno
		switch {
		case fd < 0:
			continue
		case fd == i:
			_, _, errno = syscall.RawSyscall(unix.SYS_FCNTL, uintptr(fd), unix.F_SETFD, 0)
		default:
			_, _, errno = syscall.RawSyscall(unix.SYS_DUP3, uintptr(fd), uintptr(i), 0)
		}
		if errno != 0 {
			return errno
		}
	}
	if l.closeOthers {
		// Marked, not closed: the status pipe must live until the exec.
		syscall.RawSyscall(unix.SYS_CLOSE_RANGE, uintptr(l.scratch), 1<<32-1, unix.CLOSE_RANGE_CLOEXEC)
	}
	return 0
}

// moveUp duplicates a descriptor to one at or above least.
//
//go:norace
//go:nosplit
func moveUp(fd *int, least int) bool {
	r, _, errno := syscall.RawSyscall(unix.SYS_FCNTL, uintptr(*fd), unix.F_DUPFD_CLOEXEC, uintptr(least))
	*fd = int(r)
	return errno == 0
}

// makeIdle lowers the CPU and disk priority as far as they go; the kernel may
// refuse, which only makes the child less polite.
//
//go:norace
//go:nosplit
func makeIdle() {
	const (
		schedIdle     = 5
		ioprioProcess = 1
		ioprioIdle    = 3 << 13
	)
	var param int32
	syscall.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, 0, schedIdle, uintptr(unsafe.Pointer(&param)))
	syscall.RawSyscall(unix.SYS_IOPRIO_SET, ioprioProcess, 0, ioprioIdle)
}

// resetSignals gives the child default dispositions, also where the engine that
// started us ignores a signal, and the wanted mask. Handlers go first: they
// must not run in the child.
//
//go:norace
//go:nosplit
func resetSignals(blocked *uint64) {
	var act [4]uint64 // struct sigaction: all zero is SIG_DFL, on every architecture
	for sig := uintptr(1); sig <= 64; sig++ {
		syscall.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&act)), 0, sigsetSize, 0, 0)
	}
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(blocked)), 0, sigsetSize, 0, 0)
}

// putDecimal writes n and a NUL to b.
//
//go:norace
//go:nosplit
func putDecimal(b []byte, n int) {
	digits := 1
	for m := n; m >= 10; m /= 10 {
		digits++
	}
	if digits >= len(b) {
		return
	}
	b[digits] = 0
	for i := digits - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
}
