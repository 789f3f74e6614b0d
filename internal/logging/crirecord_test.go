package logging

import (
	"fmt"
	"testing"
	"time"

	"conmon/internal/stdio"
)

// BenchmarkFormat is BenchmarkWrite without the file.
func BenchmarkFormat(b *testing.B) {
	for _, n := range []int{20, 100, 1000} {
		chunk := chunkOf(n)
		var p stamp
		var j jsonSuffix
		p.set(stdio.Stdout, time.Now())
		j.set(stdio.Stdout, time.Now())
		dst := make([]byte, 0, 1<<20)
		b.Run(fmt.Sprintf("cri/%d", n), func(b *testing.B) {
			b.SetBytes(int64(len(chunk)))
			for b.Loop() {
				appendCRILines(dst, &p.text, chunk, 16384)
			}
		})
		b.Run(fmt.Sprintf("json/%d", n), func(b *testing.B) {
			b.SetBytes(int64(len(chunk)))
			for b.Loop() {
				appendJSONLines(dst, &j, chunk, 16384, cap(dst))
			}
		})
	}
}

func TestStamp(t *testing.T) {
	zone := time.FixedZone("", -(9*3600 + 30*60))
	var p stamp
	for _, c := range []struct {
		wall time.Time
		want string
	}{
		{time.Date(2024, 1, 2, 3, 4, 5, 6, time.UTC), "2024-01-02T03:04:05.000000006+00:00 stdout F "},
		{time.Date(2024, 1, 2, 3, 4, 5, 999_999_999, time.UTC), "2024-01-02T03:04:05.999999999+00:00 stdout F "},
		{time.Date(2024, 1, 2, 3, 4, 6, 0, time.UTC), "2024-01-02T03:04:06.000000000+00:00 stdout F "},
		{time.Date(2023, 12, 31, 23, 59, 59, 100_000_000, zone), "2023-12-31T23:59:59.100000000-09:30 stdout F "},
	} {
		if p.set(stdio.Stdout, c.wall); string(p.text[:]) != c.want {
			t.Errorf("got %q, want %q", p.text, c.want)
		}
		if p.set(stdio.Stderr, c.wall); string(p.text[criStreamAt-3:criTagAt-1]) != "stderr" {
			t.Errorf("got %q", p.text)
		}
	}
}

func TestCRIRaw(t *testing.T) {
	var p stamp
	p.set(stdio.Stderr, time.Now())
	for _, r := range []record{{full: true}, {tail: []byte("x")}, {head: []byte("ab"), tail: []byte("cd"), full: true}} {
		raw := len(r.head) + len(r.tail)
		if r.full {
			raw++
		}
		if s, n, line := criRaw(appendCRI(nil, &p.text, r)); s != stdio.Stderr || n != raw || line != r.full {
			t.Errorf("%+v counts as %v %d %v", r, s, n, line)
		}
	}
}
