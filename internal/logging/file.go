package logging

import (
	"time"

	"conmon/internal/clock"
	"conmon/internal/config"
	"conmon/internal/offload"
	"conmon/internal/poll"
	"conmon/internal/stdio"
)

const (
	// batch is how many formatted bytes are written at once, at most.
	batch = 256 << 10
	// stallMax bounds what is kept in memory while a write hangs and the policy
	// is to drop: enough for a disk that is busy, not for one that is dead.
	stallMax = 1 << 20
	// stallTime is how long the container waits for a write that hangs, once half
	// of that is used up, before anything is lost.
	stallTime = 2 * clock.Second
	// blockMax is stallMax for the policy to block, where it is never reached
	// because the container is not read from.
	blockMax = 64 << 20
	// opLimit is how long the monitor waits for the disk before it goes on.
	opLimit = 100 * clock.Millisecond
	// The first and the longest pause between attempts on a full disk that
	// blocks the container.
	retryMin = 100 * clock.Millisecond
	retryMax = clock.Second
)

// file is the k8s-file and the json-file driver. Records are formatted into cur
// and written from there by the worker. If that takes long, the worker keeps the
// buffer (lent), and cur goes on with a new one.
type file struct {
	kind config.DriverKind
	cfg  *config.Log

	worker *offload.Worker
	ended  chan struct{} // a stalled operation is over; for finish, which waits
	op     fileOp        // the operation, and the file's state between two of them

	split     [2]splitter
	flushAt   [2]clock.Mono // when what is pending becomes a piece
	stamp     stamp
	suffix    jsonSuffix
	maxRecord int // longest record

	cur       buffer // whole records, not yet written
	lent      buffer // what a stalled operation holds
	stalled   bool   // op still runs, and is the worker's
	stalledAt clock.Mono
	reopening bool // a reopen is due when it is over

	total    int64 // formatted bytes written, for the global limit
	silent   bool  // the global limit is reached
	draining bool  // the container is dead: nothing waits any more
	due      clock.Mono
	retryAt  clock.Mono // blocked on the disk until then
	backoff  clock.Mono

	spawner     Spawner
	compressing int // pid of the child that compresses the first backup

	ledger
	trouble
	rotations, reopens uint64
}

func newFile(d config.Driver, cfg *config.Log, wake func(), spawner Spawner) *file {
	f := &file{kind: d.Kind, cfg: cfg, spawner: spawner, ended: make(chan struct{}, 1)}
	f.worker = offload.New(func() {
		select {
		case f.ended <- struct{}{}:
		default:
		}
		wake()
	})
	f.maxRecord = criPrefixLen + cfg.MaxLine + len("\n")
	if f.json() {
		f.maxRecord = jsonFixed + jsonGrowth*cfg.MaxLine
	}
	for i := range f.split {
		// JSON cannot hold half a character.
		f.split[i].max, f.split[i].text = cfg.MaxLine, f.json()
	}
	f.op.place = place{d.Path, cfg.AllowlistDirs}
	f.op.rotate, f.op.backups, f.op.compress = cfg.Rotate, max(cfg.MaxFiles, 1), cfg.Compress
	return f
}

func (f *file) json() bool { return f.kind == config.JSONFile }

// write takes a chunk of s. It returns at the latest after a few opLimits.
func (f *file) write(s stdio.Stream, chunk []byte, wall time.Time, now clock.Mono) {
	i := s.Index()
	f.given[i].Bytes += uint64(len(chunk))
	f.settleStalled(now)
	if f.silent && f.split[i].pending.len() == 0 {
		lines := countLines(chunk)
		f.given[i].Lines += lines
		f.capped[i].Bytes += uint64(len(chunk))
		f.capped[i].Lines += lines
		return
	}
	f.setTime(s, wall)
	for len(chunk) > 0 {
		if !f.room() || f.late() {
			f.discard(i, chunk)
			break
		}
		chunk = f.format(i, chunk)
		if f.cur.len() >= batch {
			f.push(now)
		}
	}
	f.push(now)
	f.armFlush(s, wall, now)
}

// setTime prepares what records of s made now have in common.
func (f *file) setTime(s stdio.Stream, wall time.Time) {
	if f.json() {
		f.suffix.set(s, wall)
	} else {
		f.stamp.set(s, wall)
	}
}

