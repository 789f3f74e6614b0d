package logging

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// cutAt gives in to a splitter in chunks, whose lengths the bytes of cuts are, and
// returns the records.
func cutAt(in, cuts []byte, limit int, text bool) (records []string) {
	s := splitter{max: limit, text: text}
	defer s.pending.free()
	add := func(r record) {
		records = append(records, fmt.Sprintf("%v %s%s", r.full, r.head, r.tail))
	}
	for len(in) > 0 {
		n := len(in)
		if len(cuts) > 0 {
			n, cuts = min(int(cuts[0])+1, n), cuts[1:]
		}
		chunk := bytes.Clone(in[:n]) // as the monitor's buffer is used again
		for rest := chunk; len(rest) > 0; {
			r, after, ok := s.next(rest)
			if rest = after; ok {
				add(r)
			}
		}
		clear(chunk)
		in = in[n:]
	}
	if r, ok := s.flush(); ok {
		add(r)
	}
	return records
}

// However the stream is cut into chunks, the records are the same, and together
// they are what came in.
func FuzzSplit(f *testing.F) {
	f.Add([]byte("one\ntwo\n\nthree"), []byte{0, 3, 1}, uint8(8))
	f.Add([]byte("longer than the longest line\nx"), []byte{7, 7, 7}, uint8(7))
	f.Add([]byte("12345678\n12345678"), []byte{7, 0, 7}, uint8(8))
	f.Add([]byte("\n\n\n"), []byte{}, uint8(1))
	f.Add([]byte("añb€c𝄞€€€€€€ñññ\n€"), []byte{1, 0, 0, 1, 2, 0, 1}, uint8(4))
	f.Fuzz(func(t *testing.T, in, cuts []byte, limit uint8) {
		longest := int(limit) + 1
		characters := limit&1 == 0
		whole, parts := cutAt(in, nil, longest, characters), cutAt(in, cuts, longest, characters)
		if fmt.Sprint(whole) != fmt.Sprint(parts) {
			t.Errorf("%q by %v: %q, whole: %q", in, cuts, parts, whole)
		}
		var joined []byte
		for i, r := range whole {
			full := r[0] == 't'
			text := r[len(fmt.Sprint(full))+1:]
			if len(text) > longest {
				t.Errorf("%q is longer than %d", text, longest)
			}
			if text == "" && !full {
				t.Errorf("empty piece in %q", whole)
			}
			joined = append(joined, text...)
			if full {
				joined = append(joined, '\n')
			} else if i < len(whole)-1 && len(text) != longest && !(characters && len(text) > longest-utf8.UTFMax) {
				t.Errorf("piece %q is not the longest", text)
			}
			if characters && longest >= utf8.UTFMax && utf8.Valid(in) && !utf8.ValidString(text) {
				t.Errorf("piece %q is not made of characters", text)
			}
		}
		if !bytes.Equal(joined, in) {
			t.Errorf("%q became %q", in, joined)
		}
	})
}

// sift gives in to a sieve that may pass on room bytes.
func sift(in []byte, room int64, cuts []byte) (through, left []byte) {
	var v sieve
	for len(in) > 0 {
		n := len(in)
		if len(cuts) > 0 {
			n, cuts = min(int(cuts[0])+1, n), cuts[1:]
		}
		chunk := in[:n]
		in = in[n:]
		for len(chunk) > 0 {
			part, ok, rest := v.next(chunk, room)
			if chunk = rest; ok {
				through = append(through, part...)
				room -= int64(len(part))
			} else {
				left = append(left, part...)
			}
		}
	}
	return through, left
}

func TestSieve(t *testing.T) {
	long := strings.Repeat("x", lineGrace+1)
	for _, c := range []struct {
		in   string
		room int64
		cuts []byte
		want string
	}{
		{"one\ntwo\n", 8, nil, "one\ntwo\n"},
		{"one\ntwo\n", 7, nil, "one\n"},
		{"one\ntwo\n", 4, nil, "one\n"},
		{"one\ntwo\n", 3, nil, ""},
		{"one\ntwo\n", 0, nil, ""},
		{"onetwo\nthree\n", 4, []byte{2}, "onetwo\n"},
		{"onetwo\nthree\n", 3, []byte{2, 0, 0}, "onetwo\n"},
		{"one" + long + "\nthree\n", 4, []byte{2}, "one" + long[:1] + "\n"},
		{"one" + long[:lineGrace] + "\na\n", 4, []byte{2}, "one" + long[:lineGrace] + "\n"},
		{"one\ntwo", 7, nil, "one\ntwo"},
		{"one\ntwo", 6, nil, "one\n"},
		{"long line\na\n", 5, nil, "a\n"},
	} {
		if got, _ := sift([]byte(c.in), c.room, c.cuts); string(got) != c.want {
			t.Errorf("%q, room for %d: %q, want %q", c.in, c.room, got, c.want)
		}
	}
}

// Nothing vanishes without being counted, and what is let through is made of
// beginnings of the lines that came in, in order.
func FuzzSieve(f *testing.F) {
	f.Add([]byte("one\ntwo\nthree\n"), uint16(7), []byte{1, 2, 3})
	f.Add([]byte("no end"), uint16(3), []byte{1})
	f.Add([]byte("a long line"+strings.Repeat("x", 2*lineGrace)+"\nand another\n"), uint16(7), []byte{3, 255})
	f.Fuzz(func(t *testing.T, in []byte, room uint16, cuts []byte) {
		through, left := sift(in, int64(room), cuts)
		if len(through)+len(left) != len(in) {
			t.Fatalf("%d and %d of %d bytes", len(through), len(left), len(in))
		}
		if over := len(through) - int(room); over > lineGrace+1 {
			t.Errorf("%d bytes over", over)
		}
		lines := bytes.SplitAfter(in, newline)
		for _, l := range bytes.SplitAfter(through, newline) {
			l = bytes.TrimSuffix(l, newline)
			for len(lines) > 0 && !bytes.HasPrefix(lines[0], l) {
				lines = lines[1:]
			}
			if len(lines) == 0 {
				t.Fatalf("%q: %q is no line's beginning", in, l)
			}
			lines = lines[1:]
		}
	})
}
