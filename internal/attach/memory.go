package attach

import "golang.org/x/sys/unix"

// takeBuffer maps memory outside the Go heap, from which it could not be given
// back while the collector is off.
func takeBuffer(size int) []byte {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return make([]byte, size)
	}
	return b
}

// giveBuffer unmaps what takeBuffer returned. For memory of the Go heap, which
// it does not know, that does nothing.
func giveBuffer(b []byte) { _ = unix.Munmap(b) }
