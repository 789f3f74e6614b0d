package stdio

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// State is what a read says about what comes after it.
type State uint8

// The states.
const (
	More  State = iota // there may be more
	Dry                // nothing now
	Ended              // nothing ever again, unless it is a terminal that somebody reopens
)

// Read reads from a non-blocking descriptor. A terminal without a user reports
// an input/output error; that is its end of file, not a fault.
func Read(fd int, b []byte) (int, State) {
	for {
		// Without telling the Go scheduler: it does not block, and the copying
		// takes just long enough to have it look for something else to run.
		n, _, errno := syscall.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch {
		case errno == unix.EINTR:
		case errno == unix.EAGAIN:
			return 0, Dry
		case errno != 0 || n == 0:
			return 0, Ended
		default:
			return int(n), More
		}
	}
}

// Capacity returns how many bytes a pipe can hold; for anything else, a
// terminal above all, a pipe's default.
func Capacity(fd int) int {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0)
	if err != nil || n <= 0 {
		return 64 << 10
	}
	return n
}
