package monitor

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/stdio"
)

// process is what is known about one of the machine's processes.
type process struct {
	pid, parent int32
	depth       int32  // how far below a root it is, or one of the values below
	start       uint64 // when it was started: tells it from a successor with its pid
}

const (
	unknownDepth = 0
	outside      = -1 // it is below no root
)

// census knows the machine's processes. There may be tens of thousands, and
// nothing on the heap is ever freed: everything lies in mappings of its own.
type census struct {
	buf  []byte
	rows []process // of the last count, by pid
	seen []process // those that were ever found below a root, by pid
}

const (
	// censusBuffer holds a directory's entries in its first half, and in its
	// second what is read in between.
	censusBuffer = 64 << 10
	// censusRows is how many processes there is room for at first.
	censusRows = 4096
)

// newCensus returns a census of what descends from root.
func newCensus(root int) *census {
	c := &census{buf: stdio.TakeMemory(censusBuffer), rows: takeRows(censusRows), seen: takeRows(censusRows)}
	c.seen = addRow(c.seen, process{pid: int32(root)})
	return c
}

func (c *census) close() {
	stdio.GiveMemory(c.buf)
	giveRows(c.rows)
	giveRows(c.seen)
}

const rowSize = int(unsafe.Sizeof(process{}))

func takeRows(n int) []process {
	return unsafe.Slice((*process)(unsafe.Pointer(unsafe.SliceData(stdio.TakeMemory(n*rowSize)))), n)[:0]
}

func giveRows(rows []process) {
	stdio.GiveMemory(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(rows))), cap(rows)*rowSize))
}

// addRow appends a row, in a bigger mapping if need be.
func addRow(rows []process, p process) []process {
	if len(rows) == cap(rows) {
		bigger := append(takeRows(2*cap(rows)), rows...)
		giveRows(rows)
		rows = bigger
	}
	return append(rows, p)
}

func byPid(a, b process) int { return int(a.pid) - int(b.pid) }

func byDepth(a, b process) int { return int(a.depth) - int(b.depth) }

// find returns where in rows pid is, -1 if it is not there.
func find(rows []process, pid int32) int {
	if i, ok := slices.BinarySearchFunc(rows, process{pid: pid}, byPid); ok {
		return i
	}
	return -1
}

// take counts the processes, as far as it gets until limit.
func (c *census) take(limit clock.Mono) {
	c.rows = c.rows[:0]
	dir := openDir(c.buf[:censusBuffer/2], []byte("/proc\x00"))
	defer dir.close()
	for name := dir.next(); name != nil && clock.Now() < limit; name = dir.next() {
		pid := number(name)
		if pid == 0 {
			continue
		}
		if p, alive := c.look(int32(pid)); alive {
			c.rows = addRow(c.rows, p)
		}
	}
	slices.SortFunc(c.rows, byPid) // as the kernel lists them already
	for i := range c.rows {
		c.findDepth(i)
	}
}

// look reads what is to be known about a process, and reports whether it is
// alive. One that only waits to be reaped is not: it has no children any more.
func (c *census) look(pid int32) (process, bool) {
	// The name in the second field may contain anything.
	stat := c.read(pid, "/stat")
	stat = stat[bytes.LastIndexByte(stat, ')')+1:]
	const state, parent, start = 0, 1, 19
	p := process{pid: pid}
	alive := false
	for i := 0; len(stat) > 0; i++ {
		var field []byte
		field, stat, _ = bytes.Cut(bytes.TrimLeft(stat, " "), []byte{' '})
		switch i {
		case state:
			alive = len(field) > 0 && field[0] != 'Z' && field[0] != 'X'
		case parent:
			p.parent = int32(number(field))
		case start:
			p.start = number(field)
			return p, alive
		}
	}
	return p, false
}

