package main

import (
	"fmt"
	"math"
	"os"
	"strings"
)

// Measures of the drawing, in its own units.
const (
	plotWidth   = 900
	plotMargin  = 20
	plotLabels  = 300 // width of the column of titles
	plotValues  = 190 // width of the column of values, right of the bars
	plotRow     = 44
	plotBar     = 14
	plotSection = 64  // height of a section's heading
	plotMost    = 5.0 // longer bars are cut here; the value beside tells
)

// plotStyle follows the reader's theme: an SVG shown as an image sees the same
// preference as the page round it. The card is opaque, so that it can be read
// where a viewer knows of no themes.
const plotStyle = `
.card { fill: #ffffff; stroke: #d0d7de; }
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.head { font-size: 17px; font-weight: 600; }
.dim { fill: #59636e; }
.num { font-variant-numeric: tabular-nums; }
.win { font-weight: 600; }
.a { fill: #9aa4af; }
.b { fill: #0969da; }
.mark { stroke: #1f2328; stroke-width: 2; }
.axis { stroke: #d0d7de; }
@media (prefers-color-scheme: dark) {
  .card { fill: #0d1117; stroke: #3d444d; }
  text { fill: #f0f6fc; }
  .dim { fill: #9198a1; }
  .a { fill: #656c76; }
  .b { fill: #4493f8; }
  .mark { stroke: #f0f6fc; }
  .axis { stroke: #3d444d; }
}
`

// plotFile draws a report as an SVG.
func plotFile(in, out string) error {
	r, err := readReport(in)
	if err != nil {
		return err
	}
	return os.WriteFile(out, []byte(plot(r)), 0o644)
}

// plotted lists the figures worth a bar, in two sections by direction; figures
// that this run left out are skipped.
var plotted = [...]struct {
	title  string
	figure []string
}{
	{"More is better", []string{"log-20", "log-100", "log-1000", "log-20000", "attach", "attach-log"}},
	{"Less is better", []string{
		"start", "death", "latency-p50", "latency-p99", "cpu-20", "cpu-100", "cpu-1000",
		"cpu-20000", "many-storm", "idle-rss", "idle-pss", "idle-uss", "many-pss",
	}},
}

// plot draws pairs of bars, each pair in multiples of the baseline's value.
func plot(r *report) string {
	byID := map[string]*figure{}
	for _, f := range r.Figures {
		byID[f.ID] = f
	}
	var body strings.Builder
	y := plotMargin + 24
	fmt.Fprintf(&body, `<text x="%d" y="%d"><tspan class="head">Container monitors side by side</tspan></text>`+"\n", plotMargin, y)
	y += 22
	fmt.Fprintf(&body, `<text x="%d" y="%d" class="dim">%s</text>`+"\n", plotMargin, y,
		escape(fmt.Sprintf("%d x %s, Linux %s; medians", r.Machine.CPUs, r.Machine.CPU, r.Machine.Kernel)))
	if r.Quick {
		fmt.Fprintf(&body, `<text x="%d" y="%d" class="dim" text-anchor="end">quick run</text>`+"\n", plotWidth-plotMargin, y)
	}
	y = plotLegend(&body, r, y+24)
	for _, section := range plotted {
		var figures []*figure
		for _, id := range section.figure {
			if f := byID[id]; f != nil && f.Baseline.Median > 0 {
				figures = append(figures, f)
			}
		}
		if len(figures) > 0 {
			y = plotFigures(&body, section.title, figures, y)
		}
	}
	height := y + plotMargin
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="Benchmark: %s against %s">`+"\n",
		plotWidth, height, plotWidth, height, escape(r.Ours.label("ours")), escape(r.Baseline.label("baseline"))) +
		"<style>" + plotStyle + "</style>\n" +
		fmt.Sprintf(`<rect class="card" x="0.5" y="0.5" width="%d" height="%d" rx="8"/>`+"\n", plotWidth-1, height-1) +
		body.String() + "</svg>\n"
}

func plotLegend(body *strings.Builder, r *report, y int) int {
	x := plotMargin
	for _, entry := range []struct{ class, text string }{
		{"a", r.Baseline.label("baseline")}, {"b", r.Ours.label("this project")},
	} {
		fmt.Fprintf(body, `<rect class="%s" x="%d" y="%d" width="12" height="12" rx="2"/><text x="%d" y="%d">%s</text>`+"\n",
			entry.class, x, y-10, x+18, y, escape(entry.text))
		x += 260
	}
	fmt.Fprintf(body, `<path class="mark" d="M%d %dv14"/><text x="%d" y="%d">%s</text>`+"\n",
		x, y-11, x+10, y, "copying without formatting")
	return y
}

// label names a side in the legend.
func (s *side) label(what string) string {
	return fmt.Sprintf("conmon %s (%s)", s.Version, what)
}

// plotFigures draws one section from y on and returns where it ends.
func plotFigures(body *strings.Builder, title string, figures []*figure, y int) int {
	longest := 1.0
	for _, f := range figures {
		r, _ := f.ratio()
		if f.Limit != nil {
			r = max(r, f.Limit.Median/f.Baseline.Median)
		}
		longest = min(max(longest, r), plotMost)
	}
	unit := (plotWidth - 2*plotMargin - plotLabels - plotValues) / longest
	left := plotMargin + plotLabels
	y += plotSection
	fmt.Fprintf(body, `<text x="%d" y="%d" class="head">%s</text>`+"\n", plotMargin, y-16, escape(title))
	bottom := y + len(figures)*plotRow
	fmt.Fprintf(body, `<path class="axis" d="M%d %dV%d"/>`+"\n", left, y-4, bottom-6)
	for _, f := range figures {
		r, _ := f.ratio()
		wide := func(multiple float64) float64 { return math.Round(min(multiple, plotMost)*unit*10) / 10 }
		fmt.Fprintf(body, `<text x="%d" y="%d">%s</text>`+"\n", plotMargin, y+plotBar+6, escape(f.Title))
		fmt.Fprintf(body, `<rect class="a" x="%d" y="%d" width="%g" height="%d" rx="2"/>`, left, y, wide(1), plotBar)
		fmt.Fprintf(body, `<rect class="b" x="%d" y="%d" width="%g" height="%d" rx="2"/>`+"\n", left, y+plotBar+2, wide(r), plotBar)
		if f.Limit != nil {
			fmt.Fprintf(body, `<path class="mark" d="M%g %dv%d"/>`+"\n",
				float64(left)+wide(f.Limit.Median/f.Baseline.Median), y-2, 2*plotBar+6)
		}
		x := plotWidth - plotMargin - plotValues + 12
		fmt.Fprintf(body, `<text class="num dim" x="%d" y="%d">%s %s</text>`, x, y+plotBar-2, number(f.Baseline.Median), escape(f.Unit))
		fmt.Fprintf(body, `<text class="num win" x="%d" y="%d">%s %s · %s</text>`+"\n", x, y+2*plotBar, number(f.Ours.Median), escape(f.Unit), ratioText(r, true))
		y += plotRow
	}
	return y
}

// escape makes text safe inside an element and between double quotes.
func escape(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;").Replace(text)
}
