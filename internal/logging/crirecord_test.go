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
