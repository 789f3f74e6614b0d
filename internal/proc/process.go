package proc

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Process is somebody else's process, held by a pidfd so that a reused pid is
// never mistaken for it. The zero Process is none.
type Process struct {
	Pid int
	fd  int // pidfd, 0: none (0 is standard input)
}

// Open takes hold of the running process pid.
func Open(pid int) (Process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return Process{}, fmt.Errorf("pidfd_open %d: %w", pid, err)
	}
	return Process{pid, fd}, nil
}

// Adopt wraps a pidfd; the Process owns it from now on. A negative one is none.
func Adopt(pid, pidfd int) Process { return Process{pid, max(pidfd, 0)} }

// Exists reports whether this is a process at all.
func (p Process) Exists() bool { return p.Pid > 0 }

// FD returns the pidfd: readable once the process has ended; -1 if there is none.
func (p Process) FD() int {
	if p.fd == 0 {
		return -1
	}
	return p.fd
}

// Signal sends sig to the process, to no other one that has its number by now.
func (p Process) Signal(sig unix.Signal) error {
	if p.fd == 0 {
		return unix.ESRCH
	}
	return unix.PidfdSendSignal(p.fd, sig, nil, 0)
}

// Close lets go of the process.
func (p *Process) Close() {
	if p.fd != 0 {
		_ = unix.Close(p.fd)
	}
	*p = Process{}
}
