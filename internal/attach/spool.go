package attach

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

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
	file    ring
	full    bool  // the device was full, which counts as a full backlog
	fullAt  int64 // the limit that follows
}

func newSpool(backlog int64, dirs []string) spool {
	return spool{backlog: backlog, last: -1, file: newRing(backlog, dirs)}
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
		s.taken = takeBuffer(spoolMemory)
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
	if s.file.write(s.tail, s.start, s.mem) {
		s.start += int64(len(s.mem))
		s.mem, s.last = s.mem[:0], -1
		s.full = false
		return
	}
	s.full, s.fullAt = true, max(s.start-s.tail, spoolMemory/2)
	bigger := takeBuffer(2 * cap(s.mem))
	s.mem = bigger[:copy(bigger, s.mem)]
	giveBuffer(s.taken)
	s.taken = bigger
}

// view returns records from pos on, the last of which may be cut. It is valid
// until the next call or append.
func (s *spool) view(pos int64) []byte {
	if pos >= s.start {
		return s.mem[pos-s.start:]
	}
	if s.scratch == nil {
		s.scratch = takeBuffer(spoolMemory)
	}
	b := s.scratch[:min(int64(len(s.scratch)), s.start-pos)]
	return b[:s.file.read(pos, b)]
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
	s.tail, s.start, s.last, s.full = 0, 0, -1, false
	s.mem = s.mem[:0]
	s.file.reset()
}

// giveBack returns what is not in use to the system.
func (s *spool) giveBack() {
	if s.scratch != nil {
		giveBuffer(s.scratch)
		s.scratch = nil
	}
	if s.empty() {
		s.close()
	}
}

// close gives up everything.
func (s *spool) close() {
	s.reset()
	s.file.close()
	for _, b := range [][]byte{s.taken, s.scratch} {
		if b != nil {
			giveBuffer(b)
		}
	}
	s.mem, s.taken, s.scratch = nil, nil, nil
}

// takeBuffer maps memory outside the Go heap, from which it could not be given
// back while the collector is off.
func takeBuffer(size int) []byte {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return make([]byte, size)
	}
	return b
}

// giveBuffer unmaps what takeBuffer returned. For memory of the Go heap, which
// it does not know, that does nothing.
func giveBuffer(b []byte) { _ = unix.Munmap(b) }
