package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// report is what one run found out; bench.json holds it.
type report struct {
	Schema   int       `json:"schema"` // 1
	Time     time.Time `json:"time"`
	Machine  machine   `json:"machine"`
	Quick    bool      `json:"quick"`
	Baseline *side     `json:"baseline"`
	Ours     *side     `json:"ours"`
	Figures  []*figure `json:"figures"`
}

// machine says what the figures hold for.
type machine struct {
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
	Kernel string `json:"kernel"`
}

// figure is one line of the table.
type figure struct {
	ID     string `json:"id"`
	Title  string `json:"title"`
	Unit   string `json:"unit"`
	Higher bool   `json:"higher_is_better"`
	// Must and Aim are the project's targets, 0 if there is none: for our
	// value as a multiple of the baseline's, or, with Absolute, in Unit.
	Must     *float64 `json:"must,omitempty"`
	Aim      *float64 `json:"aim,omitempty"`
	Absolute bool     `json:"absolute,omitempty"`

	Baseline summary `json:"baseline"`
	Ours     summary `json:"ours"`
	// Limit is what this machine reaches without any formatting.
	Limit *summary `json:"limit,omitempty"`
}

// summary is one side's samples in the order in which they were taken.
type summary struct {
	Median  float64   `json:"median"`
	Min     float64   `json:"min"`
	Max     float64   `json:"max"`
	Samples []float64 `json:"samples"`
}

func (s *summary) add(sample float64) {
	s.Samples = append(s.Samples, sample)
	s.Median = median(s.Samples)
	s.Min, s.Max = slices.Min(s.Samples), slices.Max(s.Samples)
}

// median returns the middle value, of an even number the mean of the middle
// two, of none 0. It leaves the slice alone.
func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	switch {
	case n == 0:
		return 0
	case n%2 == 1:
		return v[n/2]
	}
	return (v[n/2-1] + v[n/2]) / 2
}

// percentile returns the smallest value that p of 100 values do not exceed.
func percentile(values []float64, p int) float64 {
	v := slices.Sorted(slices.Values(values))
	if len(v) == 0 {
		return 0
	}
	return v[max((len(v)*p+99)/100-1, 0)]
}

// ratio is our value as a multiple of the baseline's; false if the baseline's
// is zero.
func (f *figure) ratio() (float64, bool) {
	if f.Baseline.Median == 0 {
		return 0, false
	}
	return f.Ours.Median / f.Baseline.Median, true
}

// meets says whether our value reaches a target.
func (f *figure) meets(target float64) bool {
	value := f.Ours.Median
	if !f.Absolute {
		r, ok := f.ratio()
		if !ok {
			return value == 0
		}
		value = r
	}
	if f.Higher {
		return value >= target
	}
	return value <= target
}

func (r *report) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

func readReport(path string) (*report, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := new(report)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("decode %s: %w", path, err)
	}
	if r.Schema != 1 {
		return nil, fmt.Errorf("%s has schema %d, not 1", path, r.Schema)
	}
	return r, nil
}

func thisMachine() machine {
	var m machine
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		m.Kernel = unix.ByteSliceToString(uts.Release[:])
	}
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(key) {
		case "processor":
			m.CPUs++
		case "model name":
			m.CPU = strings.TrimSpace(value)
		}
	}
	return m
}
