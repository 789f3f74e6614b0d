package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// group is what one kind of measurement yields: several figures from the same
// processes.
type group struct {
	name    string
	rounds  int // quick runs take a third
	figures []figure
	// measure takes one sample of each figure from one side.
	measure func(b *bench, s *side, quick bool) ([]float64, error)
	// limit takes one sample of what the machine can do, for the first figure.
	limit func(b *bench, quick bool) (float64, error)
}

// Targets are pointers, as 0 is one.
func target(v float64) *float64 { return &v }

// groups lists everything that is measured, with the targets.
func groups() []group {
	list := []group{{
		name: "start", rounds: 99, measure: measureStart,
		figures: []figure{
			{ID: "start", Title: "exec to pid on the sync pipe", Unit: "ms", Must: target(1.2), Aim: target(1)},
			{ID: "death", Title: "container death to exit file", Unit: "ms", Must: target(1), Aim: target(0.7)},
		},
	}}
	list = append(list, logGroups()...)
	list = append(list, driverGroups(jsonFile, 128e6)...)
	if _, err := os.Stat("/run/systemd/journal/socket"); err == nil {
		list = append(list, driverGroups(journald, 8e6)...)
	}
	list = append(list,
		attachGroup("attach", "one attach client", "none"),
		attachGroup("attach-log", "one attach client, logging too", ""),
		group{
			name: "latency", rounds: 9, measure: measureLatency,
			figures: []figure{
				{ID: "latency-p50", Title: "a line's way to the log file, p50", Unit: "µs", Must: target(1), Aim: target(0.7)},
				{ID: "latency-p99", Title: "a line's way to the log file, p99", Unit: "µs", Must: target(1), Aim: target(0.7)},
			},
		},
		idleGroup("idle", "idle", false),
		idleGroup("idle-tty", "idle with a tty", true),
		group{
			name: "gigabyte", rounds: 1, measure: measureGigabyte,
			figures: []figure{
				{ID: "gigabyte-uss", Title: "USS 10 s after 1 GB of log", Unit: "kB"},
				{ID: "gigabyte-growth", Title: "the same, as a multiple of the idle USS", Unit: "x", Must: target(1.2), Aim: target(1), Absolute: true},
			},
		},
		group{
			name: "many", rounds: 3, measure: measureMany,
			figures: []figure{
				{ID: "many-pss", Title: "500 monitors: total PSS", Unit: "MB", Must: target(430), Aim: target(250), Absolute: true},
				{ID: "many-storm", Title: "500 deaths at once, last exit file", Unit: "ms", Must: target(1), Aim: target(0.7)},
			},
		})
	return list
}

// logGroups is the log throughput at each length of line; the newline counts.
func logGroups() []group {
	cpu := map[int]*float64{20: target(0.5)}
	var list []group
	for _, l := range []struct {
		length    int
		megabytes int64
		must, aim float64
	}{
		{20, 128, 2.5, 3.3},
		{100, 256, 1.8, 2.5},
		{1000, 512, 1.5, 2.2},
		{20000, 512, 1.5, 2.2},
	} {
		load := load{length: l.length, total: l.megabytes * 1e6}
		list = append(list, group{
			name: fmt.Sprintf("log-%d", l.length), rounds: 9, measure: load.measure, limit: load.limit,
			figures: []figure{
				{
					ID: fmt.Sprintf("log-%d", l.length), Title: fmt.Sprintf("log, lines of %d bytes", l.length),
					Unit: "MB/s", Higher: true, Must: target(l.must), Aim: target(l.aim),
				},
				{
					ID: fmt.Sprintf("cpu-%d", l.length), Title: fmt.Sprintf("processor time, %d MB in lines of %d", l.megabytes, l.length),
					Unit: "s", Must: cpu[l.length],
				},
			},
		})
	}
	return list
}

