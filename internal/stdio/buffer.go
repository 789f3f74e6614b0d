package stdio

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// bufferSize is one read's size: a pipe's default capacity.
const bufferSize = 64 << 10

// Buffer is the memory that chunks are read into. It lies outside of the heap,
// and costs memory only from its first use until it is released.
type Buffer struct {
	b    []byte
	used bool
}

// NewBuffer reserves a buffer.
func NewBuffer() (*Buffer, error) {
	b, err := unix.Mmap(-1, 0, bufferSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("reserve a buffer: %w", err)
	}
	return &Buffer{b: b}, nil
}

// Take returns the buffer, until the next Take or Release.
func (b *Buffer) Take() []byte {
	b.used = true
	return b.b
}

// Release gives the memory back to the kernel.
func (b *Buffer) Release() {
	if b.used {
		b.used = false
		_ = unix.Madvise(b.b, unix.MADV_DONTNEED)
	}
}

// TakeMemory maps memory outside of the heap, from which it could not be given
// back: nothing collects there. GiveMemory returns it.
func TakeMemory(size int) []byte {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return make([]byte, size)
	}
	return b
}

// GiveMemory unmaps what TakeMemory returned. For memory of the heap, which it does
// not know, that does nothing.
func GiveMemory(b []byte) { _ = unix.Munmap(b) }
