// Package clock gives the monitor's two notions of time: the monotonic one for
// every interval and the wall clock for what people read.
package clock

import (
	"time"

	"golang.org/x/sys/unix"
)

// Mono is a reading of CLOCK_MONOTONIC in nanoseconds. It means the same to
// every image of one boot, so a deadline survives the live upgrade unchanged.
// Zero stands for "no deadline".
type Mono int64

// Units of Mono.
const (
	Millisecond Mono = 1e6
	Second      Mono = 1e9
)

// anchor is one moment on both of this package's scales. It is the only way from
// one to the other, and a variable because it is read once: asking the kernel
// for the monotonic clock is a system call, and the loop asks in every turn,
// while the Go runtime reads it, since a moment of its own, without one.
var anchor = anchored()

type moment struct {
	mono Mono
	wall time.Time
}

func anchored() moment {
	var ts unix.Timespec
	// CLOCK_MONOTONIC cannot fail on Linux.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return moment{Mono(ts.Nano()), time.Now()}
}

// Now reads the monotonic clock.
func Now() Mono { return anchor.mono + Mono(time.Since(anchor.wall)) }

// Earlier returns the earlier of two deadlines, either of which may be absent.
func Earlier(a, b Mono) Mono {
	switch {
	case a == 0:
		return b
	case b == 0 || a < b:
		return a
	}
	return b
}
