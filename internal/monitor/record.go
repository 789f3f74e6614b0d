package monitor

import (
	"time"

	"conmon/internal/clock"
	"conmon/internal/exitfile"
	"conmon/internal/logging"
)

// record writes the container's end down, everywhere and in time.
func (m *Monitor) record() {
	var written, lost logging.Count
	log := m.log.Stats()
	for i, s := range log.Primary().Streams {
		written = written.Plus(s.Written)
		lost = lost.Plus(s.Lost).Plus(log.RateLimited[i])
	}
	exit := &exitfile.Exit{
		ID: m.cfg.CID, Status: m.end.status, Signal: m.end.signal, Core: m.end.core,
		OOM: m.end.oom, TimedOut: m.end.timedOut, Reason: m.end.reason,
		Started: m.started, Finished: m.end.at,
		BytesLogged: int64(written.Bytes), LinesLogged: int64(written.Lines),
		BytesLost: int64(lost.Bytes), LinesLost: int64(lost.Lines),
	}
	left := time.Duration(m.end.due - clock.Now())
	for _, err := range exitfile.Record(m.destinations(), exit, left) {
		m.diag.Error(err.Error())
	}
}

// destinations are where the end is recorded.
func (m *Monitor) destinations() exitfile.Destinations {
	return exitfile.Destinations{PersistDir: m.cfg.PersistDir, ExitDir: m.cfg.ExitDir, Bundle: m.cfg.Bundle, InMemory: m.recordsInMemory}
}