// room makes sure that cur can take a batch and a record. It reports false if
// what is to be written would have to be lost.
func (f *file) room() bool {
	limit := stallMax
	if f.cfg.Block {
		limit = blockMax
	}
	return f.cur.len() < limit && f.cur.reserve(batch+f.maxRecord)
}

// format moves the front of chunk into cur, as records, and returns the rest.
// What is unfinished becomes pending.
func (f *file) format(i int, chunk []byte) []byte {
	c, sp := &f.cur, &f.split[i]
	if sp.pending.len() == 0 {
		lines, limit := 0, c.end+batch
		var out []byte
		if f.json() {
			out, chunk, lines = appendJSONLines(c.mem[:c.end], &f.suffix, chunk, sp.max, limit)
		} else {
			out, chunk, lines = appendCRILines(c.mem[:c.end:limit], &f.stamp.text, chunk, sp.max)
		}
		c.end = len(out)
		f.given[i].Lines += uint64(lines)
		if c.end >= limit {
			return chunk
		}
	}
	r, chunk, ok := sp.next(chunk)
	if ok {
		f.add(i, r)
	}
	return chunk
}

// add formats one record; cur has room for it.
func (f *file) add(i int, r record) {
	dst := f.cur.mem[:f.cur.end]
	if f.json() {
		dst = appendJSON(dst, &f.suffix, r)
	} else {
		dst = appendCRI(dst, &f.stamp.text, r)
	}
	f.cur.end = len(dst)
	if r.full {
		f.given[i].Lines++
	}
}

// discard gives up a chunk. Going through the lines keeps a later line from
// being glued to the beginning of a lost one.
func (f *file) discard(i int, chunk []byte) {
	for len(chunk) > 0 {
		r, rest, ok := f.split[i].next(chunk)
		if chunk = rest; ok {
			f.drop(i, r)
		}
	}
}

// drop counts a record as lost.
func (f *file) drop(i int, r record) {
	n := len(r.head) + len(r.tail)
	if r.full {
		f.given[i].Lines++
		f.lost[i].add(n+1, 1)
		return
	}
	f.lost[i].add(n, 0)
}

// armFlush sets the time at which an unfinished line is written as a piece: one
// interval after its beginning came, so that nothing is held longer.
func (f *file) armFlush(s stdio.Stream, wall time.Time, now clock.Mono) {
	i := s.Index()
	switch sp := &f.split[i]; {
	case sp.pending.len() == 0:
		f.flushAt[i] = 0
	case f.cfg.FlushInterval <= 0:
		f.flush(s, wall, now)
	case f.flushAt[i] == 0 || sp.fresh:
		f.flushAt[i] = now + clock.Mono(f.cfg.FlushInterval)
	}
	f.split[i].fresh = false
}

// flush writes the unfinished line of s, if any, as a piece.
func (f *file) flush(s stdio.Stream, wall time.Time, now clock.Mono) {
	i := s.Index()
	f.flushAt[i] = 0
	r, ok := f.split[i].flush()
	if !ok {
		return
	}
	if !f.room() {
		f.drop(i, r)
		return
	}
	f.setTime(s, wall)
	f.add(i, r)
	f.push(now)
}

func (f *file) eof(s stdio.Stream, wall time.Time, now clock.Mono) { f.flush(s, wall, now) }

// deadline returns when tick has something to do.
func (f *file) deadline() clock.Mono {
	if f.stalled && !f.worker.Busy() {
		return 1 // the past
	}
	d := clock.Earlier(f.flushAt[0], f.flushAt[1])
	if f.stalled {
		if f.cfg.Block {
			return d
		}
		return clock.Earlier(d, f.hopeful())
	}
	return clock.Earlier(d, f.retryAt)
}

func (f *file) tick(wall time.Time, now clock.Mono) {
	f.settleStalled(now)
	for i, s := range streams {
		if f.flushAt[i] != 0 && now >= f.flushAt[i] {
			f.flush(s, wall, now)
		}
	}
	f.push(now)
}

// ready has nothing to do: files are not polled.
func (f *file) ready(poll.Event, clock.Mono) {}
