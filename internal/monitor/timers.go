package monitor

import (
	"golang.org/x/sys/unix"

	"conmon/internal/clock"
)

// timers are the monitor's own deadlines, 0 where there is none.
type timers struct {
	timeout  clock.Mono // --timeout
	patience clock.Mono // until a terminate must have been obeyed
	overdue  clock.Mono // until a killed container must be dead
	verdict  clock.Mono // until another parent must have reaped the container
	trim     clock.Mono // until the loop counts as idle
}

// idleAfter is how long the loop stays quiet before it gives its memory back.
const idleAfter = clock.Second

// deadline returns the earliest of everybody's deadlines.
func (m *Monitor) deadline() clock.Mono {
	t := &m.timers
	d := clock.Earlier(clock.Earlier(t.timeout, t.patience), clock.Earlier(t.overdue, clock.Earlier(t.verdict, t.trim)))
	d = clock.Earlier(clock.Earlier(d, m.up.limit), clock.Earlier(m.log.Deadline(), m.oom.Deadline()))
	if m.attach != nil {
		d = clock.Earlier(d, m.attach.Deadline())
	}
	d = clock.Earlier(d, m.status.Deadline())
	return d
}

// due reports whether the deadline *t has passed, and takes it back if so.
func due(t *clock.Mono, now clock.Mono) bool {
	if *t == 0 || now < *t {
		return false
	}
	*t = 0
	return true
}

func (m *Monitor) tick(now clock.Mono) {
	if d := m.log.Deadline(); due(&d, now) {
		m.log.Tick(now)
	}
	if m.attach != nil {
		if d := m.attach.Deadline(); due(&d, now) {
			m.attach.Tick(now)
		}
	}
	m.status.Tick(now)
	if d := m.oom.Deadline(); due(&d, now) {
		m.noteOOM(m.oom.Tick(now))
	}
	t := &m.timers
	if due(&t.timeout, now) {
		m.decide(timeUp, "command timed out")
	}
	if due(&t.patience, now) {
		m.decide(patienceOver, "")
	}
	if due(&t.overdue, now) {
		m.decide(deathOverdue, "")
	}
	if due(&t.verdict, now) {
		m.containerEnded(unknownStatus("its parent has not reaped it"))
	}
	if due(&m.up.limit, now) && m.up.child.Exists() {
		_ = m.up.child.Signal(unix.SIGKILL) // its end is an answer, too
	}
	if due(&t.trim, now) {
		m.rest()
	}
}
