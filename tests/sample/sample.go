// Package sample makes output for containers: binary lines of random lengths
// that both the container and the test that checks its log can make again.
package sample

import (
	"math/rand/v2"
)

// poolSize is how many random bytes lines are cut out of.
const poolSize = 1 << 20

// Lines is an endless stream of lines, the same for the same seed. Most are
// short, some are longer than a monitor's record, none holds more than one
// newline, its last byte.
type Lines struct {
	rng  *rand.Rand
	pool []byte
	left []byte // of the current line
	end  bool   // its newline is due
}

// New returns the stream of that seed.
func New(seed uint64) *Lines {
	l := &Lines{rng: rand.New(rand.NewPCG(seed, 1)), pool: make([]byte, poolSize)}
	for i := range l.pool {
		// Every byte but the newline, NUL and invalid UTF-8 included.
		if l.pool[i] = byte(l.rng.Uint32()); l.pool[i] == '\n' {
			l.pool[i] = 0
		}
	}
	return l
}

// Read fills p.
func (l *Lines) Read(p []byte) (int, error) {
	for n := 0; n < len(p); {
		switch {
		case len(l.left) > 0:
			m := copy(p[n:], l.left)
			l.left = l.left[m:]
			n += m
		case l.end:
			p[n], l.end = '\n', false
			n++
		default:
			from := l.rng.IntN(poolSize / 2)
			l.left, l.end = l.pool[from:from+l.length()], true
		}
	}
	return len(p), nil
}

// length chooses the next line's length.
func (l *Lines) length() int {
	switch k := l.rng.IntN(1000); {
	case k == 0:
		return l.rng.IntN(100_000)
	case k < 50:
		return l.rng.IntN(3)
	case k < 100:
		return 8000 + l.rng.IntN(400)
	default:
		return l.rng.IntN(1500)
	}
}