// driverGroups is the throughput of another driver, with an amount of output that
// grows with the lines.
func driverGroups(driver string, total int64) []group {
	var list []group
	for i, length := range []int{20, 100, 1000, 20000} {
		load := load{length: length, total: total << i, driver: driver}
		if driver == jsonFile {
			load.total = min(load.total, 512e6)
		}
		id := fmt.Sprintf("%s-%d", driver, length)
		title := fmt.Sprintf("%s, lines of %d bytes", driver, length)
		list = append(list, group{
			name: id, rounds: 3, measure: load.measure,
			figures: []figure{
				{ID: id, Title: title, Unit: "MB/s", Higher: true, Must: target(1)},
				{ID: id + "-cpu", Title: title + ": processor time", Unit: "s"},
			},
		})
	}
	return list
}

func attachGroup(name, title, driver string) group {
	return group{
		name: name, rounds: 9, measure: attachLoad{driver: driver}.measure,
		figures: []figure{{ID: name, Title: title, Unit: "MB/s", Higher: true, Must: target(1.5), Aim: target(2)}},
	}
}

func idleGroup(name, title string, tty bool) group {
	return group{
		name: name, rounds: 1, measure: idleLoad{tty: tty}.measure,
		figures: []figure{
			{ID: name + "-uss", Title: title + ": USS", Unit: "kB", Must: target(700), Aim: target(450), Absolute: true},
			{ID: name + "-pss", Title: title + ": PSS", Unit: "kB", Must: target(850), Aim: target(500), Absolute: true},
			{ID: name + "-rss", Title: title + ": RSS", Unit: "kB", Must: target(4500), Aim: target(2600), Absolute: true},
			{ID: name + "-threads", Title: title + ": threads", Unit: "", Must: target(7), Aim: target(4), Absolute: true},
			{ID: name + "-wakeups", Title: title + ": wake-ups in 10 s", Unit: "", Must: target(0), Aim: target(0), Absolute: true},
		},
	}
}

func groupNames() string {
	var names []string
	for _, g := range groups() {
		names = append(names, g.name)
	}
	return strings.Join(names, ", ")
}

// measureAll measures the groups that were asked for.
func (b *bench) measureAll(o options) (*report, error) {
	r := &report{
		Schema: 1, Time: time.Now().UTC(), Machine: thisMachine(),
		Quick: o.quick, Baseline: b.base, Ours: b.ours,
	}
	for _, g := range groups() {
		if !o.only.MatchString(g.name) {
			continue
		}
		begin := time.Now()
		if err := b.measureGroup(g, o.quick); err != nil {
			return nil, fmt.Errorf("measure %s: %w", g.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s: %.0f s\n", g.name, time.Since(begin).Seconds())
		for i := range g.figures {
			r.Figures = append(r.Figures, &g.figures[i])
		}
	}
	if len(r.Figures) == 0 {
		return nil, fmt.Errorf("-only %s matches none of %s", o.only, groupNames())
	}
	return r, nil
}

// measureGroup lets the two sides take turns, so that whatever else the machine
// does in the meantime hits both.
func (b *bench) measureGroup(g group, quick bool) error {
	rounds := g.rounds
	if quick {
		rounds = (rounds + 2) / 3
	}
	for range rounds {
		for _, s := range []*side{b.base, b.ours} {
			samples, err := g.measure(b, s, quick)
			if err != nil {
				return fmt.Errorf("%s: %w", s.Path, err)
			}
			for i, sample := range samples {
				if s == b.base {
					g.figures[i].Baseline.add(sample)
				} else {
					g.figures[i].Ours.add(sample)
				}
			}
		}
		if g.limit != nil {
			sample, err := g.limit(b, quick)
			if err != nil {
				return fmt.Errorf("the machine's limit: %w", err)
			}
			if g.figures[0].Limit == nil {
				g.figures[0].Limit = new(summary)
			}
			g.figures[0].Limit.add(sample)
		}
	}
	return nil
}
