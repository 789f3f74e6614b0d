package oom

import (
	"bytes"
	"math"
)

// counts are a cgroup's counters of memory trouble at one moment, or by how much
// they grew between two. What a kernel does not count stays 0.
type counts struct {
	oom   int // the limit of the cgroup, or of one below, could not be kept
	local int // of these, the cgroup's own limit (memory.events.local)
	kill  int // processes of the cgroup and below killed, whoever's limit it was for
	group int // kills of whole cgroups (memory.oom.group)
}

// Report is what is known of a container's OOMs. The numbers count since the
// watch began, across live upgrades.
type Report struct {
	OOMs       int  // times that the limit of its cgroup or one below was hit without remedy
	Local      int  // of these, the limit of the container's own cgroup
	Kills      int  // processes of the container killed by any OOM killer; a group kill counts its first victim twice
	GroupKills int  // whole cgroups killed, of the container's own or below
	New        bool // one of the numbers grew with this look
	Gone       bool // this look found the cgroup removed: say Removed, once
}

// Removed is what to say, at debug level, when a cgroup is gone. A test of
// conmon's looks for this very text in the binary.
const Removed = "Cgroup appears to have been removed"

// Happened reports whether the container counts as having run out of memory:
// one of its processes was killed for memory, for its own limit or an
// ancestor's, or its limit was hit without a kill. The OOM of an ancestor that
// killed somebody else shows in none of these numbers.
func (r Report) Happened() bool { return r.OOMs > 0 || r.Kills > 0 }

// Cause names the limit behind the OOM, for people; "" if none happened.
func (r Report) Cause() string {
	switch {
	case !r.Happened():
		return ""
	case r.Local > 0:
		return "the container's own memory limit"
	case r.OOMs > 0:
		return "a memory limit inside the container"
	}
	return "a memory limit above the container, or the machine's memory"
}

// add counts what happened between two looks.
func (r *Report) add(d counts) {
	r.OOMs += d.oom
	r.Local += d.local
	r.Kills += d.kill
	r.GroupKills += d.group
	r.New = d != counts{}
}

// grown returns by how much now is ahead of before. A counter that went back is
// no news: v1 sums over the cgroups below, and those may have been removed.
func grown(before, now counts) counts {
	return counts{
		oom:   max(now.oom-before.oom, 0),
		local: max(now.local-before.local, 0),
		kill:  max(now.kill-before.kill, 0),
		group: max(now.group-before.group, 0),
	}
}

// parseEvents reads a memory.events and the memory.events.local beside it, which
// may be empty (before Linux 5.2).
func parseEvents(events, local []byte) counts {
	var c counts
	c.oom, _ = value(events, "oom")
	c.kill, _ = value(events, "oom_kill")
	c.group, _ = value(events, "oom_group_kill")
	c.local, _ = value(local, "oom")
	return c
}

// value finds the number behind key in lines of a key, a space and a number, as
// in memory.events and memory.oom_control. Lines that look otherwise are passed
// over, and a number too large is the largest one.
func value(text []byte, key string) (int, bool) {
	for line := range bytes.Lines(text) {
		k, v, found := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
		if !found || string(k) != key {
			continue
		}
		return number(v)
	}
	return 0, false
}

// number reads decimal digits; converting to a string for strconv would allocate
// with every look.
func number(digits []byte) (int, bool) {
	n := 0
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0, false
		}
		if n > (math.MaxInt-9)/10 {
			return math.MaxInt, true
		}
		n = n*10 + int(d-'0')
	}
	return n, len(digits) > 0
}
