package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// settling is how long a monitor gets to come to rest before it is looked at.
const settling = 2 * time.Second

// measureStart starts and kills one container. Samples: milliseconds from
// before the exec to the pid on the sync pipe, and from the kill to the exit
// file.
func measureStart(b *bench, s *side, _ bool) ([]float64, error) {
	m, err := b.start(s, job{mode: []string{"pause"}})
	if err != nil {
		return nil, err
	}
	// What follows the pid on the pipe (the runtime's end, the launcher's end)
	// must not run into the second figure.
	if err := b.pause(20 * time.Millisecond); err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := m.kill(); err != nil {
		return nil, err
	}
	end, err := b.exits.await(m)
	if err != nil {
		return nil, err
	}
	m.end()
	return []float64{milliseconds(m.startup), milliseconds(end.Sub(begin))}, nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// measureLatency has a container write a line a millisecond, each with the
// time of its writing, and a reader that spins on the log file. Samples: the
// age of a line when it can be read, in microseconds, median and 99th
// percentile.
func measureLatency(b *bench, s *side, quick bool) ([]float64, error) {
	count := 2000
	if quick {
		count = 500
	}
	lines := strconv.Itoa(count)
	m, err := b.start(s, job{mode: []string{"tick", lines, "1000"}})
	if err != nil {
		return nil, err
	}
	watch := exec.Command(b.tool, "watch", m.log, lines)
	var out strings.Builder
	watch.Stdout = &out
	if err := watch.Start(); err != nil {
		return nil, err
	}
	if err := m.begin(); err != nil {
		return nil, errors.Join(err, watch.Process.Kill(), watch.Wait())
	}
	if err := watch.Wait(); err != nil {
		return nil, fmt.Errorf("watch the log: %w", err)
	}
	if _, err := b.exits.await(m); err != nil {
		return nil, err
	}
	m.end()
	var ages []float64
	for line := range strings.Lines(out.String()) {
		ns, err := strconv.ParseFloat(strings.TrimSpace(line), 64)
		if err != nil {
			return nil, fmt.Errorf("the age of a line: %w", err)
		}
		ages = append(ages, ns/1000)
	}
	return []float64{percentile(ages, 50), percentile(ages, 99)}, nil
}

// several starts n monitors of one side.
func (b *bench) several(s *side, n int, j job) ([]*monitor, error) {
	list := make([]*monitor, 0, n)
	for range n {
		m, err := b.start(s, j)
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

// stop kills all containers and returns how long the last exit file took.
func (b *bench) stop(list []*monitor) (time.Duration, error) {
	begin := time.Now()
	for _, m := range list {
		if err := m.kill(); err != nil {
			return 0, err
		}
	}
	end, err := b.exits.await(list...)
	if err != nil {
		return 0, err
	}
	for _, m := range list {
		m.end()
	}
	return end.Sub(begin), nil
}

// idleLoad is a number of monitors with nothing to do.
type idleLoad struct{ tty bool }

// measure looks at 30 monitors for 10 s. Samples: USS, PSS, RSS in kilobytes
// and threads, each the median over all, and wake-ups, the median over six.
func (l idleLoad) measure(b *bench, s *side, quick bool) ([]float64, error) {
	n, period := 30, 10*time.Second
	if quick {
		n, period = 10, 3*time.Second
	}
	list, err := b.several(s, n, job{mode: []string{"pause"}, tty: l.tty})
	if err != nil {
		return nil, err
	}
	if err := b.pause(settling); err != nil {
		return nil, err
	}
	// The wake-ups come first: whoever looks at its memory may wake a process.
	wakeups, err := b.wakeups(list[:6], period)
	if err != nil {
		return nil, err
	}
	var uss, pss, rss, threads []float64
	for _, m := range list {
		mem, err := memoryOf(m.pid)
		if err != nil {
			return nil, err
		}
		_, t, err := switches(m.pid)
		if err != nil {
			return nil, err
		}
		uss, pss, rss = append(uss, mem.uss), append(pss, mem.pss), append(rss, mem.rss)
		threads = append(threads, float64(t))
	}
	_, err = b.stop(list)
	return []float64{
		median(uss), median(pss), median(rss), median(threads),
		wakeups * (10 * time.Second).Seconds() / period.Seconds(),
	}, err
}

// wakeups returns the median number of wake-ups of the monitors in a period.
func (b *bench) wakeups(list []*monitor, period time.Duration) (float64, error) {
	before := make([]int, len(list))
	for i, m := range list {
		var err error
		if before[i], _, err = switches(m.pid); err != nil {
			return 0, err
		}
	}
	if err := b.pause(period); err != nil {
		return 0, err
	}
	counts := make([]float64, len(list))
	for i, m := range list {
		after, _, err := switches(m.pid)
		if err != nil {
			return 0, err
		}
		counts[i] = float64(after - before[i])
	}
	return median(counts), nil
}

// measureGigabyte has a container log a gigabyte and stay. Samples: USS in
// kilobytes 10 s later, and that as a multiple of the USS before.
func measureGigabyte(b *bench, s *side, quick bool) ([]float64, error) {
	l, rest := load{length: 100, total: 1e9}.scaled(quick), 10*time.Second
	if quick {
		rest = 3 * time.Second
	}
	// The second one keeps the program's own pages shared, which would count as
	// one monitor's alone otherwise.
	companion, err := b.start(s, job{mode: []string{"pause"}})
	if err != nil {
		return nil, err
	}
	m, err := b.start(s, job{mode: l.mode("fill")})
	if err != nil {
		return nil, err
	}
	if err := b.pause(settling); err != nil {
		return nil, err
	}
	before, err := memoryOf(m.pid)
	if err != nil {
		return nil, err
	}
	if err := m.begin(); err != nil {
		return nil, err
	}
	if err := m.awaitLog(l.logSize()); err != nil {
		return nil, err
	}
	if err := b.pause(rest); err != nil {
		return nil, err
	}
	after, err := memoryOf(m.pid)
	if err != nil {
		return nil, err
	}
	_, err = b.stop([]*monitor{m, companion})
	return []float64{after.uss, after.uss / before.uss}, err
}

// measureMany starts 500 monitors and kills their containers. Samples: the sum
// of their PSS in megabytes, and milliseconds to the last exit file.
func measureMany(b *bench, s *side, quick bool) ([]float64, error) {
	n := 500
	if quick {
		n = 100
	}
	list, err := b.several(s, n, job{mode: []string{"pause"}})
	if err != nil {
		return nil, err
	}
	if err := b.pause(settling); err != nil {
		return nil, err
	}
	var kilobytes float64
	for _, m := range list {
		mem, err := memoryOf(m.pid)
		if err != nil {
			return nil, err
		}
		kilobytes += mem.pss
	}
	storm, err := b.stop(list)
	scale := 500 / float64(n)
	return []float64{kilobytes * 1024 / 1e6 * scale, milliseconds(storm) * scale}, err
}

// awaitLog waits until the log has at least size bytes and grows no more. A
// look at its size now and then disturbs less than an inotify event per write.
func (m *monitor) awaitLog(size int64) error {
	const interval = 250 * time.Millisecond
	last := int64(-1)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		info, err := os.Stat(m.log)
		if err != nil {
			return err
		}
		if info.Size() >= size && info.Size() == last {
			return nil
		}
		last = info.Size()
		if err := m.b.pause(interval); err != nil {
			return err
		}
	}
	return fmt.Errorf("the log has %d of %d bytes after %v", last, size, patience)
}
