package logging

import (
	"fmt"

	"golang.org/x/sys/unix"

	"conmon/internal/handoff"
	"conmon/internal/poll"
)

// feedQueue bounds what is kept per stream for a logger that does not read; its
// pipe holds another 64 KiB.
const feedQueue = 256 << 10

// feed is one stream's way to an external logger: a pipe, and a queue in front
// of it. Both ends of the pipe are ours, so that what is in it survives a logger
// that dies, and is read by the next one.
type feed struct {
	tag   poll.Tag
	watch poll.Watcher

	r, w     int // w is -1 once the stream has ended
	watching bool
	ended    bool // nothing more comes
	queue    buffer
	sieve    sieve // what does not fit is left out by lines
}

// load takes the pipe over from st, or makes one.
func (f *feed) load(st *handoff.State, key string, w poll.Watcher, tag poll.Tag) error {
	f.watch, f.tag = w, tag
	f.r, f.w = st.FD(key+".r"), st.FD(key+".w")
	f.ended = st.Bool(key + ".ended")
	f.queue.append(st.Bytes(key + ".queue"))
	f.sieve.load(st, key+".sieve.")
	if f.r < 0 {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			return fmt.Errorf("pipe to a logger: %w", err)
		}
		f.r, f.w = p[0], p[1]
		// Only our end: the logger expects reads that wait.
		if err := unix.SetNonblock(f.w, true); err != nil {
			return fmt.Errorf("pipe to a logger: %w", err)
		}
	}
	f.push()
	return nil
}

func (f *feed) save(st *handoff.State, key string) {
	st.PutFD(key+".r", f.r)
	st.PutFD(key+".w", f.w)
	st.PutBool(key+".ended", f.ended)
	st.PutBytes(key+".queue", f.queue.bytes())
	f.sieve.save(st, key+".sieve.")
}

// write passes on what it can, queues what fits, and counts the rest as lost.
func (f *feed) write(chunk []byte, lost *Count) {
	if f.queue.len() == 0 && !f.sieve.leaving && f.w >= 0 {
		if n, err := unix.Write(f.w, chunk); err == nil && n > 0 {
			_, _, chunk = f.sieve.pass(chunk, n)
		}
	}
	for len(chunk) > 0 {
		part, through, rest := f.sieve.next(chunk, int64(feedQueue-f.queue.len()))
		chunk = rest
		if !through || !f.queue.append(part) {
			lost.Bytes += uint64(len(part))
			lost.Lines += countLines(part)
		}
	}
	f.push()
}

// push moves the queue into the pipe as far as there is room; once there is more
// room, the loop tells.
func (f *feed) push() {
	for f.queue.len() > 0 && f.w >= 0 {
		n, err := unix.Write(f.w, f.queue.bytes())
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			break
		}
		f.queue.consume(n)
	}
	f.watchRoom(f.queue.len() > 0 && f.w >= 0)
	if f.ended && f.queue.len() == 0 {
		f.closeWrite()
	}
}

func (f *feed) watchRoom(on bool) {
	if on == f.watching {
		return
	}
	if !on {
		f.watch.Remove(f.w)
		f.watching = false
		return
	}
	// Without it, the next chunk is the next attempt.
	f.watching = f.watch.Add(f.w, f.tag, poll.Out) == nil
}

// closeWrite lets the logger see the end of the stream.
func (f *feed) closeWrite() {
	if f.w < 0 {
		return
	}
	f.watchRoom(false)
	_ = unix.Close(f.w)
	f.w = -1
}

// over reports whether the logger has, or will have, read everything.
func (f *feed) over() bool { return f.w < 0 && f.unread() == 0 }

// unread returns how much is in the pipe.
func (f *feed) unread() int {
	n, _ := unix.IoctlGetInt(f.r, unix.TIOCINQ)
	return n
}

// giveUp counts what is queued as lost.
func (f *feed) giveUp(lost *Count) {
	countInto(lost, f.queue.bytes())
	f.queue.clear()
}

// drainUnread counts what is in the pipe of a logger that is dead.
func (f *feed) drainUnread(lost *Count) {
	if unix.SetNonblock(f.r, true) != nil {
		return
	}
	var b [4096]byte
	for {
		n, err := unix.Read(f.r, b[:])
		if n <= 0 || err != nil {
			return
		}
		countInto(lost, b[:n])
	}
}

func (f *feed) close() {
	f.closeWrite()
	if f.r >= 0 {
		_ = unix.Close(f.r)
		f.r = -1
	}
}

func countInto(c *Count, p []byte) {
	c.Bytes += uint64(len(p))
	c.Lines += countLines(p)
}
