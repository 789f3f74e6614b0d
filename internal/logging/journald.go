package logging

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/config"
	"conmon/internal/handoff"
	"conmon/internal/poll"
	"conmon/internal/stdio"
)

// journalSocket is where the journal listens.
const journalSocket = "/run/systemd/journal/socket"

const (
	// entryMax is the longest text of one journal entry.
	entryMax = 1 << 20
	// journalQueue bounds what is kept while the journal takes nothing.
	journalQueue = 1 << 20
	// journalBurst bounds it while the journal is merely slow: then the container
	// waits, but a chunk of each stream that was read already has to fit, and short
	// lines become hundreds of times as long as entries.
	journalBurst = 8 << 20
	// journalChunk is how much is read at once: entries are sent one by one, and at
	// the container's end what was read and not sent costs time that is short.
	journalChunk = 8 << 10
	// journalPatience is how long the container waits for a journal that is
	// merely slow. One that has taken nothing for so long has stopped, and the
	// container goes on without it.
	journalPatience = clock.Second
	reconnectMin    = 100 * clock.Millisecond
	reconnectMax    = 5 * clock.Second
)

// journald is the driver for systemd's journal, by its native protocol.
// Unfinished lines are joined, never cut by a timer: Podman prints each entry as
// a line.
type journald struct {
	socket string
	fixed  []byte // fields of every entry
	marks  bool   // mark pieces
	watch  poll.Watcher
	tag    poll.Tag

	fd       int  // connected, -1: not
	watching bool // for room in the journal's socket
	retryAt  clock.Mono
	backoff  clock.Mono
	draining bool
	due      clock.Mono // what is not sent by then is lost; 0: the container lives

	split    [2]splitter
	inLine   [2]bool // the last entry was a piece, the next one goes on with it
	priority [2]byte // of the current line
	queue    buffer  // frames: a header and an entry each
	takenAt  clock.Mono
	stopped  bool // see journalPatience

	ledger
	trouble
	reconnects uint64
}

// A frame's header: the entry's length, what the container wrote for it, and
// whose it is.
const (
	frameHeader = 10
	frameStream = 8 // index of the stream
	frameLine   = 9 // 1: it ends a line
)

func loadJournald(socket string, c *config.Config, st *handoff.State, key string, w poll.Watcher, tag poll.Tag) *journald {
	j := &journald{socket: socket, fixed: journalFields(c), marks: !c.Log.NoPartialMessage, watch: w, tag: tag, fd: -1}
	j.queue.append(st.Bytes(key + "queue"))
	for i, s := range streams {
		j.split[i].max = entryMax
		j.split[i].pending.append(st.Bytes(key + s.String() + ".pending"))
		j.inLine[i] = st.Bool(key + s.String() + ".in_line")
		j.priority[i] = byte(st.Int(key + s.String() + ".priority"))
	}
	j.retryAt = clock.Mono(st.Int(key + "retry_at"))
	j.backoff = clock.Mono(st.Int(key + "backoff"))
	j.stopped = st.Bool(key + "stopped")
	j.reconnects = uint64(st.Int(key + "reconnects"))
	j.trouble.load(st, key)
	j.ledger.load(st, key)
	if j.queue.len() > 0 {
		j.takenAt = clock.Now() // the journal's patience starts anew
		if j.retryAt == 0 {
			j.retryAt = j.takenAt // the new image has a new connection
		}
	}
	return j
}

func (j *journald) save(st *handoff.State, key string) {
	st.PutBytes(key+"queue", j.queue.bytes())
	for i, s := range streams {
		st.PutBytes(key+s.String()+".pending", j.split[i].pending.bytes())
		st.PutBool(key+s.String()+".in_line", j.inLine[i])
		st.PutInt(key+s.String()+".priority", int64(j.priority[i]))
	}
	st.PutInt(key+"retry_at", int64(j.retryAt))
	st.PutInt(key+"backoff", int64(j.backoff))
	st.PutBool(key+"stopped", j.stopped)
	st.PutInt(key+"reconnects", int64(j.reconnects))
	j.trouble.save(st, key, j.socket)
	j.ledger.save(st, key)
}

func (j *journald) write(s stdio.Stream, chunk []byte, _ time.Time, now clock.Mono) {
	i := s.Index()
	j.given[i].Bytes += uint64(len(chunk))
	for len(chunk) > 0 {
		r, rest, ok := j.split[i].next(chunk)
		if chunk = rest; ok {
			j.add(i, r, now)
		}
		switch {
		case j.queue.len() >= journalBurst/2 && j.draining:
			j.sendUntil(j.due)
		case j.queue.len() >= journalQueue/2:
			j.sendIfRoom(now)
		}
	}
	j.sendIfRoom(now)
}

// eof writes an unterminated last line as a piece.
func (j *journald) eof(s stdio.Stream, _ time.Time, now clock.Mono) {
	if r, ok := j.split[s.Index()].flush(); ok {
		j.add(s.Index(), r, now)
		j.send(now)
	}
	j.inLine[s.Index()] = false
}