// findDepth finds out how far below a root a row is, and everybody above it.
func (c *census) findDepth(i int) {
	top, steps := i, int32(0)
	for c.rows[top].depth == unknownDepth {
		p := &c.rows[top]
		above := find(c.rows, p.parent)
		switch {
		case find(c.seen, p.pid) >= 0:
			p.depth = 1
		case above < 0 && find(c.seen, p.parent) >= 0:
			p.depth = 1 // its parent has died meanwhile
		case above < 0 || int(steps) > len(c.rows):
			p.depth = outside // for good, or in a circle of pids used anew
		default:
			top = above
			steps++
		}
	}
	depth := c.rows[top].depth
	for i != top {
		p := &c.rows[i]
		if p.depth = outside; depth != outside {
			p.depth = depth + steps
		}
		steps--
		i = find(c.rows, p.parent)
	}
}

// remember keeps in mind who was found: by that a child is known whose parent
// dies in the midst of the next count.
func (c *census) remember() {
	known := len(c.seen)
	for i := range c.rows {
		if p := &c.rows[i]; p.depth > 0 && find(c.seen[:known], p.pid) < 0 {
			c.seen = addRow(c.seen, *p)
		}
	}
	slices.SortFunc(c.seen, byPid)
}

// read reads a file of a process; it is empty if there is none. What it returns
// is valid until the next call.
func (c *census) read(pid int32, name string) []byte {
	b := c.buf[censusBuffer/2:]
	fd := open(procPath(b, pid, name), 0)
	if fd < 0 {
		return nil
	}
	n, _ := unix.Read(fd, b)
	_ = unix.Close(fd)
	return b[:max(n, 0)]
}

// holdsAny reports whether a process has one of the pipes open.
func (c *census) holdsAny(pid int32, pipes []string) bool {
	links := c.buf[censusBuffer/2:]
	dir := openDir(c.buf[:censusBuffer/2], procPath(links, pid, "/fd"))
	defer dir.close()
	for name := dir.next(); name != nil; name = dir.next() {
		n, _, errno := unix.Syscall6(unix.SYS_READLINKAT, uintptr(dir.fd), uintptr(unsafe.Pointer(&name[0])),
			uintptr(unsafe.Pointer(&links[0])), uintptr(len(links)), 0, 0)
		if errno != 0 {
			continue
		}
		for _, pipe := range pipes {
			if string(links[:n]) == pipe {
				return true
			}
		}
	}
	return false
}

// procPath writes the path of a process's file into b, with a zero behind it.
func procPath(b []byte, pid int32, name string) []byte {
	b = strconv.AppendInt(append(b[:0], "/proc/"...), int64(pid), 10)
	return append(append(b, name...), 0)
}

// open opens a path that ends with a zero; -1 if it cannot.
func open(path []byte, flags int) int {
	at := unix.AT_FDCWD
	fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(at), uintptr(unsafe.Pointer(&path[0])),
		uintptr(flags|unix.O_RDONLY|unix.O_CLOEXEC), 0, 0, 0)
	if errno != 0 {
		return -1
	}
	return int(fd)
}

// directory lists a directory's entries.
type directory struct {
	fd   int
	buf  []byte
	left []byte
}

func openDir(buf, path []byte) directory {
	return directory{fd: open(path, unix.O_DIRECTORY), buf: buf}
}

func (d *directory) close() {
	if d.fd >= 0 {
		_ = unix.Close(d.fd)
	}
}

// next returns the next entry's name, nil if there is none. A zero follows it in
// memory.
func (d *directory) next() []byte {
	if len(d.left) == 0 && d.fd >= 0 {
		n, _ := unix.Getdents(d.fd, d.buf)
		d.left = d.buf[:max(n, 0)]
	}
	// The kernel's struct linux_dirent64.
	const lengthAt, nameAt = 16, 19
	if len(d.left) <= nameAt {
		return nil
	}
	entry := d.left[:binary.NativeEndian.Uint16(d.left[lengthAt:])]
	d.left = d.left[len(entry):]
	name, _, _ := bytes.Cut(entry[nameAt:], []byte{0})
	return name
}

// number reads a decimal number; 0 if it is none.
func number(digits []byte) (n uint64) {
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0
		}
		n = n*10 + uint64(d-'0')
	}
	return n
}
