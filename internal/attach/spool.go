package attach

import (
	"encoding/binary"

	"conmon/internal/poll"
	"conmon/internal/stdio"
)

// spoolMemory is how much of the backlog stays in memory: clients that stumble
// never cause disk traffic. It is also the size of a view into the file.
const spoolMemory = 64 << 10

// spool is the output that somebody still waits for, as records at positions
// that count up from zero. The newest part is in memory; when that is full it
// moves to the ring file as one block. All laggards read the same spool, each at
// its own position, so that any number of them cost one backlog.
type spool struct {
	backlog int64 // the policy's limit
	tail    int64 // what lies before it is not needed any more
	start   int64 // position of mem[0]; what lies between tail and start is in file
	mem     []byte
	taken   []byte // the mapping that mem is a part of, nil: none
	last    int    // offset in mem of the newest record, -1 if it is in the file
	scratch []byte // for views into the file, nil: none
	seen    int    // how much of scratch holds what is in the file from seenAt on
	seenAt  int64
	badAt   int64 // where the file could not be read, -1: nowhere
	file    ring
	lent    []byte // the mapping that a pending write reads from
	full    bool   // the device takes no more, which counts as a full backlog
	busy    bool   // but only because something was pending
	fullAt  int64  // the limit that follows
}

func newSpool(backlog int64, dirs []string, w poll.Watcher, tag poll.Tag) spool {
	return spool{backlog: backlog, last: -1, badAt: -1, file: newRing(backlog, dirs, w, tag)}
}

// head is the position behind the newest record.
func (s *spool) head() int64 { return s.start + int64(len(s.mem)) }

// lag is how much the slowest client has to catch up.
func (s *spool) lag() int64 { return s.head() - s.tail }

// empty reports whether nobody lags.
func (s *spool) empty() bool { return s.head() == s.tail }

// limit is the lag past which the policy is applied.
func (s *spool) limit() int64 {
	limit := min(s.backlog, s.file.limit())
	if s.full {
		limit = min(limit, s.fullAt)
	}
	return limit
}

// append adds data of stream and returns the position of its first record. With
// join, the newest record may grow instead of a new one being made, so that a
// container writing byte by byte costs laggards no packet for each; the returned
// position means nothing then.
func (s *spool) append(stream stdio.Stream, data []byte, join bool) int64 {
	if s.empty() {
		s.reset()
	}
	if join && s.extend(stream, data) {
		return 0
	}
	start := s.head()
	for len(data) > 0 {
		n := min(len(data), packetData)
		s.reserve(recordHead + n)
		s.last = len(s.mem)
		s.mem = binary.LittleEndian.AppendUint16(s.mem, uint16(n))
		s.mem = append(append(s.mem, byte(stream)), data[:n]...)
		data = data[n:]
	}
	return start
}

// extend adds data to the newest record if that is in memory, of the same stream
// and has room.
func (s *spool) extend(stream stdio.Stream, data []byte) bool {
	if s.last < 0 || s.mem[s.last+lengthSize] != byte(stream) {
		return false
	}
	n := int(binary.LittleEndian.Uint16(s.mem[s.last:])) + len(data)
	if n > packetData || len(s.mem)+len(data) > cap(s.mem) {
		return false
	}
	binary.LittleEndian.PutUint16(s.mem[s.last:], uint16(n))
	s.mem = append(s.mem, data...)
	return true
}

// reserve makes room for n bytes in memory: by dropping what is not needed any
// more, by moving all to the file, or, where that fails, by growing. It grows
// by no more than a chunk of each stream, because the streams are blocked then
// or the laggards dropped.
func (s *spool) reserve(n int) {
	if len(s.mem)+n <= cap(s.mem) {
		return
	}
	if s.taken == nil {
		s.taken = stdio.TakeMemory(spoolMemory)
		s.mem = s.taken[:0]
		return
	}
	if unused := int(s.tail - s.start); unused >= len(s.mem)/2 && unused >= n {
		copy(s.mem, s.mem[unused:])
		s.mem = s.mem[:len(s.mem)-unused]
		s.start = s.tail
		s.last -= unused
		return
	}
	pending := s.file.pending
	if s.file.write(s.tail, s.start, s.mem) {
		s.start += int64(len(s.mem))
		s.mem, s.last = s.mem[:0], -1
		s.full, s.busy = false, false
		s.shrink()
		return
	}
	s.full, s.busy, s.fullAt = true, s.file.pending, max(s.start-s.tail, spoolMemory/2)
	bigger := stdio.TakeMemory(2 * cap(s.mem))
	s.mem = bigger[:copy(bigger, s.mem)]
	if s.file.pending && !pending {
		// What is on its way to the file must stay as it is, also in the copy.
		s.lent, s.last = s.taken, -1
	} else {
		stdio.GiveMemory(s.taken)
	}
	s.taken = bigger
}

