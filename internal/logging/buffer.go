package logging

import (
	"golang.org/x/sys/unix"
)

// page is what a buffer keeps after trim: with one line at a time, giving the
// memory back and taking it again would cost more than writing the line.
const page = 4096

// buffer is a queue of bytes in memory of its own outside the Go heap, because
// the collector, which hardly ever runs, would keep a big buffer for good. The
// zero buffer is empty and holds no memory.
type buffer struct {
	mem  []byte // mapped, nil until needed
	off  int    // first byte in use
	end  int    // end of the bytes in use
	high int    // how far mem was used since the last trim
}

func (b *buffer) len() int { return b.end - b.off }

func (b *buffer) bytes() []byte { return b.mem[b.off:b.end] }

// reserve makes room for n bytes after the ones in use. Memory that is never
// written costs nothing. It reports false if there is no memory.
func (b *buffer) reserve(n int) bool {
	if b.end+n <= len(b.mem) {
		return true
	}
	// Moving a long queue for each record that is added to it would cost more than
	// all the rest: it has to become shorter by half first.
	if b.len()+n <= len(b.mem) && b.off >= b.len()/2 {
		b.high = max(b.high, b.end)
		b.end = copy(b.mem, b.bytes())
		b.off = 0
		return true
	}
	size := (3*(b.len()+n)/2 + page - 1) &^ (page - 1)
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return false
	}
	used := copy(mem, b.bytes())
	b.free()
	b.mem, b.end = mem, used
	return true
}

// append copies p behind the bytes in use; false if there is no memory.
func (b *buffer) append(p []byte) bool {
	if !b.reserve(len(p)) {
		return false
	}
	b.end += copy(b.mem[b.end:], p)
	return true
}

// consume drops the first n bytes in use.
func (b *buffer) consume(n int) {
	if b.off += n; b.off == b.end {
		b.clear()
	}
}

// clear drops the bytes in use and keeps the memory.
func (b *buffer) clear() {
	b.high = max(b.high, b.end)
	b.off, b.end = 0, 0
}

// trim gives an empty buffer's memory back to the kernel, less the first page.
func (b *buffer) trim() {
	if b.len() > 0 || b.high <= page {
		return
	}
	// It cannot fail on memory of our own; if it did, the pages would just stay.
	_ = unix.Madvise(b.mem[page:], unix.MADV_DONTNEED)
	b.high = 0
}

// free gives everything back. The buffer is empty then, and can be used again.
func (b *buffer) free() {
	if b.mem != nil {
		_ = unix.Munmap(b.mem)
	}
	*b = buffer{}
}
