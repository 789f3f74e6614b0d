package monitor

import (
	"time"

	"golang.org/x/sys/unix"

	"conmon/internal/attach"
	"conmon/internal/clock"
	"conmon/internal/config"
	"conmon/internal/ctl"
	"conmon/internal/handoff"
	"conmon/internal/notify"
	"conmon/internal/oom"
	"conmon/internal/poll"
	"conmon/internal/proc"
	"conmon/internal/status"
	"conmon/internal/stdio"
	"conmon/internal/version"
)

// upgraded reports whether a state comes from a running monitor, not from a
// launcher.
func upgraded(st *handoff.State) bool { return st.Int("monitor.pid") > 0 }

// save writes down everything that a running monitor is. It changes nothing:
// should the exec fail, the monitor goes on.
func (m *Monitor) save() *handoff.State {
	st := new(handoff.State)
	m.cfg.Save(st)
	m.pipes.Save(st)
	m.log.Save(st)
	st.PutString("self.path", m.self.path)
	st.PutStrings("self.argv", m.self.argv)
	st.PutInt("self.launcher", int64(m.self.launcher))
	st.PutString("self.oom_score_adj", m.self.oomScoreAdj)
	st.PutInt("self.upgrades", int64(m.up.count))

	st.PutInt("monitor.pid", int64(m.container.Pid))
	st.PutFD("monitor.pidfd", m.container.FD())
	st.PutInt("monitor.started", m.started.UnixNano())
	st.PutInt("monitor.timeout", int64(m.timers.timeout))
	st.PutInt("monitor.patience", int64(m.timers.patience))
	st.PutInt("monitor.verdict", int64(m.timers.verdict))
	st.PutBool("monitor.oom", m.end.oom)
	st.PutBool("monitor.records_in_memory", m.recordsInMemory)
	for _, s := range m.streams {
		st.PutFD("monitor."+s.kind.String(), s.fd)
		st.PutInt("monitor."+s.kind.String()+".narrow", int64(s.narrow))
	}
	if m.attach != nil {
		m.attach.Save(st)
	}
	if m.ctl != nil {
		m.ctl.Save(st)
	}
	if m.notify != nil {
		m.notify.Save(st)
	}
	m.status.Save(st)
	m.oom.Save(st)
	return st
}

// takeOver goes on where the predecessor stopped. There is no way back any
// more, so a part that cannot be taken over is given up and the rest goes on:
// the container's output and its exit status matter more than a socket.
func (m *Monitor) takeOver(st *handoff.State) error {
	m.phase = running
	m.end.runtimeRan = true
	renewed := st.Bool("monitor.renewed")
	m.up.count = int(st.Int("self.upgrades"))
	m.up.last = st.String("monitor.upgrade_error")
	if !renewed {
		m.up.count++
	}
	m.container = proc.Adopt(int(st.Int("monitor.pid")), st.FD("monitor.pidfd"))
	m.started = time.Unix(0, st.Int("monitor.started"))
	m.timers = timers{
		timeout:  clock.Mono(st.Int("monitor.timeout")),
		patience: clock.Mono(st.Int("monitor.patience")),
		verdict:  clock.Mono(st.Int("monitor.verdict")),
		trim:     clock.Now() + idleAfter,
	}
	m.end.oom = st.Bool("monitor.oom")
	m.recordsInMemory = st.Bool("monitor.records_in_memory")
	m.complain("container", m.watchPidfd())
	m.takeOverDoors(st)
	if !renewed {
		m.status.Upgraded(version.Number)
	}
	for i := range m.streams {
		s := &m.streams[i]
		if fd := st.FD("monitor." + s.kind.String()); fd >= 0 {
			m.complain(s.kind.String(), m.watchStream(s, fd))
			s.narrow = int(st.Int("monitor." + s.kind.String() + ".narrow"))
			s.fitted = s.narrow > 0
		}
	}
	if m.cfg.Terminal {
		m.terminal = m.stream(stdio.Stdout).fd
	}
	// Whoever died during the exec is found here.
	m.reap()
	return nil
}

// takeOverDoors takes each part over that the predecessor had.
func (m *Monitor) takeOverDoors(st *handoff.State) {
	var errs [5]error
	m.attach, errs[0] = attach.Load(m.attachOptions(), st, m.poller, ownAttach)
	m.ctl, errs[1] = ctl.Load(st, m.poller, ownCtl)
	m.notify, errs[2] = notify.Load(st, m.poller, ownNotify)
	m.oom, errs[3] = oom.Load(st, m.poller, ownOOM)
	m.status, errs[4] = status.Load(st, m.poller, ownStatus)
	for _, err := range errs {
		m.complain("doors", err)
	}
}

func (m *Monitor) complain(part string, err error) {
	if err != nil {
		m.diag.Error("take over " + part + ": " + err.Error())
	}
}

func (m *Monitor) watchPidfd() error {
	fd := m.container.FD()
	if fd < 0 {
		return nil
	}
	mask := poll.In
	if m.timers.verdict != 0 {
		mask = poll.Hup
	}
	return m.poller.Add(fd, poll.Tag{Owner: ownContainer}, mask)
}

// Check tells a running monitor that this image can read its state; st is a
// copy, and nothing that it speaks of may be touched. It returns the process's
// exit status.
func Check(st *handoff.State) int {
	if _, err := config.Load(st); err != nil {
		return 1
	}
	if _, err := unix.Write(1, []byte(handoff.CheckReply)); err != nil {
		return 1
	}
	return 0
}
