package oom

import (
	"math"
	"testing"
)

const events = "low 0\nhigh 3\nmax 512\noom 2\noom_kill 5\noom_group_kill 1\n"

func TestParseEvents(t *testing.T) {
	for _, c := range []struct {
		name, events, local string
		want                counts
	}{
		{"all", events, "max 9\noom 1\noom_kill 4\n", counts{oom: 2, local: 1, kill: 5, group: 1}},
		{"no local file", events, "", counts{oom: 2, kill: 5, group: 1}},
		{"no group kills", "oom 1\noom_kill 1\n", "oom 1\n", counts{oom: 1, local: 1, kill: 1}},
		{"last line unfinished", "oom 1\noom_kill 12", "", counts{oom: 1, kill: 12}},
		{"too large", "oom_kill 99999999999999999999\n", "", counts{kill: math.MaxInt}},
		{"no numbers", "oom x\noom_kill -1\noom_group_kill \n", "", counts{}},
		{"similar keys", "oom_killer 7\nxoom 7\noom_kill_disable 1\n", "", counts{}},
		{"empty", "", "", counts{}},
	} {
		if got := parseEvents([]byte(c.events), []byte(c.local)); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestReport(t *testing.T) {
	base := counts{oom: 4, local: 2, kill: 7, group: 1}
	for _, c := range []struct {
		name  string
		now   counts
		want  Report
		cause string
	}{
		{"nothing", base, Report{}, ""},
		{"own limit", counts{5, 3, 8, 1}, Report{OOMs: 1, Local: 1, Kills: 1, New: true}, "the container's own memory limit"},
		{"limit below", counts{5, 2, 8, 1}, Report{OOMs: 1, Kills: 1, New: true}, "a memory limit inside the container"},
		{"limit above", counts{4, 2, 9, 1}, Report{Kills: 2, New: true}, "a memory limit above the container, or the machine's memory"},
		{"no kill", counts{5, 3, 7, 1}, Report{OOMs: 1, Local: 1, New: true}, "the container's own memory limit"},
		{"group", counts{5, 3, 10, 2}, Report{OOMs: 1, Local: 1, Kills: 3, GroupKills: 1, New: true}, "the container's own memory limit"},
		{"counted back", counts{4, 2, 3, 1}, Report{}, ""},
	} {
		var r Report
		r.add(grown(base, c.now))
		if r != c.want || r.Cause() != c.cause || r.Happened() != (c.cause != "") {
			t.Errorf("%s: %+v, %q, want %+v, %q", c.name, r, r.Cause(), c.want, c.cause)
		}
	}
}

func TestReportAddsUp(t *testing.T) {
	var r Report
	r.add(counts{oom: 1, local: 1, kill: 1})
	r.add(counts{kill: 2})
	if want := (Report{OOMs: 1, Local: 1, Kills: 3, New: true}); r != want {
		t.Errorf("%+v, want %+v", r, want)
	}
	if r.add(counts{}); r.New || r.Kills != 3 {
		t.Errorf("nothing new, but %+v", r)
	}
}

func TestParsingDoesNotAllocate(t *testing.T) {
	text := []byte(events)
	if n := testing.AllocsPerRun(100, func() { parseEvents(text, text) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParseEvents(f *testing.F) {
	f.Add([]byte(events), []byte("oom 1\n"))
	f.Add([]byte("oom 18446744073709551616\n\n oom_kill\noom"), []byte{})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		before, now := parseEvents(a, nil), parseEvents(b, a)
		if before.oom < 0 || before.kill < 0 || now.local < 0 || now.local != before.oom {
			t.Errorf("%+v, %+v", before, now)
		}
		if g := grown(before, now); g.oom < 0 || g.local < 0 || g.kill < 0 || g.group < 0 {
			t.Errorf("grown by %+v", g)
		}
	})
}
