package logging

import (
	"bytes"
	"encoding/binary"
	"time"
	"unicode/utf8"

	"conmon/internal/stdio"
)

// The fixed parts of a json-file record, as docker writes it.
const (
	jsonOpen   = `{"log":"`
	jsonStream = `","stream":"std`
	jsonTime   = `","time":"`
	jsonClose  = "\"}\n"
	jsonEOL    = `\n`

	// jsonFixed is the most that a record has besides its text.
	jsonFixed = len(jsonOpen) + len(jsonEOL) + len(jsonStream) + len("out") + len(jsonTime) + len(time.RFC3339Nano) + len(jsonClose)
	// jsonGrowth is the most bytes that one byte of text becomes.
	jsonGrowth = len(`\u0000`)
)

// jsonSuffix is what follows a record's text; it is the same for a whole chunk.
type jsonSuffix struct {
	mem [96]byte
	n   int
}

// set makes the suffix for records of s at wall.
func (j *jsonSuffix) set(s stdio.Stream, wall time.Time) {
	b := append(j.mem[:0], jsonStream...)
	b = append(b, s.String()[len("std"):]...)
	b = append(b, jsonTime...)
	b = wall.UTC().AppendFormat(b, time.RFC3339Nano)
	j.n = len(append(b, jsonClose...))
}

// appendJSONLines is appendCRILines for the json-file format. A record's size is
// known only afterwards, so dst must have room for one more than it is to hold:
// a record is begun while less than limit bytes are in use.
func appendJSONLines(dst []byte, suffix *jsonSuffix, chunk []byte, maxLine, limit int) (out, rest []byte, lines int) {
	for len(dst) < limit {
		i := bytes.IndexByte(chunk[:min(len(chunk), maxLine+1)], '\n')
		if i < 0 {
			break
		}
		dst = append(dst, jsonOpen...)
		dst = appendJSONText(dst, chunk[:i])
		dst = append(dst, jsonEOL...)
		dst = append(dst, suffix.mem[:suffix.n]...)
		chunk = chunk[i+1:]
		lines++
	}
	return dst, chunk, lines
}

// appendJSON appends the record r. A whole line's text ends in a newline, a
// piece's does not: that is how readers of docker's format join pieces.
func appendJSON(dst []byte, suffix *jsonSuffix, r record) []byte {
	dst = append(dst, jsonOpen...)
	if len(r.head) > 0 && len(r.tail) > 0 && !utf8.RuneStart(r.tail[0]) {
		// A character that two chunks share is one character.
		dst, r.tail = appendJSONSeam(dst, r.head, r.tail)
	} else {
		dst = appendJSONText(dst, r.head)
	}
	dst = appendJSONText(dst, r.tail)
	if r.full {
		dst = append(dst, jsonEOL...)
	}
	return append(dst, suffix.mem[:suffix.n]...)
}

// appendJSONSeam appends head and the character that begins at its end and
// continues in tail, and returns the rest of tail.
func appendJSONSeam(dst, head, tail []byte) (out, rest []byte) {
	cut := max(0, len(head)-utf8.UTFMax+1)
	for i := len(head) - 1; i >= cut; i-- {
		if utf8.RuneStart(head[i]) {
			cut = i
			break
		}
	}
	var seam [2 * utf8.UTFMax]byte
	n := copy(seam[:], head[cut:])
	n += copy(seam[n:n+min(utf8.UTFMax-1, len(tail))], tail)
	_, size := utf8.DecodeRune(seam[:n])
	over := size - (len(head) - cut)
	if over <= 0 {
		return appendJSONText(dst, head), tail
	}
	dst = appendJSONText(dst, head[:cut])
	return appendJSONText(dst, seam[:size]), tail[over:]
}

// appendJSONText appends text as the inside of a JSON string, byte for byte
// like docker: <, > and & are escaped, and what is not UTF-8 becomes U+FFFD.
func appendJSONText(dst, text []byte) []byte {
	for {
		n := plainJSON(text)
		dst = append(dst, text[:n]...)
		if text = text[n:]; len(text) == 0 {
			return dst
		}
		var used int
		dst, used = appendJSONEscape(dst, text)
		text = text[used:]
	}
}

// plainJSON returns how many bytes at the front of text need no escape. It
// looks at eight or sixteen bytes at once; that is what makes json-file as fast
// as k8s-file.
func plainJSON(text []byte) int {
	n := 0
	for ; n+16 <= len(text); n += 16 {
		x, y := binary.LittleEndian.Uint64(text[n:]), binary.LittleEndian.Uint64(text[n+8:])
		if jsonSpecial(x)|jsonSpecial(y) != 0 {
			break
		}
	}
	for ; n+8 <= len(text); n += 8 {
		if jsonSpecial(binary.LittleEndian.Uint64(text[n:])) != 0 {
			break
		}
	}
	if rest := len(text) - n; 0 < rest && rest < 8 && n > 0 && jsonSpecial(binary.LittleEndian.Uint64(text[len(text)-8:])) == 0 {
		return len(text) // some of these eight were looked at before
	}
	for n < len(text) && jsonPlain(text[n]) {
		n++
	}
	return n
}

// jsonSpecial returns 0 if each of the eight bytes is plain. Otherwise a flag may
// be beside the byte it is for, because of a borrow, but there is one.
func jsonSpecial(x uint64) uint64 {
	const (
		ones = 0x0101010101010101
		high = 0x8080808080808080
	)
	quote := x&^(0x04*ones) ^ '"'*ones // zero where a byte is " or &
	angle := x&^(0x02*ones) ^ '<'*ones // zero where a byte is < or >
	slash := x ^ '\\'*ones
	return ((x - 0x20*ones) | (quote - ones) | (angle - ones) | (slash - ones) | x) & high
}

func jsonPlain(c byte) bool {
	return c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
}

// appendJSONEscape appends the character at the front of text, which is not a
// plain one, and returns how many bytes it had.
func appendJSONEscape(dst, text []byte) ([]byte, int) {
	const hex = "0123456789abcdef"
	switch c := text[0]; {
	case c >= utf8.RuneSelf:
		r, size := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && size == 1:
			return append(dst, `\ufffd`...), 1
		case r == '\u2028' || r == '\u2029': // line ends in JavaScript
			return append(dst, '\\', 'u', '2', '0', '2', hex[r&0xf]), size
		}
		return append(dst, text[:size]...), size
	case c == '"' || c == '\\':
		return append(dst, '\\', c), 1
	case c == '\n':
		return append(dst, jsonEOL...), 1
	case c == '\r':
		return append(dst, `\r`...), 1
	case c == '\t':
		return append(dst, `\t`...), 1
	default:
		return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf]), 1
	}
}

// jsonRaw is criRaw for the json-file format.
func jsonRaw(rec []byte) (s stdio.Stream, n int, line bool) {
	s = stdio.Stdout
	if !bytes.HasPrefix(rec, []byte(jsonOpen)) {
		return s, 0, false
	}
	for i := len(jsonOpen); i < len(rec); n++ {
		switch c := rec[i]; {
		case c == '"':
			if at := i + len(jsonStream); at < len(rec) && rec[at] == 'e' {
				s = stdio.Stderr
			}
			return s, n, line
		case c != '\\':
			i++
		case bytes.HasPrefix(rec[i:], []byte(`\u202`)): // three bytes of UTF-8
			n += 2
			i += jsonGrowth
		case bytes.HasPrefix(rec[i:], []byte(`\u`)):
			i += jsonGrowth
		default:
			line = bytes.HasPrefix(rec[i:], []byte(jsonEOL))
			i += 2
		}
	}
	return s, n, line
}
