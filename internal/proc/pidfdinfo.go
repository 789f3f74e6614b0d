package proc

import (
	"bytes"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pidfdInfo is the kernel's struct pidfd_info in its first published size. The
// size is part of the request's number: a newer kernel fills in no more than
// this, and every kernel that has the request knows at least this.
type pidfdInfo struct {
	mask     uint64
	cgroupID uint64
	pid      uint32
	tgid     uint32
	ids      [9]uint32 // ppid, and four each of user and group ids
	exitCode int32     // a wait status, valid if infoExit is set in mask
}

const (
	// pidfdGetInfo is _IOWR(0xff, 11, struct pidfd_info), since Linux 6.13.
	pidfdGetInfo = 3<<30 | uint(unsafe.Sizeof(pidfdInfo{}))<<16 | 0xff<<8 | 11
	// infoExit asks for the exit status and says that it is there, since Linux 6.15.
	infoExit = 1 << 3
)

// ExitInfo returns the wait status of a process that has ended and is not our
// child, so that wait4 does not give it. It reports false while the process
// lives, and when no source has the status:
//
//   - a reaped process: PIDFD_GET_INFO, on kernels that keep it for the pidfd;
//   - one its parent has not reaped yet: /proc, which shows the status to those
//     who could trace the process. The pidfd is readable (EPOLLIN) from the end
//     on, but PIDFD_GET_INFO has nothing to tell before it hangs up (EPOLLHUP),
//     and a parent need not ever get that far.
//
// pidfd is borrowed.
func ExitInfo(pidfd int) (unix.WaitStatus, bool) {
	if ws, ok := reapedStatus(pidfd); ok {
		return ws, true
	}
	if ws, ok := zombieStatus(pidfd); ok {
		return ws, true
	}
	// It may have been reaped between the two looks.
	return reapedStatus(pidfd)
}

// reapedStatus asks the pidfd itself.
func reapedStatus(pidfd int) (unix.WaitStatus, bool) {
	info := pidfdInfo{mask: infoExit}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(pidfd), uintptr(pidfdGetInfo), uintptr(unsafe.Pointer(&info)))
	if errno != 0 || info.mask&infoExit == 0 {
		return 0, false
	}
	return unix.WaitStatus(info.exitCode), true
}

// zombieStatus reads the status of an ended, unreaped process in /proc.
func zombieStatus(pidfd int) (unix.WaitStatus, bool) {
	var buf [1024]byte
	pid, ok := pidOf(readSmall("/proc/self/fdinfo/"+strconv.Itoa(pidfd), buf[:]))
	if !ok {
		return 0, false
	}
	dir := "/proc/" + strconv.Itoa(pid)
	ws, ok := parseZombie(readSmall(dir+"/stat", buf[:]))
	if !ok {
		return 0, false
	}
	// To those who may not trace the process the kernel shows a 0 there, which
	// is no status at all. This link is guarded by the same check.
	if _, err := unix.Readlink(dir+"/ns/user", buf[:]); err != nil {
		return 0, false
	}
	// As long as the process takes a signal it has not been reaped, so the number
	// was not reused and the files were really its own. EPERM, too, says that it
	// is still there.
	err := unix.PidfdSendSignal(pidfd, 0, nil, 0)
	return ws, err == nil || err == unix.EPERM
}

// pidOf finds the process number in a pidfd's fdinfo. It is -1 once the process
// has been reaped, and 0 if it is of no pid namespace that we see.
func pidOf(fdinfo []byte) (int, bool) {
	for line := range bytes.Lines(fdinfo) {
		if rest, found := bytes.CutPrefix(line, []byte("Pid:")); found {
			pid, err := strconv.Atoi(string(bytes.TrimSpace(rest)))
			return pid, err == nil && pid > 0
		}
	}
	return 0, false
}

// parseZombie reads the state, the third field, and the exit status, the 52nd,
// of a /proc/PID/stat. The second field, a name in parentheses, may itself
// contain spaces and parentheses.
func parseZombie(stat []byte) (unix.WaitStatus, bool) {
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, false
	}
	const state, code = 0, 52 - 3
	fields := bytes.Fields(stat[end+1:])
	if len(fields) <= code || string(fields[state]) != "Z" {
		return 0, false
	}
	n, err := strconv.ParseUint(string(fields[code]), 10, 16)
	return unix.WaitStatus(n), err == nil
}

// readSmall reads a file of /proc into buf; nothing if it cannot be read.
func readSmall(path string, buf []byte) []byte {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}
