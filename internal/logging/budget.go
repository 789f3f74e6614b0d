package logging

import "conmon/internal/stdio"

// Budget returns how much of want bytes may be read from the container now, at
// least 1 unless Blocked.
func (l *Log) Budget(want int) int {
	for _, d := range l.drivers {
		if most := d.chunkMax(); most > 0 {
			want = min(want, most)
		}
	}
	if l.rate.rate != 0 && !l.cfg.RateDrop && !l.draining {
		want = min(want, int(l.rate.level))
	}
	return max(want, 1)
}

// Blocked reports whether s is not to be read for now, because the log is to
// lose nothing and cannot take more, or because of the rate limit. Deadline and
// Tick end it.
func (l *Log) Blocked(stdio.Stream) bool {
	if l.draining {
		return false
	}
	if l.rate.dry && !l.cfg.RateDrop {
		return true
	}
	for _, d := range l.drivers {
		if d.chunkMax() == 0 {
			return true
		}
	}
	return false
}
