package logging

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"conmon/internal/clock"
	"conmon/internal/config"
	"conmon/internal/stdio"
)

// chunkOf returns a read's worth of lines of n bytes, newline included.
func chunkOf(n int) []byte {
	line := append(bytes.Repeat([]byte{'x'}, n-1), '\n')
	b := bytes.Repeat(line, 64<<10/n+1)
	return b[:64<<10]
}

// BenchmarkWrite gives 64 KiB chunks to a driver with a file on tmpfs; in -bench
// output, MB/s is the container's output. Nothing may be allocated.
func BenchmarkWrite(b *testing.B) {
	for _, kind := range []config.DriverKind{config.K8sFile, config.JSONFile} {
		for _, n := range []int{20, 100, 1000, 20000} {
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
				path := benchPath(b)
				l := newLog(b, config.Log{Drivers: []config.Driver{{Kind: kind, Path: path}}, SizeMax: 64 << 20})
				chunk, wall := chunkOf(n), time.Now()
				l.Write(stdio.Stdout, chunk, wall, 1)
				b.SetBytes(int64(len(chunk)))
				b.ReportAllocs()
				for b.Loop() {
					wall = wall.Add(time.Microsecond)
					l.Write(stdio.Stdout, chunk, wall, clock.Now())
				}
			})
		}
	}
}

// benchPath is a path on tmpfs if there is one.
func benchPath(b *testing.B) string {
	dir, err := os.MkdirTemp("/dev/shm", "logging")
	if err != nil {
		dir = b.TempDir()
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir + "/log"
}
