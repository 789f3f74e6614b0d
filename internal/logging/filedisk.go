package logging

import (
	"bytes"
	"math"
	"time"

	"conmon/internal/clock"
	"conmon/internal/offload"
	"conmon/internal/stdio"
)

// push writes what is formatted. Afterwards cur is empty, unless the disk is
// slow, or full and the container is to wait for it.
func (f *file) push(now clock.Mono) {
	postponed := f.awaitsCompression()
	renewed := false
	for f.cur.len() > 0 && !f.stalled && (f.retryAt <= now || f.draining) {
		if f.silent {
			f.giveUp(&f.cur, &f.capped)
			return
		}
		n := f.fits(postponed)
		if n == 0 && !renewed {
			f.op.kind = opRenew
			f.op.room = f.cfg.SizeMax - int64(firstRecord(f.cur.bytes()))
			if !f.do(now) {
				return
			}
			renewed, postponed = true, f.op.postponed
			continue
		}
		if n == 0 {
			n = firstRecord(f.cur.bytes()) // a fresh file, and a record longer than it may be
		}
		f.op.kind = opWrite
		f.op.buf = f.cur.bytes()[:n]
		if !f.do(now) {
			return
		}
		renewed = false
	}
}

// fits returns how many bytes of cur, in whole records, may be written to the
// file as it is.
func (f *file) fits(postponed bool) int {
	b := f.cur.bytes()
	n := len(b)
	if room := f.cfg.SizeMax - f.op.size; f.cfg.SizeMax > 0 && f.op.regular && !postponed && int64(n) > room {
		n = bytes.LastIndexByte(b[:max(room, 0)], '\n') + 1
		if n == 0 && f.op.size == 0 {
			n = firstRecord(b) // goes alone into a file of its own
		}
	}
	if left := f.cfg.GlobalSizeMax - f.total; f.cfg.GlobalSizeMax > 0 && int64(n) > left {
		// The record that crosses the limit is the last one.
		n = int(left) - 1 + firstRecord(b[max(left-1, 0):])
	}
	return n
}

// firstRecord returns the length of the first record in b.
func firstRecord(b []byte) int { return bytes.IndexByte(b, '\n') + 1 }

// do runs op. It reports false if that goes on for longer than the monitor can
// wait, or did not work.
func (f *file) do(now clock.Mono) bool {
	limit := opLimit
	if f.due != 0 {
		limit = max(f.due-clock.Now(), 0)
	}
	if f.worker.Do(&f.op, time.Duration(limit)) {
		return f.settle(now)
	}
	f.stalled, f.stalledAt = true, now
	f.lent, f.cur = f.cur, buffer{}
	return false
}

// settleStalled takes note of a stalled operation's end.
func (f *file) settleStalled(now clock.Mono) {
	if !f.stalled || f.worker.Busy() {
		return
	}
	f.stalled = false
	newer := f.cur
	f.cur, f.lent = f.lent, buffer{}
	f.settle(now)
	if newer.len() > 0 && !f.cur.append(newer.bytes()) {
		f.giveUp(&newer, &f.lost)
	}
	newer.free()
	if f.reopening {
		f.reopening = false
		_ = f.reopen(now) // noted
	}
	f.push(now)
}

// settle acts on op's results.
func (f *file) settle(now clock.Mono) bool {
	op := &f.op
	switch op.kind {
	case opWrite:
		op.size += int64(op.done)
		f.total += int64(op.done)
		f.cur.consume(op.done)
		f.silent = f.cfg.GlobalSizeMax > 0 && f.total >= f.cfg.GlobalSizeMax
	case opRenew, opReopen:
		if op.renewed {
			f.rotations++
		}
		if op.kind == opReopen && op.err == nil {
			f.reopens++
		}
		f.compressBackup()
	}
	if op.err == nil {
		f.retryAt, f.backoff = 0, 0
		return true
	}
	f.note(op.kind.String(), op.err)
	if op.kind == opWrite || op.kind == opRenew {
		f.unwritten(now)
	}
	return false
}

// unwritten decides what becomes of records that the disk does not take.
func (f *file) unwritten(now clock.Mono) {
	if !f.cfg.Block || f.draining {
		f.giveUp(&f.cur, &f.lost)
		return
	}
	f.backoff = min(max(2*f.backoff, retryMin), retryMax)
	f.retryAt = now + f.backoff
}

