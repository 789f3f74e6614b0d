package attach

import (
	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/poll"
)

const (
	// ringSlack is what the file may hold beyond the backlog: the chunks that
	// cross the limit, before the policy takes effect.
	ringSlack = 1 << 20
	// tmpfsLimit is the largest backlog where the file would be in memory after
	// all.
	tmpfsLimit = 4 << 20
)

// ring is an unlinked file, used round and round so that it never takes more
// space than the backlog. Bytes are addressed by their position in the spool.
// The file is made when it is first needed.
//
// Its file system may be one that stops answering, so whatever touches the file
// is done beside the loop, which waits for a moment only. What takes longer is
// pending: until it is over, nothing else can be done with the file.
type ring struct {
	dirs    []string
	fd      int   // -1: not made
	size    int64 // from where it starts over
	memory  bool  // it is on a file system in memory
	none    bool  // no directory takes it, until the next reset
	helper  *ringHelper
	pending bool
	stale   bool // nobody wants the result of what is pending

	w   poll.Watcher
	tag poll.Tag
}

func newRing(backlog int64, dirs []string, w poll.Watcher, tag poll.Tag) ring {
	return ring{dirs: dirs, fd: -1, size: backlog + ringSlack, w: w, tag: tag}
}

// limit is how much a client may lag for the file's sake.
func (r *ring) limit() int64 {
	switch {
	case r.none:
		return spoolMemory
	case r.memory:
		return tmpfsLimit
	}
	return 1<<63 - 1
}

// write stores b at pos, and reports whether it could; what was stored between
// tail and pos stays as it is. If it is pending afterwards, b must stay as it is
// until settle.
func (r *ring) write(tail, pos int64, b []byte) bool {
	if r.pending || r.fd < 0 && r.none || pos-tail+int64(len(b)) > r.size {
		return false
	}
	if !r.do(ringJob{kind: ringWrite, pos: pos, buf: b}) {
		return false
	}
	r.adopt()
	return r.helper.job.whole()
}

// read fills b with what was stored at pos, and returns how much it could read.
// If it is pending afterwards, b must not be touched until settle.
func (r *ring) read(pos int64, b []byte) int {
	if r.pending || !r.do(ringJob{kind: ringRead, pos: pos, buf: b}) {
		return 0
	}
	return r.helper.job.done
}

// adopt takes note of the file that a write has made, or could not make.
func (r *ring) adopt() {
	j := &r.helper.job
	r.fd, r.memory = j.fd, j.memory
	r.none = r.fd < 0
}

// settle returns what was pending if that is over, nil if not.
func (r *ring) settle() *ringJob {
	if !r.pending || r.helper.worker.Busy() {
		return nil
	}
	r.pending = false
	j := &r.helper.job
	if j.kind == ringWrite {
		r.adopt()
	}
	return j
}

// do runs job. It reports whether it is over; if not, it is pending, or could
// not be begun.
func (r *ring) do(job ringJob) bool {
	if r.helper == nil && !r.hire() {
		r.none = true
		return false
	}
	job.dirs, job.fd, job.memory, job.size = r.dirs, r.fd, r.memory, r.size
	r.helper.job = job
	r.stale = false
	r.pending = !r.helper.run()
	return !r.pending
}

// hopeUntil returns until when a pending operation may still be thought of as
// slow, 0 if nothing is pending.
func (r *ring) hopeUntil() clock.Mono {
	if !r.pending {
		return 0
	}
	return r.helper.last + ringHope
}

// hear silences the bell.
func (r *ring) hear() {
	if r.helper != nil {
		r.helper.bell.Hear()
	}
}

// reset is called when the contents are not needed any more. The file is kept
// until close, for it may soon be needed again.
func (r *ring) reset() { r.none, r.stale = false, true }

// close frees the file, unless something is pending.
func (r *ring) close() {
	if r.pending {
		return
	}
	if r.fd >= 0 && !r.do(ringJob{kind: ringRelease}) && !r.pending {
		_ = unix.Close(r.fd) // there was nobody to do it
	}
	r.fd, r.memory, r.none = -1, false, false
}

// probe finds out whether closing the file comes to an end, which the start of
// any program does to the new process's copy. It does if nothing is pending
// afterwards.
func (r *ring) probe() {
	if r.fd >= 0 && !r.pending {
		r.do(ringJob{kind: ringProbe})
	}
}

// abandon lets go of the file and of everything that hangs with it. The
// descriptor is free at once, even if its closing never ends.
func (r *ring) abandon() {
	r.close()
	if r.fd >= 0 {
		release(r.fd)
	}
	if r.helper != nil {
		r.w.Remove(r.helper.bell.FD())
		r.helper.dismiss()
		r.helper = nil
	}
	r.fd, r.memory, r.pending = -1, false, false
}
