package status

import (
	"strconv"
	"time"
	"unicode/utf8"

	"conmon/internal/stdio"
)

// AppendJSON appends the snapshot as one line of JSON, newline included, to b.
// It is written by hand because a monitor has no room for encoding/json: the
// package alone would double its idle memory.
func (s *Snapshot) AppendJSON(b []byte) []byte {
	e := &encoder{b: append(b, '{')}
	e.number("schema", Schema)
	e.time("time", s.Time)
	e.text("id", s.ID)
	e.text("uuid", s.UUID)
	e.text("name", s.Name)
	e.text("bundle", s.Bundle)
	e.truth("exec", s.Exec)
	e.truth("terminal", s.Terminal)
	e.text("state", s.State)
	e.container(s.Container)
	e.monitor(s.Monitor)
	e.streams(s)
	e.key("logs")
	e.open('[')
	for i := range s.Drivers {
		e.driver(&s.Drivers[i])
	}
	e.close(']')
	e.attach(s.Attach)
	e.key("oom")
	e.open('{')
	e.number("events", uint64(s.OOM.Events))
	e.number("kills", uint64(s.OOM.Kills))
	e.number("group_kills", uint64(s.OOM.GroupKills))
	e.close('}')
	e.close('}')
	return append(e.b, '\n')
}

func (e *encoder) container(c Container) {
	e.key("container")
	e.open('{')
	e.number("pid", uint64(c.PID))
	e.time("started", c.Started)
	e.close('}')
}

func (e *encoder) monitor(m Self) {
	e.key("monitor")
	e.open('{')
	e.number("pid", uint64(m.PID))
	e.text("version", m.Version)
	e.text("commit", m.Commit)
	e.number("upgrades", uint64(m.Upgrades))
	e.errorText("upgrade_error", m.UpgradeError)
	e.key("memory")
	e.open('{')
	e.number("rss_bytes", m.Memory.RSS)
	e.number("pss_bytes", m.Memory.PSS)
	e.number("uss_bytes", m.Memory.USS)
	e.number("anonymous_bytes", m.Memory.Anonymous)
	e.close('}')
	e.close('}')
}

func (e *encoder) streams(s *Snapshot) {
	e.key("streams")
	e.open('{')
	for _, kind := range [...]stdio.Stream{stdio.Stdout, stdio.Stderr} {
		st := s.Streams[kind.Index()]
		e.key(kind.String())
		e.open('{')
		e.count("read", st.Read)
		e.count("rate_limited", st.RateLimited)
		e.truth("paused", st.Paused)
		e.close('}')
	}
	e.close('}')
}

func (e *encoder) driver(d *Driver) {
	e.open('{')
	e.text("driver", d.Kind)
	e.text("path", d.Path)
	for _, kind := range [...]stdio.Stream{stdio.Stdout, stdio.Stderr} {
		o := d.Streams[kind.Index()]
		e.key(kind.String())
		e.open('{')
		e.count("written", o.Written)
		e.count("lost", o.Lost)
		e.count("capped", o.Capped)
		e.count("pending", o.Pending)
		e.close('}')
	}
	e.number("rotations", d.Rotations)
	e.number("reopens", d.Reopens)
	e.number("errors", d.Errors)
	e.errorText("last_error", d.LastError)
	e.number("restarts", d.Restarts)
	e.truth("waiting", d.Waiting)
	e.close('}')
}

func (e *encoder) attach(a Attach) {
	e.key("attach")
	e.open('{')
	e.number("clients", uint64(len(a.Lags)))
	e.number("past_limit", uint64(a.PastLimit))
	e.number("accepted", a.Accepted)
	e.number("disconnected", a.Disconnected)
	e.number("input_bytes", a.Input)
	var sum, most uint64
	for _, lag := range a.Lags {
		sum, most = sum+lag, max(most, lag)
	}
	e.number("lag_bytes", sum)
	e.number("max_lag_bytes", most)
	e.key("lags")
	e.open('[')
	for _, lag := range a.Lags[:min(len(a.Lags), maxLags)] {
		e.comma()
		e.b = strconv.AppendUint(e.b, lag, 10)
	}
	e.close(']')
	e.close('}')
}

// encoder appends JSON. It puts the commas.
type encoder struct{ b []byte }

func (e *encoder) comma() {
	if last := e.b[len(e.b)-1]; last != '{' && last != '[' && last != ':' {
		e.b = append(e.b, ',')
	}
}

func (e *encoder) open(bracket byte) {
	e.comma()
	e.b = append(e.b, bracket)
}

func (e *encoder) close(bracket byte) { e.b = append(e.b, bracket) }

func (e *encoder) key(name string) {
	e.comma()
	e.b = append(append(append(e.b, '"'), name...), `":`...)
}

func (e *encoder) number(name string, n uint64) {
	e.key(name)
	e.b = strconv.AppendUint(e.b, n, 10)
}

func (e *encoder) truth(name string, v bool) {
	e.key(name)
	e.b = strconv.AppendBool(e.b, v)
}

func (e *encoder) text(name, v string) {
	e.key(name)
	e.b = appendQuoted(e.b, v)
}

func (e *encoder) errorText(name, v string) { e.text(name, v[:min(len(v), maxText)]) }

// time writes null for the zero time: something that has not happened.
func (e *encoder) time(name string, t time.Time) {
	e.key(name)
	if t.IsZero() {
		e.b = append(e.b, "null"...)
		return
	}
	e.b = append(e.b, '"')
	e.b = t.UTC().AppendFormat(e.b, time.RFC3339Nano)
	e.b = append(e.b, '"')
}

func (e *encoder) count(name string, c Count) {
	e.key(name)
	e.open('{')
	e.number("bytes", c.Bytes)
	e.number("lines", c.Lines)
	e.close('}')
}

// appendQuoted appends s as a JSON string; bytes that are not UTF-8 become
// U+FFFD, since JSON cannot hold them.
func appendQuoted(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < 0x20 || r == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
