package stdio

import "golang.org/x/sys/unix"

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
		n, err := unix.Read(fd, b)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return 0, Dry
		case err != nil || n <= 0:
			return 0, Ended
		default:
			return n, More
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
