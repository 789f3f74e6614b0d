package logging

import (
	"bytes"
	"unicode/utf8"
)

// record is one log entry's text, in the one or two places where it lies. It is
// valid until the splitter's next call and as long as the chunk is.
type record struct {
	head []byte // what earlier chunks left
	tail []byte // from this chunk
	full bool   // ends its line; else it is a piece of one
}

// splitter cuts one stream into records: lines, pieces of lines longer than
// max, and, when asked to flush, the beginning of an unfinished line. Without a
// flush the records are the same however the stream is cut into chunks.
type splitter struct {
	max     int  // longest record, without the newline
	text    bool // a character of UTF-8 is not cut in two
	pending buffer
	fresh   bool // pending began in this chunk; for whoever sets a timer
}

// next takes one record off the front of chunk. If there is none, because the
// line goes on in a later chunk, ok is false and all of chunk is pending.
func (s *splitter) next(chunk []byte) (r record, rest []byte, ok bool) {
	if len(chunk) == 0 {
		return record{}, nil, false
	}
	room := s.max - s.pending.len()
	if i := bytes.IndexByte(chunk[:min(len(chunk), room+1)], '\n'); i >= 0 {
		return record{s.take(), chunk[:i], true}, chunk[i+1:], true
	}
	if len(chunk) > room {
		return s.piece(chunk, room)
	}
	// max at once, so that the memory does not move while a line grows.
	if !s.pending.reserve(room) {
		return record{s.take(), chunk, false}, nil, true
	}
	s.fresh = s.fresh || s.pending.len() == 0
	s.pending.append(chunk)
	return record{}, nil, false
}

// piece takes max bytes, of which room are in chunk, as a piece.
func (s *splitter) piece(chunk []byte, room int) (r record, rest []byte, ok bool) {
	head, split := s.pending.bytes(), 0
	if s.text {
		split = splitCharacter(head, chunk[:room])
	}
	switch {
	case split == s.max:
		// It would never end.
	case split <= room:
		room -= split
	default: // it began in an earlier chunk
		n := len(head) - (split - room)
		s.pending.consume(n) // and stays where it is
		return record{head: head[:n]}, chunk, true
	}
	return record{s.take(), chunk[:room], false}, chunk[room:], true
}

// splitCharacter returns how many bytes at the end of head and tail are the
// beginning of a character that goes on behind them.
func splitCharacter(head, tail []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(head)+len(tail); n++ {
		var c byte
		if n <= len(tail) {
			c = tail[len(tail)-n]
		} else {
			c = head[len(head)+len(tail)-n]
		}
		if !utf8.RuneStart(c) {
			continue
		}
		if c >= 0xf0 && n < 4 || c >= 0xe0 && n < 3 || c >= 0xc0 && n < 2 {
			return n
		}
		break
	}
	return 0
}

// flush takes what is pending as a piece; ok is false if there is nothing.
func (s *splitter) flush() (r record, ok bool) {
	if s.pending.len() == 0 {
		return record{}, false
	}
	return record{head: s.take()}, true
}

// take empties pending and returns what it held.
func (s *splitter) take() []byte {
	b := s.pending.bytes()
	s.pending.clear()
	return b
}

// trim gives the memory back if nothing is pending.
func (s *splitter) trim() {
	if s.pending.len() == 0 {
		s.pending.free()
	}
}
