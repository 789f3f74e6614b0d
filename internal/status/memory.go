package status

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// Memory is what a process occupies, in bytes; 0 where the kernel does not say.
type Memory struct {
	RSS       uint64 // resident, shared pages included
	PSS       uint64 // resident, each page divided by the number of its users
	USS       uint64 // resident and of nobody else: what ending the process would free
	Anonymous uint64 // resident and not backed by a file
}

// OwnMemory reads this process's memory from the kernel. That takes some 50
// microseconds and no allocation, and belongs only where somebody asked.
func OwnMemory() Memory {
	var b [2048]byte
	return parseRollup(readStart("/proc/self/smaps_rollup", b[:]))
}

// readStart reads the beginning of a small file in /proc into b.
func readStart(path string, b []byte) []byte {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	n, _ := unix.Read(fd, b)
	return b[:max(n, 0)]
}

// parseRollup reads the lines "Name:   123 kB" of smaps_rollup.
func parseRollup(b []byte) (m Memory) {
	for len(b) > 0 {
		line := b
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			line, b = b[:i], b[i+1:]
		} else {
			b = nil
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			continue
		}
		n := kilobytes(value)
		switch string(name) {
		case "Rss":
			m.RSS = n
		case "Pss":
			m.PSS = n
		case "Private_Clean", "Private_Dirty":
			m.USS += n
		case "Anonymous":
			m.Anonymous = n
		}
	}
	return m
}

// kilobytes reads "   123 kB" as bytes; anything else is 0.
func kilobytes(b []byte) (n uint64) {
	b, ok := bytes.CutSuffix(bytes.TrimLeft(b, " \t"), []byte(" kB"))
	if !ok || len(b) == 0 || len(b) > 15 {
		return 0
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0
		}
		n = n*10 + uint64(c-'0')
	}
	return n << 10
}