// add queues an entry for r, or counts it as lost if the queue is full.
func (j *journald) add(i int, r record, now clock.Mono) {
	raw := len(r.head) + len(r.tail)
	if r.full {
		raw++
		j.given[i].Lines++
	}
	if !j.inLine[i] {
		other := byte(priorityStdout)
		if streams[i] == stdio.Stderr {
			other = priorityStderr
		}
		r, j.priority[i] = cutPriority(r, other)
	}
	j.inLine[i] = !r.full
	need := frameHeader + len(j.fixed) + entryFixed + len(r.head) + len(r.tail)
	limit := journalBurst
	if j.stopped && !j.draining {
		limit = journalQueue
	}
	full := j.queue.len() > 0 && j.queue.len()+need > limit || j.draining && clock.Now() >= j.due
	if full || !j.queue.reserve(need) {
		j.lost[i].add(raw, frameLines(r.full))
		return
	}
	if j.queue.len() == 0 {
		j.takenAt = now
	}
	q := &j.queue
	var head [frameHeader]byte
	frame := append(q.mem[:q.end], head[:]...)
	frame = appendEntry(frame, j.fixed, j.priority[i], !r.full && j.marks, r)
	h := frame[q.end:]
	binary.NativeEndian.PutUint32(h, uint32(len(h)-frameHeader))
	binary.NativeEndian.PutUint32(h[4:], uint32(raw))
	h[frameStream], h[frameLine] = byte(i), byte(frameLines(r.full))
	q.end = len(frame)
}

func frameLines(full bool) int {
	if full {
		return 1
	}
	return 0
}

// frame returns the entry of the first frame in q, and the frame's length.
func frame(q []byte) (entry []byte, n int) {
	n = frameHeader + int(binary.NativeEndian.Uint32(q))
	return q[frameHeader:n], n
}

// count adds what the container wrote for the frames in q.
func (j *journald) count(q []byte, to *[2]Count) {
	for len(q) > 0 {
		_, n := frame(q)
		to[q[frameStream]].add(int(binary.NativeEndian.Uint32(q[4:])), int(q[frameLine]))
		q = q[n:]
	}
}

func (j *journald) stats() DriverStats {
	var pending [2]Count
	j.count(j.queue.bytes(), &pending)
	for i := range j.split {
		pending[i].Bytes += uint64(j.split[i].pending.len())
	}
	return DriverStats{
		Kind: string(config.Journald), Path: j.socket, Streams: j.ledger.stats(pending),
		Errors: j.errors, LastError: j.trouble.text(j.socket),
		Restarts: j.reconnects, Waiting: j.queue.len() > 0,
	}
}

func (j *journald) chunkMax() int {
	if j.blocked() {
		return 0
	}
	return journalChunk
}

// blocked reports whether the container is to wait for a journal that is slow.
func (j *journald) blocked() bool {
	return !j.draining && !j.stopped && j.queue.len() > journalQueue/2
}

func (j *journald) deadline() clock.Mono {
	if j.queue.len() == 0 {
		return 0
	}
	due := j.retryAt
	if j.blocked() {
		due = clock.Earlier(due, j.takenAt+journalPatience)
	}
	return due
}

func (j *journald) tick(_ time.Time, now clock.Mono) {
	if j.retryAt != 0 && now < j.retryAt && !j.blocked() {
		return
	}
	j.send(now)
	if j.queue.len() > 0 && now >= j.takenAt+journalPatience && !j.stopped {
		j.stopped = true
		j.note("wait for", unix.ETIMEDOUT)
	}
}

// There is nothing to reopen, no child, and nothing that could hang.
func (j *journald) reopen(clock.Mono) error               { return nil }
func (j *journald) childExited(int, unix.WaitStatus) bool { return false }
func (j *journald) busy() bool                            { return false }
func (j *journald) drain(limit clock.Mono)                { j.draining, j.due = true, limit }

// finish sends what there is until limit.
func (j *journald) finish(limit clock.Mono, wall time.Time) {
	j.drain(limit)
	now := clock.Now()
	for _, s := range streams {
		j.eof(s, wall, now)
	}
	j.sendUntil(limit)
	j.count(j.queue.bytes(), &j.lost)
	j.queue.clear()
}

// sendUntil sends what is queued, and waits until limit for a journal that does
// not take it at once.
func (j *journald) sendUntil(limit clock.Mono) {
	for j.queue.len() > 0 {
		now := clock.Now()
		j.retryAt = 0
		if j.send(now); j.queue.len() == 0 || now >= limit {
			return
		}
		// Without a connection this only waits before the next attempt.
		wait := []unix.PollFd{{Fd: int32(j.fd), Events: unix.POLLOUT}}
		left := min(limit-now, reconnectMin)
		_, _ = unix.Poll(wait, int(left/clock.Millisecond)+1)
	}
}

func (j *journald) trim() {
	if j.queue.len() == 0 {
		j.queue.free()
	}
	j.split[0].trim()
	j.split[1].trim()
}

func (j *journald) close() { j.disconnect() }
