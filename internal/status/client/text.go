package client

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// WriteText writes a report for people.
func WriteText(w io.Writer, r *Report) error {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	row("container", "%s", title(r))
	row("bundle", "%s", printable(r.Bundle))
	row("state", "%s", state(r))
	m := &r.Monitor
	row("monitor", "pid %d, version %s%s", m.PID, printable(m.Version), upgrades(m))
	row("memory", "%s resident, %s of it its own, %s anonymous", size(m.Memory.RSS), size(m.Memory.USS), size(m.Memory.Anonymous))
	row("stdout", "%s", flow(r.Streams.Stdout))
	if !r.Terminal {
		row("stderr", "%s", flow(r.Streams.Stderr))
	}
	for i := range r.Logs {
		name := "log"
		for _, line := range logLines(&r.Logs[i]) {
			row(name, "%s", line)
			name = "" // the next lines belong to the same one
		}
	}
	row("attach", "%s", attached(r.Attach))
	row("oom", "%s, %s killed, %s killed", counted(r.OOM.Events, "event"), counted(r.OOM.Kills, "process"), counted(r.OOM.GroupKills, "group"))
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}

func title(r *Report) string {
	s := printable(r.ID)
	if r.Name != "" {
		s += " (" + printable(r.Name) + ")"
	}
	if r.Exec {
		s += ", exec session " + printable(r.UUID)
	}
	return s
}

func state(r *Report) string {
	s := printable(r.State)
	if r.Container.PID > 0 {
		s += fmt.Sprintf(", pid %d, for %s", r.Container.PID, age(r.uptime()))
	}
	return s
}

func upgrades(m *Monitor) (s string) {
	if m.Upgrades > 0 {
		s = ", upgraded " + counted(m.Upgrades, "time")
	}
	if m.UpgradeError != "" {
		s += "; last attempt: " + printable(m.UpgradeError)
	}
	return s
}

func flow(f Flow) string {
	s := amount(f.Read) + " read"
	if f.RateLimited != (Count{}) {
		s += ", " + amount(f.RateLimited) + " over the rate limit dropped"
	}
	if f.Paused {
		s += ", paused until there is room"
	}
	return s
}

// logLines describes one driver; what is zero and ought to be is left out.
func logLines(l *Log) []string {
	first := printable(l.Driver)
	if l.Path != "" {
		first += ":" + printable(l.Path)
	}
	sum := func(part func(*Outcome) Count) Count { return part(&l.Stdout).plus(part(&l.Stderr)) }
	parts := []string{amount(sum(func(o *Outcome) Count { return o.Written })) + " written"}
	for _, p := range []struct {
		count Count
		word  string
	}{
		{sum(func(o *Outcome) Count { return o.Lost }), "lost"},
		{sum(func(o *Outcome) Count { return o.Capped }), "left out at the global limit"},
		{sum(func(o *Outcome) Count { return o.Pending }), "pending"},
	} {
		if p.count != (Count{}) {
			parts = append(parts, amount(p.count)+" "+p.word)
		}
	}
	for _, p := range []struct {
		n    uint64
		word string
	}{{l.Rotations, "rotation"}, {l.Reopens, "reopening"}, {l.Restarts, "restart"}, {l.Errors, "error"}} {
		if p.n > 0 {
			parts = append(parts, counted(p.n, p.word))
		}
	}
	if l.Waiting {
		parts = append(parts, "waiting for its target")
	}
	lines := []string{first, strings.Join(parts, ", ")}
	if l.LastError != "" {
		lines = append(lines, "last error: "+printable(l.LastError))
	}
	return lines
}

func attached(a Attach) string {
	s := fmt.Sprintf("%s, %d so far", counted(uint64(a.Clients), "client"), a.Accepted)
	if a.Disconnected > 0 {
		s += fmt.Sprintf(", %d dropped for lagging", a.Disconnected)
	}
	if a.Input > 0 {
		s += ", " + size(a.Input) + " of input"
	}
	if a.Lag > 0 {
		s += fmt.Sprintf(", %s behind, the last of them %s", size(a.Lag), size(a.MaxLag))
	}
	if a.PastLimit > 0 {
		s += fmt.Sprintf(", %d past the backlog", a.PastLimit)
	}
	return s
}

// WriteTable writes one line for each report, under a heading.
func WriteTable(w io.Writer, reports []*Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tNAME\tPID\tSTATE\tUP\tLOGGED\tLOST")
	for _, r := range reports {
		id := r.ID
		if r.Exec {
			id = r.UUID
		}
		written, lost := r.logged()
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", printable(short(id)), orDash(printable(r.Name)), orDash(pid(r.Container.PID)),
			tableState(r), age(r.uptime()), size(written.Bytes), size(lost.Bytes))
	}
	return t.Flush()
}

func tableState(r *Report) string {
	if r.Exec {
		return "exec " + printable(r.State)
	}
	return printable(r.State)
}

// short cuts an id to the length that engines show.
func short(id string) string { return id[:min(len(id), 12)] }

func pid(n int) string {
	if n <= 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func amount(c Count) string { return size(c.Bytes) + " in " + counted(c.Lines, "line") }

// counted writes a number and what is counted, in its plural where that is due.
func counted(n uint64, word string) string {
	if n != 1 {
		if strings.HasSuffix(word, "s") {
			word += "e"
		}
		word += "s"
	}
	return strconv.FormatUint(n, 10) + " " + word
}

// size writes a number of bytes with three significant digits or so.
func size(n uint64) string {
	if n < 1000 {
		return strconv.FormatUint(n, 10) + " B"
	}
	x, unit := float64(n), 0
	for x >= 999.5 && unit < len(units)-1 {
		x, unit = x/1000, unit+1
	}
	digits := 0
	if x < 9.95 {
		digits = 1
	}
	return strconv.FormatFloat(x, 'f', digits, 64) + " " + units[unit]
}

var units = [...]string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}

// age writes a duration by its two largest units.
func age(d time.Duration) string {
	s := int64(d / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 24*3600:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	}
	return fmt.Sprintf("%dd%02dh", s/86400, s/3600%24)
}

// printable makes a name from a container harmless to a terminal, and to the
// table's columns.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
