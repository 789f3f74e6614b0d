//go:build !amd64 && !arm64 && !riscv64

package proc

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// vforkFlags are none: sharing memory would take assembly for each architecture.
const vforkFlags = 0

// vfork is an ordinary fork here, with the child's pidfd in *pidfd.
//
//go:norace
//go:nosplit
func vfork(flags uintptr, pidfd *int32) (pid, errno uintptr) {
	r, _, e := syscall.RawSyscall6(unix.SYS_CLONE, flags, 0, uintptr(unsafe.Pointer(pidfd)), 0, 0, 0)
	return r, uintptr(e)
}
