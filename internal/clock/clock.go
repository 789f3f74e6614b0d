// Package clock gives the monitor's two notions of time: the monotonic one for
// every interval and the wall clock for what people read.
package clock

import "golang.org/x/sys/unix"

// Mono is a reading of CLOCK_MONOTONIC in nanoseconds. It means the same to
// every image of one boot, so a deadline survives the live upgrade unchanged.
// Zero stands for "no deadline".
type Mono int64

// Units of Mono.
const (
	Millisecond Mono = 1e6
	Second      Mono = 1e9
)

// Now reads the monotonic clock.
func Now() Mono {
	var ts unix.Timespec
	// CLOCK_MONOTONIC cannot fail on Linux.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return Mono(ts.Nano())
}

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
