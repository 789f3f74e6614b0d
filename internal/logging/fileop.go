package logging

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// opKind is what a fileOp does.
type opKind uint8

const (
	opWrite   opKind = iota
	opRenew          // the size limit is reached
	opReopen         // somebody asked for it
	opSync           // fsync
	opRelease        // close fd
)

func (k opKind) String() string {
	switch k {
	case opRenew:
		return "rotate"
	case opReopen:
		return "reopen"
	case opSync:
		return "sync"
	case opRelease:
		return "close"
	}
	return "write to"
}

// fileOp is what may hang on a dead disk, as a job for the offload worker. All
// fields belong to the worker while the job runs.
type fileOp struct {
	kind    opKind
	fd      int
	regular bool
	size    int64 // how long the file should be, if nobody else writes to it

	buf  []byte // opWrite: whole records
	torn bool   // in and out: the file ends within a record

	place // opRenew, opReopen
	rotation

	// results
	done int // opWrite: bytes of whole records that are in the file
	err  error
}

// Run does the work.
func (op *fileOp) Run() {
	op.err = nil
	switch op.kind {
	case opWrite:
		op.write()
	case opRenew, opReopen:
		op.err = op.renew()
	case opSync:
		// Not every device can.
		if err := unix.Fsync(op.fd); err != unix.EINVAL && err != unix.EROFS {
			op.err = err
		}
	case opRelease:
		op.err = unix.Close(op.fd)
	}
}

// write writes buf. If not all of it goes, the file is left with whole records
// only, so that a later record is never glued to half of this one.
func (op *fileOp) write() {
	op.done = 0
	if op.torn {
		// Could not be cut back: at least the next record gets its own line.
		if _, op.err = op.writeSome([]byte{'\n'}); op.err != nil {
			return
		}
		op.torn = false
		op.size++
	}
	n := 0
	for n < len(op.buf) {
		m, err := op.writeSome(op.buf[n:])
		n += m
		if op.err = err; err != nil {
			break
		}
	}
	op.done = n
	if n == len(op.buf) {
		return
	}
	op.done = bytes.LastIndexByte(op.buf[:n], '\n') + 1
	if op.done < n {
		op.torn = !op.cutBack(op.size+int64(n), op.size+int64(op.done))
	}
}

func (op *fileOp) writeSome(b []byte) (int, error) {
	for {
		n, err := unix.Write(op.fd, b)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			// A pipe or terminal that is full. This goroutine can wait.
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(op.fd), Events: unix.POLLOUT}}, -1)
		case err != nil:
			return 0, err
		case n == 0:
			return 0, unix.EIO // cannot be; without this it would be a loop
		default:
			return n, nil
		}
	}
}

// cutBack shortens the file from is to want, unless somebody else has changed
// its size: then what is at its end is not ours.
func (op *fileOp) cutBack(is, want int64) bool {
	var st unix.Stat_t
	if !op.regular || unix.Fstat(op.fd, &st) != nil || st.Size != is {
		return false
	}
	return unix.Ftruncate(op.fd, want) == nil
}
