package logging

import (
	"bytes"
	"math/bits"

	"conmon/internal/clock"
	"conmon/internal/handoff"
)

// bucket is a token bucket for raw bytes: rate a second, burst at once. With
// rate 0 there is no limit.
type bucket struct {
	rate, burst int64
	level       int64
	at          clock.Mono // up to when level has been filled
	dry         bool       // run down; until it holds a sip again, nobody drinks
}

func newBucket(rate, burst int64, now clock.Mono) bucket {
	if burst <= 0 {
		burst = rate
	}
	return bucket{rate: rate, burst: burst, level: burst, at: now}
}

// sip is how much must have come back before a dry bucket is used again, so that
// a slow limit does not mean a wake-up for each byte.
func (b *bucket) sip() int64 { return max(min(b.rate/20, b.burst), 1) }

// fill adds what has come in since the last time. The time that made no whole
// byte yet is kept for the next one.
func (b *bucket) fill(now clock.Mono) {
	if b.rate == 0 || now <= b.at {
		return
	}
	hi, lo := bits.Mul64(uint64(now-b.at), uint64(b.rate))
	missing := uint64(b.burst - b.level)
	if hi >= uint64(clock.Second) { // more than any burst
		b.level, b.at = b.burst, now
	} else if come, rest := bits.Div64(hi, lo, uint64(clock.Second)); come >= missing {
		b.level, b.at = b.burst, now
	} else {
		b.level += int64(come)
		b.at = now - clock.Mono(rest/uint64(b.rate))
	}
	if b.level >= b.sip() {
		b.dry = false
	}
}

// take uses up n bytes. The level may become negative: that has to come back first.
func (b *bucket) take(n int) {
	if b.rate == 0 {
		return
	}
	if b.level -= int64(n); b.level <= 0 {
		b.dry = true
	}
}

// ready returns when a dry bucket can be used again, 0 if it is not dry.
func (b *bucket) ready() clock.Mono {
	if !b.dry {
		return 0
	}
	missing := uint64(b.sip() - b.level)
	hi, lo := bits.Mul64(missing, uint64(clock.Second))
	wait, rest := bits.Div64(hi, lo, uint64(b.rate))
	if rest > 0 {
		wait++
	}
	return b.at + clock.Mono(wait)
}

// lineGrace is how far the end of a line may go past the limit if its beginning
// was let through before: as long as most lines are.
const lineGrace = 16 << 10

// sieve lets as much of a stream through as there is room for, without ever
// joining two lines: a line is kept, or left out. Only one whose beginning was let
// through, and that goes on for longer than lineGrace without room, is cut short.
type sieve struct {
	inLine  bool // what was let through last does not end in a newline
	leaving bool // the rest of the current line is left out
	excess  int  // bytes of the current line that were let through without room
}

// next takes a part off the front of chunk that is let through or left out as a
// whole. What is let through may go beyond room by lineGrace and the newline
// that ends a line cut short.
func (v *sieve) next(chunk []byte, room int64) (part []byte, through bool, rest []byte) {
	if v.leaving {
		i := bytes.IndexByte(chunk, '\n')
		switch {
		case i < 0:
			return chunk, false, nil
		case i > 0 && v.inLine:
			return chunk[:i], false, chunk[i:] // its newline is next
		}
		through = v.inLine
		*v = sieve{}
		return chunk[:i+1], through, chunk[i+1:]
	}
	room = max(room, 0)
	if int64(len(chunk)) <= room {
		return v.pass(chunk, len(chunk))
	}
	if i := bytes.LastIndexByte(chunk[:room], '\n'); i >= 0 {
		return v.pass(chunk, i+1)
	}
	if v.inLine {
		n := bytes.IndexByte(chunk, '\n') + 1
		if n == 0 {
			n = len(chunk)
		}
		if over := n - int(room); over <= lineGrace-v.excess {
			v.excess += over
			return v.pass(chunk, n)
		}
	}
	v.leaving = true
	if v.inLine && room > 0 {
		return chunk[:room], true, chunk[room:]
	}
	return v.next(chunk, room)
}

// pass lets the first n bytes of chunk through.
func (v *sieve) pass(chunk []byte, n int) (part []byte, through bool, rest []byte) {
	if v.inLine = chunk[n-1] != '\n'; !v.inLine {
		v.excess = 0
	}
	return chunk[:n], true, chunk[n:]
}

func (b *bucket) save(st *handoff.State) {
	if b.rate > 0 {
		st.PutInt("log.rate.at", int64(b.at))
		st.PutInt("log.rate.level", b.level)
		st.PutBool("log.rate.dry", b.dry)
	}
}

func (b *bucket) load(st *handoff.State) {
	if at := clock.Mono(st.Int("log.rate.at")); at != 0 {
		b.at, b.level, b.dry = at, min(st.Int("log.rate.level"), b.burst), st.Bool("log.rate.dry")
	}
}

func (v *sieve) save(st *handoff.State, key string) {
	st.PutBool(key+"in_line", v.inLine)
	st.PutBool(key+"leaving", v.leaving)
}

func (v *sieve) load(st *handoff.State, key string) {
	v.inLine, v.leaving = st.Bool(key+"in_line"), st.Bool(key+"leaving")
}
