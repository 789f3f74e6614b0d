package logging

import (
	"bytes"

	"conmon/internal/handoff"
	"conmon/internal/stdio"
)

// Tables that are constant.
var (
	newline = []byte{'\n'}
	streams = [...]stdio.Stream{stdio.Stdout, stdio.Stderr}
)

// Count is an amount of container output. A line counts when its newline does,
// so an unterminated last line has bytes only.
type Count struct {
	Bytes uint64
	Lines uint64
}

func (c *Count) add(bytes, lines int) {
	c.Bytes += uint64(bytes)
	c.Lines += uint64(lines)
}

// countLines counts newlines.
func countLines(p []byte) uint64 { return uint64(bytes.Count(p, newline)) }

// Plus returns the sum of two amounts.
func (c Count) Plus(d Count) Count { return Count{c.Bytes + d.Bytes, c.Lines + d.Lines} }

func (c Count) minus(d Count) Count { return Count{c.Bytes - d.Bytes, c.Lines - d.Lines} }

// StreamStats says what became of one stream's output in one driver. All of it
// is raw bytes, as the container wrote them: given = Written + Lost + Capped + Pending.
type StreamStats struct {
	Written Count // in the log
	Lost    Count // given up: full disk, dead journal or logger, end of the container
	Capped  Count // left out because of --log-global-size-max
	Pending Count // in memory: an unfinished line, or a queue
}

// DriverStats are the figures of one --log-path.
type DriverStats struct {
	Kind      string
	Path      string
	Streams   [2]StreamStats // by stdio.Stream.Index
	Rotations uint64         // files renamed away, or started over, for their size
	Reopens   uint64
	Errors    uint64 // attempts that did not succeed
	LastError string // the text of the last one, "" for none
	Restarts  uint64 // of an external logger; reconnections to the journal
	Waiting   bool   // the driver holds output because its target takes none
}

// Stats are the figures of all logging.
type Stats struct {
	Read        [2]Count // by stdio.Stream.Index; what the container wrote
	RateLimited [2]Count // dropped by --log-rate-policy=drop; no driver saw it
	Drivers     []DriverStats
}

// Primary returns the figures of the first driver that keeps anything, which are
// the ones for "logged" and "lost" in exit.json; the zero value if none does.
func (s Stats) Primary() DriverStats {
	if len(s.Drivers) == 0 {
		return DriverStats{}
	}
	return s.Drivers[0]
}

// ledger follows the output given to one driver, per stream.
type ledger struct {
	given  [2]Count
	lost   [2]Count
	capped [2]Count
}

// stats computes what was written as the rest.
func (l *ledger) stats(pending [2]Count) (s [2]StreamStats) {
	for i := range s {
		s[i] = StreamStats{
			Written: l.given[i].minus(l.lost[i]).minus(l.capped[i]).minus(pending[i]),
			Lost:    l.lost[i], Capped: l.capped[i], Pending: pending[i],
		}
	}
	return s
}

// trouble remembers what went wrong. It keeps the parts of the message, because
// on a full disk it happens for each chunk and must not allocate.
type trouble struct {
	errors uint64
	what   string
	err    error
}

// note counts an attempt that did not succeed.
func (t *trouble) note(what string, err error) {
	t.errors++
	t.what, t.err = what, err
}

// text is the last trouble in words, "" for none.
func (t *trouble) text(target string) string {
	if t.err == nil {
		return t.what // an earlier image's words, or nothing
	}
	return t.what + " " + target + ": " + t.err.Error()
}

func (t *trouble) save(st *handoff.State, key, target string) {
	st.PutInt(key+"errors", int64(t.errors))
	st.PutString(key+"last_error", t.text(target))
}

func (t *trouble) load(st *handoff.State, key string) {
	*t = trouble{errors: uint64(st.Int(key + "errors")), what: st.String(key + "last_error")}
}

func (l *ledger) save(st *handoff.State, key string) {
	for i, s := range streams {
		key := key + s.String()
		l.given[i].save(st, key+".given")
		l.lost[i].save(st, key+".lost")
		l.capped[i].save(st, key+".capped")
	}
}

func (l *ledger) load(st *handoff.State, key string) {
	for i, s := range streams {
		key := key + s.String()
		l.given[i] = loadCount(st, key+".given")
		l.lost[i] = loadCount(st, key+".lost")
		l.capped[i] = loadCount(st, key+".capped")
	}
}

func (c Count) save(st *handoff.State, key string) {
	st.PutInt(key+".bytes", int64(c.Bytes))
	st.PutInt(key+".lines", int64(c.Lines))
}

func loadCount(st *handoff.State, key string) Count {
	return Count{uint64(st.Int(key + ".bytes")), uint64(st.Int(key + ".lines"))}
}
