package monitor

// maxPanics bounds how often a part of the monitor may panic before the monitor
// stops doing anything but waiting for the container's end.
const maxPanics = 16

// safely runs one step of the monitor's life. A panic, which is a fault of ours,
// is reported and ends the step, not the monitor: a container that runs is worth
// more than a tidy state, and its exit status more than anything.
func (m *Monitor) safely(step string, do func()) {
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		reason := "fault in the monitor, at " + step
		switch v := r.(type) {
		case error:
			reason += ": " + v.Error()
		case string:
			reason += ": " + v
		}
		m.diag.Error(reason)
		if m.panics++; m.panics == maxPanics && m.phase != ended {
			m.waitBlindly()
		}
	}()
	do()
}

// waitBlindly waits for the container's end and for nothing else. Before there
// is a container, there will not be one any more.
func (m *Monitor) waitBlindly() {
	if m.phase != running && m.phase != killing {
		m.phase, m.end.failed, m.end.reason = ended, true, "fault in the monitor"
		return
	}
	if ws, ok := m.awaitEnd(m.container); ok {
		m.containerEnded(knownStatus(ws))
	} else {
		m.containerEnded(unknownStatus("fault in the monitor"))
	}
}
