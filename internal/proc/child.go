package proc

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

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
