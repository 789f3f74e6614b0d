package monitor

import (
	"time"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/offload"
	"conmon/internal/oom"
	"conmon/internal/poll"
	"conmon/internal/proc"
)

// end is what is known about the container's end.
type end struct {
	runtimeRan bool // a runtime was forked: the exit command is due in any case
	failed     bool // there never was a container
	silent     bool // and the engine is not told why
	timedOut   bool
	status     int // 0 to 255, or -1: unknown or timed out
	signal     int
	core       bool
	reason     string // why it failed, or why the status is not known
	at         time.Time
	oom        bool
	// due is the moment by which the exit file has to be there.
	due clock.Mono
}

// endTime bounds everything between a container's end and its exit file; the
// promise is two seconds, and the file itself needs a moment.
const endTime = 1700 * clock.Millisecond

// verdictTime bounds the wait for another parent to reap the container, which
// is when the kernel may tell us the status.
const verdictTime = clock.Second

// maxReaped bounds what is remembered about processes that end while the
// runtime is at work; the container may be one of them.
const maxReaped = 1024

// reap collects every process that has ended: the runtime, the container, our
// helpers, and orphans that the container left to us.
func (m *Monitor) reap() {
	for dead := range proc.Reap() {
		switch {
		case m.runtime.Exists() && dead.Pid == m.runtime.Pid:
			m.runtimeEnded(dead.Status)
		case m.container.Exists() && dead.Pid == m.container.Pid:
			m.containerEnded(knownStatus(dead.Status))
		case m.log.ChildExited(dead.Pid, dead.Status):
		case m.upgradeChecked(dead.Pid, dead.Status):
		case m.phase == creating && len(m.reaped) < maxReaped:
			m.reaped[dead.Pid] = dead.Status
		}
	}
	if m.phase == running || m.phase == killing {
		m.lookAtStranger()
	}
}

// lookAtStranger deals with a container that has ended and is not our child:
// its status is taken from wherever the kernel offers it.
func (m *Monitor) lookAtStranger() {
	fd := m.container.FD()
	if fd < 0 {
		return
	}
	ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, _ := unix.Poll(ready, 0); n != 1 {
		return
	}
	if ws, ok := proc.ExitInfo(fd); ok {
		m.containerEnded(knownStatus(ws))
		return
	}
	if ready[0].Revents&unix.POLLHUP != 0 {
		m.containerEnded(unknownStatus("another process reaped it"))
		return
	}
	if m.timers.verdict != 0 {
		return
	}
	// It is a zombie that its parent has not reaped: wait for the hang-up only.
	m.timers.verdict = deadlineIn(verdictTime)
	_ = m.poller.Modify(fd, poll.Tag{Owner: ownContainer}, poll.Hup)
}

// verdict is what is known about how a process ended.
type verdict struct {
	status, signal int
	core           bool
	reason         string
}

func knownStatus(ws unix.WaitStatus) verdict {
	status, signal, core := proc.ExitStatus(ws)
	return verdict{status: status, signal: signal, core: core}
}

// unknownStatus is -1: an unknown status must never read as success.
func unknownStatus(why string) verdict {
	return verdict{status: -1, reason: "exit status unknown: " + why}
}

// containerEnded notes the container's end. A container that was killed because
// its time was up reports -1, whatever it died of.
func (m *Monitor) containerEnded(v verdict) {
	m.decide(containerDied, "")
	if m.phase != ended {
		return
	}
	if m.end.timedOut {
		v = verdict{status: -1, signal: v.signal, core: v.core, reason: m.end.reason}
	}
	m.end.status, m.end.signal, m.end.core, m.end.reason = v.status, v.signal, v.core, v.reason
}

// noteOOM acts on what a look at the cgroup's counters found. Each new OOM marks
// again: the last marker may have been removed, or met a full disk.
func (m *Monitor) noteOOM(r oom.Report, err error) {
	if err != nil {
		m.diag.Warn(err.Error())
	}
	if r.Gone {
		m.diag.Debug(oom.Removed)
	}
	m.end.oom = m.end.oom || r.Happened()
	if !r.New {
		return
	}
	m.diag.Info("OOM event received: " + r.Cause())
	m.markOOM()
}

// markOOM makes the marker that engines look for.
func (m *Monitor) markOOM() {
	if m.marker == nil {
		m.marker = offload.New(m.wake.Ring)
	}
	if m.marker.Busy() {
		return
	}
	marking := &oom.Marking{Bundle: m.cfg.Bundle, PersistDir: m.cfg.PersistDir}
	if !m.marker.Do(marking, markTime) {
		m.diag.Warn("mark the OOM: still under way")
		return
	}
	for _, err := range marking.Errs {
		m.diag.Warn(err.Error())
	}
}

// markTime bounds how long the loop waits for the OOM marker on a disk that hangs.
const markTime = 200 * time.Millisecond