// chunkMax keeps a chunk of short lines, each of which becomes forty bytes longer,
// from filling hundreds of files at one go.
func (f *file) chunkMax() int {
	switch {
	case f.blocked():
		return 0
	case f.cfg.SizeMax > 0:
		return int(max(f.cfg.SizeMax, page))
	}
	return math.MaxInt
}

// blocked reports whether the container is to wait for the disk.
func (f *file) blocked() bool {
	if f.cfg.Block {
		return !f.draining && (f.stalled || f.retryAt != 0)
	}
	return f.hopeful() != 0
}

// hopeful returns until when the container waits for a disk although it need
// not: one that is only slow must not cost output. 0: it does not wait.
func (f *file) hopeful() clock.Mono {
	until := f.stalledAt + stallTime
	if !f.stalled || f.draining || f.cur.len() < stallMax/2 || clock.Now() >= until {
		return 0
	}
	return until
}

// busy reports whether an operation hangs that cannot be handed over.
func (f *file) busy() bool { return f.stalled }

func (f *file) drain(limit clock.Mono) { f.draining, f.due = true, limit }

// late reports whether the container is dead and the time for its output over.
func (f *file) late() bool { return f.draining && f.due != 0 && clock.Now() >= f.due }

// reopen opens the path again. An error leaves the log where it is.
func (f *file) reopen(now clock.Mono) error {
	if !f.op.regular {
		return nil // /dev/stdout would be the monitor's own by now
	}
	f.settleStalled(now)
	if f.stalled {
		f.reopening = true
		return nil
	}
	f.op.kind = opReopen
	if f.do(now) {
		f.push(now)
	} else if !f.stalled {
		return f.op.err
	}
	return nil
}

// finish writes what there is and makes it durable, all until limit; what hangs
// goes on beside the end of the container.
func (f *file) finish(limit clock.Mono, wall time.Time) {
	f.draining, f.due = true, limit
	now := clock.Now()
	f.settleStalled(now)
	for _, s := range streams {
		f.flush(s, wall, now)
	}
	f.push(now)
	for f.stalled && f.await(limit) {
		f.settleStalled(clock.Now())
	}
	if f.stalled {
		f.giveUp(&f.cur, &f.lost)
		f.count(f.lent.bytes(), &f.lost)
		f.lent = buffer{} // not freed: the operation still reads it
		return
	}
	if !f.cfg.NoSync && f.total > 0 { // what others wrote is theirs to sync
		f.op.kind = opSync
		f.do(now)
	}
}

// await waits for a stalled operation; false means that limit has come.
func (f *file) await(limit clock.Mono) bool {
	t := time.NewTimer(time.Duration(limit - clock.Now()))
	defer t.Stop()
	for f.worker.Busy() {
		select {
		case <-f.ended: // of this operation, or what an earlier one left
		case <-t.C:
			return false
		}
	}
	return true
}

// close lets go of the file. A write that hangs holds on to the file, and so does
// closing it, but its descriptor is free at once: a child that inherited it would
// hang in its exec.
func (f *file) close() {
	worker, job := f.worker, &f.op
	if f.stalled {
		if f.op.kind == opRenew || f.op.kind == opReopen {
			return // which file is open by now, only the operation knows
		}
		worker, job = offload.New(func() {}), &fileOp{fd: f.op.fd}
	}
	job.kind = opRelease
	worker.Do(job, time.Duration(opLimit))
	worker.Close()
}

// giveUp empties b and counts what was in it.
func (f *file) giveUp(b *buffer, as *[2]Count) {
	f.count(b.bytes(), as)
	b.clear()
}

// count adds what the container wrote for these records.
func (f *file) count(records []byte, to *[2]Count) {
	for len(records) > 0 {
		n := firstRecord(records)
		var s stdio.Stream
		var raw int
		var line bool
		if f.json() {
			s, raw, line = jsonRaw(records[:n])
		} else {
			s, raw, line = criRaw(records[:n])
		}
		c := &to[s.Index()]
		c.Bytes += uint64(raw)
		if line {
			c.Lines++
		}
		records = records[n:]
	}
}
