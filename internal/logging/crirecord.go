package logging

import (
	"bytes"

	"conmon/internal/stdio"
)

// The tags of a CRI record: a whole line, or a piece of one.
const (
	tagFull  = 'F'
	tagPiece = 'P'
)

// appendCRILines appends a record for each whole line at the front of chunk, as
// long as a record fits into what dst has allocated. It returns what is left of
// the chunk (it starts with a line that is unfinished, longer than maxLine or
// does not fit) and the number of records. This loop is where a busy monitor
// spends its time.
func appendCRILines(dst []byte, prefix *criPrefix, chunk []byte, maxLine int) (out, rest []byte, lines int) {
	n := len(dst)
	dst = dst[:cap(dst)]
	for {
		i := bytes.IndexByte(chunk[:min(len(chunk), maxLine+1)], '\n')
		if i < 0 || n+criPrefixLen+i+1 > len(dst) {
			return dst[:n], chunk, lines
		}
		*(*criPrefix)(dst[n:]) = *prefix
		n += criPrefixLen
		n += copy(dst[n:], chunk[:i+1])
		chunk = chunk[i+1:]
		lines++
	}
}

// appendCRI appends the record r.
func appendCRI(dst []byte, prefix *criPrefix, r record) []byte {
	at := len(dst)
	dst = append(dst, prefix[:]...)
	if !r.full {
		dst[at+criTagAt] = tagPiece
	}
	dst = append(dst, r.head...)
	dst = append(dst, r.tail...)
	return append(dst, '\n')
}

// criRaw tells, from a CRI record with its newline, what the container wrote
// for it: which stream, how many bytes, and whether it ended a line.
func criRaw(rec []byte) (s stdio.Stream, n int, line bool) {
	if len(rec) <= criPrefixLen {
		return stdio.Stdout, 0, false
	}
	s = stdio.Stdout
	if rec[criStreamAt] == 'e' {
		s = stdio.Stderr
	}
	n = len(rec) - criPrefixLen - 1
	if rec[criTagAt] == tagFull {
		return s, n + 1, true
	}
	return s, n, false
}
