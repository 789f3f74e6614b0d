// Package handoff carries the monitor across an exec: from the launching image
// to the staying one, and from an old version to a new one. Both are the same
// step: named values in a memfd, descriptors left open, and the same process.
package handoff

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// Version is the format's version. It changes only when an older image would
// misread the state; new keys do not change it, because unknown keys are ignored.
const Version = 1

// magic opens every encoded state.
const magic = "conmon state "

// fdKey repeats every descriptor, so that the next image finds them all.
const fdKey = "handoff.fd"

// State is a set of named values and descriptors. Names are grouped by dots
// ("log.0.size"). A name that was never put reads as zero, so that a newer image
// understands an older one's state. The zero State is empty and ready to use.
type State struct {
	entries []entry
	fds     []int
	// sorted holds the entries' numbers in the order of their keys, of which
	// there may be as many as a container has clients; it is made anew when it is
	// asked for after a Put.
	sorted []int32
}

type entry struct{ key, value []byte }

// PutBytes stores a copy of v under key.
func (s *State) PutBytes(key string, v []byte) {
	s.entries = append(s.entries, entry{[]byte(key), append([]byte(nil), v...)})
}

// PutString stores v under key.
func (s *State) PutString(key, v string) {
	s.entries = append(s.entries, entry{[]byte(key), []byte(v)})
}

// PutInt stores v under key.
func (s *State) PutInt(key string, v int64) { s.PutString(key, strconv.FormatInt(v, 10)) }

// PutBool stores v under key.
func (s *State) PutBool(key string, v bool) {
	if v {
		s.PutInt(key, 1)
	}
}

// PutStrings stores each element of v; their order is kept.
func (s *State) PutStrings(key string, v []string) {
	for _, x := range v {
		s.PutString(key, x)
	}
}

// PutFD stores a descriptor that is to stay open across the exec. Ownership
// passes to the image that reads it. A negative fd stands for "none".
func (s *State) PutFD(key string, fd int) {
	if fd < 0 {
		return
	}
	s.fds = append(s.fds, fd)
	s.PutInt(key, int64(fd))
	s.PutInt(fdKey, int64(fd))
}

// Bytes returns the value stored under key; the caller must not change it.
func (s *State) Bytes(key string) []byte {
	i := s.find(key)
	if i < len(s.sorted) {
		if e := &s.entries[s.sorted[i]]; string(e.key) == key {
			return e.value
		}
	}
	return nil
}

// find returns where in sorted the first entry under key is, or would be.
func (s *State) find(key string) int {
	if len(s.sorted) != len(s.entries) {
		s.sort()
	}
	low, high := 0, len(s.sorted)
	for low < high {
		middle := (low + high) / 2
		if string(s.entries[s.sorted[middle]].key) < key {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low
}

func (s *State) sort() {
	s.sorted = slices.Grow(s.sorted[:0], len(s.entries))[:len(s.entries)]
	for i := range s.sorted {
		s.sorted[i] = int32(i)
	}
	slices.SortFunc(s.sorted, func(a, b int32) int {
		if c := bytes.Compare(s.entries[a].key, s.entries[b].key); c != 0 {
			return c
		}
		return int(a - b) // the first one counts, and lists keep their order
	})
}

// String returns the value stored under key.
func (s *State) String(key string) string { return string(s.Bytes(key)) }

// Int returns the number stored under key.
func (s *State) Int(key string) int64 {
	b := s.Bytes(key)
	if b == nil {
		return 0 // as most are; the error would allocate
	}
	n, _ := strconv.ParseInt(string(b), 10, 64)
	return n
}

// Bool returns the truth value stored under key.
func (s *State) Bool(key string) bool { return s.Int(key) != 0 }

// Strings returns every value stored under key.
func (s *State) Strings(key string) []string {
	first := s.find(key)
	end := first
	for end < len(s.sorted) && string(s.entries[s.sorted[end]].key) == key {
		end++
	}
	if first == end {
		return nil
	}
	v := make([]string, 0, end-first)
	for _, i := range s.sorted[first:end] {
		v = append(v, string(s.entries[i].value))
	}
	return v
}

// FD returns the descriptor stored under key, -1 if there is none.
func (s *State) FD(key string) int {
	b := s.Bytes(key)
	if b == nil {
		return -1
	}
	n, _ := strconv.Atoi(string(b))
	return n
}

// FDs returns every descriptor that was put.
func (s *State) FDs() []int { return s.fds }

// Encode appends the state's bytes to b.
func (s *State) Encode(b []byte) []byte {
	b = append(b, magic...)
	b = strconv.AppendInt(b, Version, 10)
	b = append(b, '\n')
	for _, e := range s.entries {
		b = binary.AppendUvarint(b, uint64(len(e.key)))
		b = append(b, e.key...)
		b = binary.AppendUvarint(b, uint64(len(e.value)))
		b = append(b, e.value...)
	}
	return b
}

// Decode reads what Encode wrote. The state keeps parts of b.
func Decode(b []byte) (*State, error) {
	b, ok := bytes.CutPrefix(b, []byte(magic))
	version, b, found := bytes.Cut(b, []byte{'\n'})
	n, err := strconv.Atoi(string(version))
	switch {
	case !ok || !found || err != nil:
		return nil, errors.New("not a monitor's state")
	case n != Version:
		return nil, fmt.Errorf("state format %d, this version reads %d", n, Version)
	}
	s := &State{entries: make([]entry, 0, countFields(b)/2)}
	for len(b) > 0 {
		var key, value []byte
		if key, b, ok = field(b); !ok {
			return nil, errors.New("state is cut off in a name")
		}
		if value, b, ok = field(b); !ok {
			return nil, fmt.Errorf("state is cut off in the value of %q", key)
		}
		s.entries = append(s.entries, entry{key, value})
	}
	return s, nil
}

// countFields returns how many whole fields b holds, so that the entries need
// not grow: nothing that the staying image allocates is ever freed.
func countFields(b []byte) (n int) {
	for {
		_, rest, ok := field(b)
		if !ok {
			return n
		}
		b = rest
		n++
	}
}

// field takes one length-prefixed field off the front of b.
func field(b []byte) (value, rest []byte, ok bool) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return nil, nil, false
	}
	return b[w : w+int(n)], b[w+int(n):], true
}
