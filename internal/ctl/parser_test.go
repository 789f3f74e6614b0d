package ctl

import (
	"reflect"
	"strings"
	"testing"
)

// short drops the problems' texts, which no test depends on.
func short(in []Command) (out []Command) {
	for _, c := range in {
		if (c.Kind == Malformed) != (c.Problem != "") {
			panic("a problem goes with a malformed line, and only with it")
		}
		c.Problem = ""
		out = append(out, c)
	}
	return out
}

func TestParser(t *testing.T) {
	bad := Command{}
	size := func(h, w uint16) Command { return Command{Kind: Resize, Height: h, Width: w} }
	reopen := Command{Kind: Reopen}
	for _, c := range []struct {
		name, in string
		winsz    bool
		want     []Command
	}{
		{"resize", "1 24 80\n", false, []Command{size(24, 80)}},
		{"reopen", "2 0 0\n", false, []Command{reopen}},
		{"upgrade", "3 0 0\n", false, []Command{{Kind: Upgrade}}},
		{"two lines", "1 24 80\n2 0 0\n", false, []Command{size(24, 80), reopen}},
		{"unfinished", "1 24 80", false, nil},
		{"more on the line", "1 24 80 and more\n", false, []Command{size(24, 80)}},
		{"carriage return", "1 24 80\r\n", false, []Command{size(24, 80)}},
		{"tabs and blanks", " \t1\t24   80 \n", false, []Command{size(24, 80)}},
		{"decimal, not octal", "1 0010 010\n", false, []Command{size(10, 10)}},
		{"many zeros", "1 " + strings.Repeat("0", 50) + "7 8\n", false, []Command{size(7, 8)}},
		{"hexadecimal", "1 0x10 10\n", false, []Command{bad}},
		{"fraction", "1 10.5 10\n", false, []Command{bad}},
		{"glued garbage", "1 10 10x\n", false, []Command{bad}},
		{"negative", "1 -1 10\n", false, []Command{bad}},
		{"plus", "1 +1 10\n", false, []Command{bad}},
		{"largest", "1 1000 1000\n", false, []Command{size(1000, 1000)}},
		{"smallest", "1 0 0\n", false, []Command{size(0, 0)}},
		{"too large", "1 1001 10\n", false, []Command{bad}},
		{"range holds for reopen", "2 1001 10\n", false, []Command{bad}},
		{"overflow", "1 18446744073709551617 10\n", false, []Command{bad}},
		{"two numbers", "1 24\n", false, []Command{bad}},
		{"empty line", "\n", false, []Command{bad}},
		{"unknown command", "4 0 0\n", false, []Command{bad}},
		{"command zero", "0 0 0\n", false, []Command{bad}},
		{"NUL", "1 2\x003 4\n", false, []Command{bad}},
		{"goes on after a bad line", "x\n1 2 3\n", false, []Command{bad, size(2, 3)}},
		{"199 bytes", "1 2 2 " + strings.Repeat("#", 192) + "\n", false, []Command{size(2, 2)}},
		{"200 bytes", "1 2 2 " + strings.Repeat("#", 193) + "\n1 5 6\n", false, []Command{bad, size(5, 6)}},
		{"64 KiB", "1 2 2 " + strings.Repeat("#", 65535) + "\n2 0 0\n", false, []Command{bad, reopen}},
		{"winsz", "24 80\n", true, []Command{size(24, 80)}},
		{"winsz, more", "24 80 1\n", true, []Command{size(24, 80)}},
		{"winsz, short", "24\n", true, []Command{bad}},
		{"winsz, too large", "24 1001\n", true, []Command{bad}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, step := range []int{len(c.in), 1, 7} {
				p := NewCtlParser()
				if c.winsz {
					p = NewWinszParser()
				}
				if got := short(feed(&p, []byte(c.in), step)); !reflect.DeepEqual(got, c.want) {
					t.Errorf("in steps of %d: got %v, want %v", step, got, c.want)
				}
			}
		})
	}
}

// feed hands b over in pieces, each to a parser restored from its predecessor.
func feed(p *Parser, b []byte, step int) (out []Command) {
	for len(b) > 0 {
		n := min(max(step, 1), len(b))
		out = p.Feed(b[:n], out)
		b = b[n:]
		next := Parser{numbers: p.numbers}
		next.Restore(p.Pending())
		*p = next
	}
	return out
}

func FuzzParser(f *testing.F) {
	f.Add([]byte("1 24 80\n2 0 0\n"), 3)
	f.Add([]byte("1 2 2 "+strings.Repeat("#", 250)+"\n3 0 0\n"), 199)
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		whole, pieces := NewCtlParser(), NewCtlParser()
		a, z := whole.Feed(b, nil), feed(&pieces, b, step)
		if !reflect.DeepEqual(a, z) {
			t.Fatalf("whole: %v, in pieces: %v", a, z)
		}
		if lines := strings.Count(string(b), "\n"); len(a) != lines {
			t.Fatalf("%d commands from %d lines", len(a), lines)
		}
		for _, c := range short(a) {
			if c.Height > maxSize || c.Width > maxSize {
				t.Fatalf("out of range: %v", c)
			}
		}
	})
}
