package monitor

import (
	"conmon/internal/clock"
	"conmon/internal/proc"
	"conmon/internal/status"
)

// renewal is how a monitor gives back what it has allocated. It allocates next
// to nothing once the container runs, and the Go runtime is told to free nothing
// (handoff's tuning), as its heap would cost more than all that is ever in it.
// Should clients and questions over the months add up, the monitor executes its
// own program again: the live upgrade without an upgrade.
type renewal struct {
	base  uint64     // bytes of anonymous memory at the first look; 0: none yet
	turns int        // of the loop, since the last look
	again clock.Mono // when work is looked at like rest
}

// When to look, in turns of the loop, and how much the memory may have grown by
// then. In the midst of work buffers are in use that a renewal does not make
// smaller; so growAtRest holds there only now and then, for those who never rest.
const (
	turnsAtRest = 64
	turnsAtWork = 1024
	growAtRest  = 1 << 20
	growAtWork  = 8 << 20
	workAtMost  = 60 * clock.Second
)

// rest gives back memory that only work needs.
func (m *Monitor) rest() {
	m.buffer.Release()
	m.log.Trim()
	if m.memory.base == 0 || m.memory.turns >= turnsAtRest {
		m.renewIfGrown(growAtRest)
		proc.UnmapProgram()
	}
}

// countTurn looks at the memory now and then while there is no rest.
func (m *Monitor) countTurn(now clock.Mono) {
	mem := &m.memory
	mem.turns++
	switch {
	case mem.again == 0:
		mem.again = now + workAtMost
	case now >= mem.again:
		mem.again = now + workAtMost
		m.renewIfGrown(growAtRest)
	case mem.turns >= turnsAtWork:
		m.renewIfGrown(growAtWork)
	}
}

// renewIfGrown executes the monitor's program anew if the memory has grown.
func (m *Monitor) renewIfGrown(limit uint64) {
	mem := &m.memory
	mem.turns = 0
	used := status.OwnMemory().Anonymous
	if mem.base == 0 || used < mem.base {
		mem.base = used
	}
	if used < mem.base+limit || m.phase != running || m.up.pending() || m.hanging() != nil {
		return
	}
	m.diag.Debug("renewing the monitor's memory")
	st := m.save()
	st.PutBool("monitor.renewed", true)
	st.PutString("monitor.upgrade_error", m.up.last)
	// Not the file at our path, which may be another version by now.
	m.diag.Error("renew the monitor: " + st.Exec("/proc/self/exe", m.self.argv).Error())
	mem.base = used // not again before it has grown by as much
}
