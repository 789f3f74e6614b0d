package logging

import (
	"time"

	"conmon/internal/stdio"
)

// criTime is the time format of the CRI log file: always nine digits, always a
// numeric offset. Kubernetes parses it by position.
const criTime = "2006-01-02T15:04:05.000000000-07:00"

// The CRI prefix "TIME stdout F " and where its parts are.
const (
	criPrefixLen = len(criTime) + len(" stdout F ")
	criStreamAt  = len(criTime) + len(" std") // 'o' or 'e'
	criTagAt     = criPrefixLen - 2
)

type criPrefix [criPrefixLen]byte

// stamp makes the CRI prefix for a time. Most of it changes once a second, so
// the digits of the fraction are all there is to do for most chunks.
type stamp struct {
	second int64
	text   criPrefix
	valid  bool
}

// set makes text the prefix of a whole line of s at wall, in wall's zone.
func (p *stamp) set(s stdio.Stream, wall time.Time) {
	if sec := wall.Unix(); sec != p.second || !p.valid {
		wall.AppendFormat(p.text[:0], criTime)
		copy(p.text[len(criTime):], " stdout F ")
		p.second, p.valid = sec, true
	}
	ns := uint(wall.Nanosecond())
	const fraction = len("2006-01-02T15:04:05.")
	for i := fraction + 8; i >= fraction; i-- {
		p.text[i] = byte('0' + ns%10)
		ns /= 10
	}
	copy(p.text[criStreamAt-len("std"):], s.String())
}
