package monitor

import (
	"os"
	"time"

	"conmon/internal/poll"
	"conmon/internal/status"
	"conmon/internal/version"
)

// answer serves who asks on the status socket.
func (m *Monitor) answer(ev poll.Event) {
	request, ok := m.status.Ready(ev)
	if !ok {
		return
	}
	switch request.Kind {
	case status.StatusRequest:
		// The read buffer is free between two events, and the heap keeps what it gets.
		m.status.Answer(request.Client, m.snapshot().AppendJSON(m.buffer.Take()[:0]))
	case status.UpgradeRequest:
		if m.up.child.Exists() {
			m.status.Refuse(request.Client, "an upgrade is under way")
			return
		}
		// Answered when it has succeeded, by the new image, or failed.
		m.startUpgrade(request.Arg)
	}
}

// state is the word for where the monitor stands.
func (m *Monitor) state() string {
	switch m.phase {
	case running:
		return "running"
	case killing:
		return "stopping"
	case ended:
		return "ended"
	}
	return "creating"
}

// snapshot collects what the monitor knows. It allocates, and reads our memory
// figures from the kernel: it is made only when somebody asks.
func (m *Monitor) snapshot() *status.Snapshot {
	cfg := m.cfg
	s := &status.Snapshot{
		Time: time.Now(), ID: cfg.CID, UUID: cfg.CUUID, Name: cfg.Name, Bundle: cfg.Bundle,
		Exec: cfg.Exec, Terminal: cfg.Terminal, State: m.state(),
		Container: status.Container{PID: m.container.Pid, Started: m.started},
		Monitor: status.Self{
			PID: os.Getpid(), Version: version.Number, Commit: version.Commit,
			Upgrades: m.up.count, UpgradeError: m.up.last, Memory: status.OwnMemory(),
		},
	}
	log := m.log.Stats()
	for i := range s.Streams {
		s.Streams[i] = status.Stream{
			Read: status.Count(log.Read[i]), RateLimited: status.Count(log.RateLimited[i]), Paused: m.streams[i].paused,
		}
	}
	for _, d := range log.Drivers {
		out := status.Driver{
			Kind: d.Kind, Path: d.Path, Rotations: d.Rotations, Reopens: d.Reopens,
			Errors: d.Errors, LastError: d.LastError, Restarts: d.Restarts, Waiting: d.Waiting,
		}
		for i, o := range d.Streams {
			out.Streams[i] = status.Outcome{
				Written: status.Count(o.Written), Lost: status.Count(o.Lost),
				Capped: status.Count(o.Capped), Pending: status.Count(o.Pending),
			}
		}
		s.Drivers = append(s.Drivers, out)
	}
	s.Attach = m.attachStatus()
	oom := m.oom.Report()
	s.OOM = status.OOM{Events: oom.OOMs, Kills: oom.Kills, GroupKills: oom.GroupKills}
	return s
}

func (m *Monitor) attachStatus() (a status.Attach) {
	if m.attach == nil {
		return a
	}
	stats := m.attach.Stats()
	a.Accepted, a.Disconnected, a.Input = stats.Accepted, stats.Disconnected, stats.Input
	for _, c := range stats.Clients {
		a.Lags = append(a.Lags, uint64(c.Lag))
		if c.Lag > m.cfg.AttachBacklog {
			a.PastLimit++
		}
	}
	return a
}
