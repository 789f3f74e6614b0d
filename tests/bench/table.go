package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

// printTable prints one line a figure. "ok" and "aim" say which of the targets
// was reached; each value is the median of its samples.
func printTable(out io.Writer, r *report) error {
	fmt.Fprintf(out, "a: %s %s\nb: %s %s\n", r.Baseline.Path, r.Baseline.Version, r.Ours.Path, r.Ours.Version)
	fmt.Fprintf(out, "%d x %s, Linux %s", r.Machine.CPUs, r.Machine.CPU, r.Machine.Kernel)
	if r.Quick {
		fmt.Fprint(out, "; quick run: read nothing into single digits")
	}
	fmt.Fprint(out, "\n\n")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "figure\tunit\ta\tb\tb/a\tlimit/a\tmust\taim\treached")
	for _, f := range r.Figures {
		cells := []string{
			f.Title, f.Unit, number(f.Baseline.Median), number(f.Ours.Median),
			ratioText(f.ratio()), "", f.targetText(f.Must), f.targetText(f.Aim), f.verdict(),
		}
		if f.Limit != nil && f.Baseline.Median > 0 {
			cells[5] = ratioText(f.Limit.Median/f.Baseline.Median, true)
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// number prints three significant digits, and whole numbers above that.
func number(v float64) string {
	switch {
	case v >= 100 || v == float64(int(v)):
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

func ratioText(r float64, ok bool) string {
	if !ok {
		return "-"
	}
	return strconv.FormatFloat(r, 'f', 2, 64) + "x"
}

// targetText prints a target with the direction in which it is exceeded.
func (f *figure) targetText(t *float64) string {
	if t == nil {
		return ""
	}
	sign := "≤ "
	if f.Higher {
		sign = "≥ "
	}
	text := sign + strconv.FormatFloat(*t, 'f', -1, 64)
	if !f.Absolute {
		text += "x"
	}
	return text
}

func (f *figure) verdict() string {
	switch {
	case f.Must == nil:
		return ""
	case !f.meets(*f.Must):
		return "NO"
	case f.Aim != nil && f.meets(*f.Aim):
		return "aim"
	}
	return "ok"
}
