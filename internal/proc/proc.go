// Package proc is the monitor's view of processes: starting and reaping them,
// signals to and from them, and how they ended.
package proc

import (
	"fmt"
	"iter"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const oomScoreAdjPath = "/proc/self/oom_score_adj"

// Ended is a process that was reaped.
type Ended struct {
	Pid    int
	Status unix.WaitStatus
}

// Reap collects every child that has ended, without waiting. It is the only
// place that reaps: as subreaper the monitor also inherits the container's
// orphans, and a second waiter would steal statuses from the first.
func Reap() iter.Seq[Ended] {
	return func(yield func(Ended) bool) {
		for {
			var ws unix.WaitStatus
			pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
			if err == unix.EINTR {
				continue
			}
			if pid <= 0 || err != nil || !yield(Ended{pid, ws}) {
				return
			}
		}
	}
}

// BecomeSubreaper makes orphans of the container's process tree our children.
func BecomeSubreaper() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become subreaper: %w", err)
	}
	return nil
}

// StopSubreaping undoes BecomeSubreaper, for the exit command's descendants.
func StopSubreaping() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) }

// SetName sets the process's name as ps and pgrep show it.
func SetName(argv0 string) {
	name := argv0[strings.LastIndexByte(argv0, '/')+1:]
	var b [16]byte
	copy(b[:15], name)
	_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&b)), 0, 0, 0)
}

// OOMScoreAdj returns our oom_score_adj, "" if it cannot be read.
func OOMScoreAdj() string {
	var buf [16]byte
	return strings.TrimSpace(string(readSmall(oomScoreAdjPath, buf[:])))
}

// ProtectFromOOM takes the lowest oom_score_adj: a monitor that is killed takes
// the container's exit status with it. Without CAP_SYS_RESOURCE it fails.
func ProtectFromOOM() error {
	fd, err := unix.Open(oomScoreAdjPath, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte("-1000"))
	return err
}
