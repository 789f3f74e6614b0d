package attach

import (
	"golang.org/x/sys/unix"

	"conmon/internal/poll"
	"conmon/internal/stdio"
)

// stdinQueue is how much input may wait for the container.
const stdinQueue = 64 << 10

// stdin is what clients type into: the writing end of the container's stdin
// pipe, or its terminal. Clients are read from only while the queue has room for
// a packet, so that the container's pace reaches back to them.
type stdin struct {
	fd     int // -1: not there yet, or closed
	w      poll.Watcher
	tag    poll.Tag
	tty    bool
	ending bool // to be closed once the queue is empty
	closed bool // for good: input is read and thrown away

	buf     []byte // nil: not taken
	queue   []byte // what is in buf
	watched bool
}

// accepts reports whether input is wanted; if not, it is thrown away, for a
// client must not find itself stuck because nobody reads what it types.
func (q *stdin) accepts() bool { return !q.closed && !q.ending }

// waiting reports whether clients have to wait for the container.
func (q *stdin) waiting() bool {
	return q.accepts() && q.buf != nil && stdinQueue-len(q.queue) < inputPacket
}

// room returns where the next packet can be read to, nil if it has to wait.
func (q *stdin) room() []byte {
	if q.waiting() {
		return nil
	}
	if q.buf == nil {
		q.buf = stdio.TakeMemory(stdinQueue)
		q.queue = q.buf[:0]
	}
	if cap(q.queue)-len(q.queue) < inputPacket {
		q.queue = q.buf[:copy(q.buf, q.queue)]
	}
	return q.queue[len(q.queue) : len(q.queue)+inputPacket]
}

// push queues n bytes that were read to where room said.
func (q *stdin) push(n int) { q.queue = q.queue[:len(q.queue)+n] }

// flush writes as much of the queue as the container takes.
func (q *stdin) flush() {
	for len(q.queue) > 0 && q.fd >= 0 {
		n, err := unix.Write(q.fd, q.queue)
		switch {
		case err == nil:
			q.queue = q.queue[n:]
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			q.watch(true)
			return
		case q.tty:
			// What was typed is lost, but the terminal may be opened again.
			q.queue = q.buf[:0]
		default:
			// EPIPE: the container has closed its stdin.
			q.close()
			return
		}
	}
	if len(q.queue) > 0 {
		return
	}
	q.queue = q.buf[:0]
	q.watch(false)
	if q.ending {
		q.close()
	}
}

// watch waits for the container to read, or stops waiting. An idle descriptor is
// not watched at all: its reader's end would be reported over and over. For the
// same reason a terminal, whose readers may come back, is watched
// edge-triggered.
func (q *stdin) watch(on bool) {
	if on == q.watched {
		return
	}
	q.watched = on
	if !on {
		q.w.Remove(q.fd)
		return
	}
	mask := poll.Out
	if q.tty {
		mask |= poll.Edge
	}
	if q.w.Add(q.fd, q.tag, mask) != nil {
		// Without notice of room, input would never go on.
		q.close()
	}
}

// finish closes the container's stdin once the queue has been delivered.
func (q *stdin) finish() {
	if !q.closed {
		q.ending = true
		q.flush()
	}
}

// close closes the container's stdin now and throws the queue away.
func (q *stdin) close() {
	q.closed = true
	if q.fd >= 0 {
		q.watch(false)
		_ = unix.Close(q.fd)
		q.fd = -1
	}
	q.queue = q.buf[:0]
}

// giveBack returns the buffer to the system if it is empty.
func (q *stdin) giveBack() {
	if q.buf != nil && len(q.queue) == 0 {
		stdio.GiveMemory(q.buf)
		q.buf, q.queue = nil, nil
	}
}
