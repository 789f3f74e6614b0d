package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == toolName {
		os.Exit(toolMain(os.Args[1:]))
	}
	os.Exit(m.Run())
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{3}, 3},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 2, 100}, 3},
	} {
		if got := median(c.values); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.values, got, c.want)
		}
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	for _, c := range []struct {
		values []float64
		p      int
		want   float64
	}{
		{nil, 50, 0},
		{[]float64{7}, 99, 7},
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 100, 100},
	} {
		if got := percentile(c.values, c.p); got != c.want {
			t.Errorf("percentile %d of %d values = %v, want %v", c.p, len(c.values), got, c.want)
		}
	}
}

func TestMeets(t *testing.T) {
	for _, c := range []struct {
		name     string
		base     float64
		ours     float64
		target   float64
		higher   bool
		absolute bool
		want     bool
	}{
		{"faster enough", 100, 250, 2.5, true, false, true},
		{"not fast enough", 100, 249, 2.5, true, false, false},
		{"quicker", 10, 7, 0.7, false, false, true},
		{"slower", 10, 11, 1, false, false, false},
		{"small enough whatever the baseline", 300, 700, 700, false, true, true},
		{"too large", 900, 701, 700, false, true, false},
		{"both asleep", 0, 0, 1, false, false, true},
		{"baseline asleep, ours not", 0, 1, 1, false, false, false},
	} {
		f := figure{
			Higher: c.higher, Absolute: c.absolute,
			Baseline: summary{Median: c.base}, Ours: summary{Median: c.ours},
		}
		if got := f.meets(c.target); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestParseMemory(t *testing.T) {
	text := "55d0-7ffd ---p 00000000 00:00 0   [rollup]\nRss:   2516 kB\nPss:   480 kB\nPss_Dirty: 300 kB\n" +
		"Private_Clean:  24 kB\nPrivate_Dirty: 300 kB\nPrivate_Hugetlb: 5 kB\n"
	if got, want := parseMemory(text), (memory{rss: 2516, pss: 480, uss: 324}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestParseSwitches(t *testing.T) {
	text := "Name:\tvoluntary\nThreads:\t1\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n"
	if got := parseSwitches(text); got != 15 {
		t.Errorf("got %d, want 15", got)
	}
}

func TestParseCPU(t *testing.T) {
	stat := "42 (a) b (c) S 1 42 42 0 -1 4194560 1 2 3 4 150 25 9 9 20 0 1 0 5 6 7\n"
	got, err := parseCPU([]byte(stat))
	if err != nil || got != 1750*time.Millisecond {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := parseCPU([]byte("42 (conmon) S 1")); err == nil {
		t.Error("a short line passed")
	}
}

func TestPayload(t *testing.T) {
	const head = "2006-01-02T15:04:05.999999999+01:00 stdout "
	for _, c := range []struct {
		log  string
		want int64
		ok   bool
	}{
		{"", 0, true},
		{head + "F abc\n", 4, true},
		{head + "P abc\n" + head + "F d\n", 5, true},
		{head + "F \n", 1, true},
		{"short\n", 0, false},
	} {
		got, err := payload(strings.NewReader(c.log))
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("payload(%q) = %d, %v", c.log, got, err)
		}
	}
}

// Both forms of the tool have to do the same, or figures of machines with and
// without a compiler mean different things.
func TestTool(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	inGo := filepath.Join(t.TempDir(), toolName)
	if err := os.Symlink(self, inGo); err != nil {
		t.Fatal(err)
	}
	tools := map[string]string{"go": inGo}
	if _, err := exec.LookPath("gcc"); err == nil {
		inC, err := buildTool(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		tools["c"] = inC
	}
	for name, tool := range tools {
		t.Run(name, func(t *testing.T) {
			out, err := exec.Command(tool, "feed", "100", "1000050").Output()
			if err != nil || len(out) != 1000000 || strings.Count(string(out), "\n") != 10000 {
				t.Errorf("feed: %d bytes, %v", len(out), err)
			}
			file := filepath.Join(t.TempDir(), "out")
			cmd := exec.Command(tool, "copy", "100", file)
			cmd.Stdin = strings.NewReader(string(out))
			if err := cmd.Run(); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(file)
			// Each read may round down by a byte.
			if err != nil || info.Size() > 1450000 || info.Size() < 1449000 {
				t.Errorf("copy: %v, %v", info, err)
			}
			var exit *exec.ExitError
			if err := exec.Command(tool, "nonsense").Run(); !errors.As(err, &exit) {
				t.Errorf("nonsense: %v", err)
			}
		})
	}
}

func sample() *report {
	r := &report{
		Schema: 1, Machine: machine{CPU: `A "<CPU>" & more`, CPUs: 2, Kernel: "6.1"},
		Baseline: &side{Path: "/a", Version: "2.1.6"}, Ours: &side{Path: "/b", Version: "2.3.0"},
	}
	for _, g := range groups() {
		for _, f := range g.figures {
			f.Baseline.add(100)
			f.Ours.add(float64(20 * (len(r.Figures) + 1)))
			if g.limit != nil && f.Higher {
				f.Limit = new(summary)
				f.Limit.add(1000)
			}
			r.Figures = append(r.Figures, &f)
		}
	}
	return r
}

func TestReportSurvivesItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bench.json")
	if err := sample().write(path); err != nil {
		t.Fatal(err)
	}
	got, err := readReport(path)
	if err != nil {
		t.Fatal(err)
	}
	var before, after strings.Builder
	if err := errors.Join(printTable(&before, sample()), printTable(&after, got)); err != nil {
		t.Fatal(err)
	}
	if before.String() != after.String() || !strings.Contains(before.String(), "log, lines of 20 bytes") {
		t.Errorf("before:\n%s\nafter:\n%s", &before, &after)
	}
}

func TestPlotIsXML(t *testing.T) {
	dec := xml.NewDecoder(strings.NewReader(plot(sample())))
	bars := 0
	for {
		token, err := dec.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			bars++
		}
	}
	if bars < 2*15 {
		t.Errorf("%d bars", bars)
	}
}

func TestParseOptions(t *testing.T) {
	for _, c := range []struct {
		args string
		ok   bool
	}{
		{"", true},
		{"-quick -only ^log -a /x -b /y -o z", true},
		{"-only (", false},
		{"stray", false},
		{"-nonsense", false},
	} {
		if _, err := parse(strings.Fields(c.args)); (err == nil) != c.ok {
			t.Errorf("%q: %v", c.args, err)
		}
	}
}
