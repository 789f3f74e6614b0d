package monitor

import (
	"time"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/parent"
	"conmon/internal/proc"
	"conmon/internal/status"
)

// finish is the end, in the order that engines rely on. Each step before the
// exit file has its share of the time and gives up when that is over.
func (m *Monitor) finish() int {
	m.end.at = time.Now()
	m.end.due = deadlineIn(endTime)
	if m.end.failed {
		m.safely("report a failure", m.fail)
		return 1
	}
	// At once: systemd removes an empty cgroup, and its counters, immediately.
	m.safely("last look for OOM", func() { m.noteOOM(m.oom.LastLook()) })
	for _, step := range [...]struct {
		name string
		do   func()
	}{
		{"drain", m.drainAll},
		{"close inherited descriptors", m.closeInherited},
		{"end attach", m.endAttach},
		{"record the exit", m.record},
		{"report", func() { m.report(m.proto.Ended(m.end.status, m.end.reason)) }},
		{"close sockets", m.closeDoors},
		{"exit command", m.runExitCommand},
		{"serve lagging clients", m.serveLaggards},
	} {
		m.safely(step.name, step.do)
	}
	return m.end.status & 0xff
}

// endAttach ends the attach clients' output, as far as they keep up.
func (m *Monitor) endAttach() {
	if m.attach != nil {
		m.attach.EndOutput(m.share(1, 2))
	}
}

// fail ends an attempt that made no container: the engine is told why, and no
// exit file claims that something ran.
func (m *Monitor) fail() {
	m.diag.Error("container create failed: " + m.end.reason)
	m.awaitLauncher()
	reason := m.end.reason
	if m.end.silent {
		reason = ""
	}
	m.report(m.proto.Failed(reason))
	m.log.Finish(m.end.due)
	killOrphans()
	m.closeInherited()
	m.closeDoors()
	if m.attach != nil {
		m.attach.Close() // now: the exit command may be a long time off
	}
	if m.ctl != nil {
		m.ctl.Remove(m.cfg.Bundle) // nothing stays behind of a container that never was
	}
	if m.end.runtimeRan {
		m.runExitCommand()
	}
}

// share returns a deadline after part/of what is left until the exit file is due.
func (m *Monitor) share(part, of clock.Mono) clock.Mono {
	now := clock.Now()
	return now + max(m.end.due-now, 0)*part/of
}

func (m *Monitor) drainAll() {
	if m.notify != nil {
		m.notify.Drain()
	}
	if m.attach != nil {
		m.attach.Welcome() // who came in time gets the last words
	}
	m.log.BeginDrain(m.share(1, 2))
	now := clock.Now()
	for i := range m.streams {
		m.drain(&m.streams[i], now)
	}
	due := m.share(3, 4)
	if m.attach != nil && m.attach.Lagging() {
		due = m.share(1, 2) // somebody else needs time, too
	}
	m.log.Finish(due)
}

func (m *Monitor) report(message []byte) {
	if err := parent.Send(m.pipes.Sync, message, deadlineIn(sendTime)); err != nil {
		m.diag.Error(err.Error())
	}
}

func (m *Monitor) closeDoors() {
	if m.attach != nil {
		m.attach.CloseDoor()
	}
	if m.notify != nil {
		m.notify.Close()
	}
	m.container.Close()
	m.oom.Close()
	m.status.Close()
	_ = status.Unregister(m.cfg.RegistryDir, m.cfg.CUUID, m.cfg.Bundle)
	m.closeConsole()
}

// runExitCommand runs the engine's own clean-up and waits for it.
func (m *Monitor) runExitCommand() {
	cfg := m.cfg
	if cfg.ExitCommand == "" {
		return
	}
	m.log.Close()
	// What it starts belongs to the system, not to us.
	proc.StopSubreaping()
	m.linger(clock.Mono(cfg.ExitDelay) * clock.Second)
	pid, pidfd, err := proc.Start(&proc.Command{
		Path: cfg.ExitCommand, Argv: append([]string{cfg.ExitCommand}, cfg.ExitCommandArgs...),
		Env: callerEnv(), CloseOthers: true, OOMScoreAdj: m.self.oomScoreAdj,
	})
	if err != nil {
		m.diag.Error("exit command: " + err.Error())
		return
	}
	command := proc.Adopt(pid, pidfd)
	_, _ = m.awaitEnd(command)
	command.Close()
}

// awaitEnd reaps until p has ended, and returns its status if it was our child.
func (m *Monitor) awaitEnd(p proc.Process) (unix.WaitStatus, bool) {
	for over := false; ; {
		for dead := range proc.Reap() {
			if dead.Pid == p.Pid {
				return dead.Status, true
			}
		}
		if over { // and not our child
			return proc.ExitInfo(p.FD())
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.FD()), Events: unix.POLLIN}}, -1)
		over = n > 0 || err != nil && err != unix.EINTR
	}
}

// linger lets time pass for --exit-delay. The exit is recorded already; a
// terminate ends it.
func (m *Monitor) linger(d clock.Mono) {
	limit := deadlineIn(d)
	for now := clock.Now(); now < limit && !m.toldToLeave(); now = clock.Now() {
		if m.attach != nil && m.attach.Lagging() {
			m.attach.EndOutput(min(limit, now+laggardTurn))
		} else {
			ready := []unix.PollFd{{Fd: int32(m.signals.FD()), Events: unix.POLLIN}}
			_, _ = unix.Poll(ready, int((limit-now)/clock.Millisecond)+1)
		}
		for range proc.Reap() {
		}
	}
}

// laggardTime bounds how long a client that lags behind is waited for when all
// else is done. It is long because "podman run … | less" must lose nothing.
const laggardTime = 600 * clock.Second

// laggardTurn is how long laggards are served before the monitor looks at
// anything else.
const laggardTurn = clock.Second

// serveLaggards goes on serving attach clients that have not seen the
// container's last words yet.
func (m *Monitor) serveLaggards() {
	if m.attach == nil {
		return
	}
	for limit := deadlineIn(laggardTime); m.attach.Lagging() && clock.Now() < limit && !m.toldToLeave(); {
		m.attach.EndOutput(deadlineIn(laggardTurn))
	}
	m.attach.Close()
}

// toldToLeave reports whether a terminate has arrived.
func (m *Monitor) toldToLeave() (told bool) {
	for sig := range m.signals.Pending() {
		told = told || terminates(sig)
	}
	return told
}
