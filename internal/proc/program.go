package proc

import (
	"bytes"
	"strconv"

	"golang.org/x/sys/unix"
)

// UnmapProgram takes the program's code and constants out of this process's
// page tables: work has touched many of them, waiting needs few. They stay
// in the page cache, whence the kernel maps them again as they are used.
func UnmapProgram() {
	fd, err := unix.Open("/proc/self/maps", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	var b [1024]byte // the program's mappings are the first ones
	n, _ := unix.Read(fd, b[:])
	for rest := b[:max(n, 0)]; ; {
		line, after, whole := bytes.Cut(rest, []byte{'\n'})
		if !whole {
			return
		}
		rest = after
		if start, end, ok := constantFile(line); ok {
			// It cannot fail, and if it did, the pages would just stay.
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, start, end-start, unix.MADV_DONTNEED)
		}
	}
}

// constantFile reads a line of /proc/PID/maps: addresses, permissions, offset,
// device, inode, path. ok says that it is a file's, and never written to.
func constantFile(line []byte) (start, end uintptr, ok bool) {
	f := bytes.Fields(line)
	if len(f) != 6 || len(f[1]) != 4 || f[1][1] == 'w' || f[5][0] != '/' {
		return 0, 0, false
	}
	low, high, _ := bytes.Cut(f[0], []byte{'-'})
	a, err1 := strconv.ParseUint(string(low), 16, 64)
	b, err2 := strconv.ParseUint(string(high), 16, 64)
	return uintptr(a), uintptr(b), err1 == nil && err2 == nil && a < b
}