// view returns records from pos on, the last of which may be cut. It is valid
// until the next call or append. There are none if the file cannot be read, or
// if hangs says so.
func (s *spool) view(pos int64) []byte {
	if pos >= s.start {
		return s.mem[pos-s.start:]
	}
	if b := s.cached(pos); b != nil || pos == s.badAt || s.file.pending {
		return b
	}
	if s.scratch == nil {
		s.scratch = stdio.TakeMemory(spoolMemory)
	}
	b := s.scratch[:min(int64(len(s.scratch)), s.start-pos)]
	s.seen = 0
	s.seen, s.seenAt = s.file.read(pos, b), pos
	return s.scratch[:s.seen]
}

// cached returns the records from pos on that were read before, nil if there is
// no whole one.
func (s *spool) cached(pos int64) []byte {
	if pos < s.seenAt || pos >= s.seenAt+int64(s.seen) {
		return nil
	}
	if b := s.scratch[pos-s.seenAt : s.seen]; recordSize(b) > 0 {
		return b
	}
	return nil
}

// hangs reports whether a client at pos has to wait for the file.
func (s *spool) hangs(pos int64) bool {
	return s.file.pending && pos < s.start && s.cached(pos) == nil
}

// ready reports whether a client at pos would get an answer out of memory.
func (s *spool) ready(pos int64) bool {
	return pos >= s.start || pos == s.badAt || s.cached(pos) != nil
}

// settle takes note of the end of what was pending, and reports whether it has
// ended.
func (s *spool) settle() bool {
	j := s.file.settle()
	if j == nil {
		return false
	}
	if s.lent != nil {
		stdio.GiveMemory(s.lent)
		s.lent = nil
	}
	switch {
	case s.file.stale:
	case j.kind == ringWrite && j.whole():
		s.moved(j.pos + int64(len(j.buf)))
	case j.kind == ringWrite:
		s.busy = false // it really is full
	case j.kind == ringRead:
		s.seen, s.seenAt = j.done, j.pos
		if recordSize(j.buf[:j.done]) == 0 {
			s.badAt = j.pos
		}
	}
	if s.busy {
		s.full, s.busy = false, false
	}
	return true
}

// moved forgets what lies before end in memory: it is in the file now.
func (s *spool) moved(end int64) {
	n := int(end - s.start)
	if n <= 0 {
		return
	}
	s.mem = s.mem[:copy(s.mem, s.mem[n:])]
	s.start = end
	if s.last -= n; s.last < 0 {
		s.last = -1
	}
	s.shrink()
}

// shrink undoes what reserve did while the file took nothing.
func (s *spool) shrink() {
	size := max(spoolMemory, 2*len(s.mem))
	if size >= cap(s.mem) {
		return
	}
	smaller := stdio.TakeMemory(size)
	s.mem = smaller[:copy(smaller, s.mem)]
	stdio.GiveMemory(s.taken)
	s.taken = smaller
}

// advance forgets what lies before tail.
func (s *spool) advance(tail int64) {
	s.tail = max(s.tail, tail)
	if s.empty() {
		s.reset()
	}
}

// reset starts over at position zero; nobody lags.
func (s *spool) reset() {
	s.tail, s.start, s.last, s.full, s.busy = 0, 0, -1, false, false
	s.seen, s.badAt = 0, -1
	s.mem = s.mem[:0]
	s.file.reset()
}

// giveBack returns what is not in use to the system.
func (s *spool) giveBack() {
	s.giveScratch()
	if s.empty() {
		s.giveMemory()
		s.file.close()
	}
}

// giveScratch returns the buffer for views, unless a pending read may still
// write to it.
func (s *spool) giveScratch() {
	if s.scratch != nil && !s.file.pending {
		stdio.GiveMemory(s.scratch)
		s.scratch, s.seen = nil, 0
	}
}

// giveMemory returns the newest records' buffer.
func (s *spool) giveMemory() {
	s.reset()
	if s.taken != nil {
		stdio.GiveMemory(s.taken)
	}
	s.mem, s.taken = nil, nil
}

// giveUpFile lets go of the file when nobody needs what is in it.
func (s *spool) giveUpFile() {
	if s.file.pending {
		s.scratch, s.lent = nil, nil // they belong to what hangs
		s.seen = 0
	}
	s.file.abandon()
}

// close gives up everything. What is pending keeps its buffer.
func (s *spool) close() {
	s.giveScratch()
	s.giveMemory()
	s.giveUpFile()
}
