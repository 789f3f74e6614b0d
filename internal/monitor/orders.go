package monitor

import (
	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/ctl"
	"conmon/internal/poll"
	"conmon/internal/tty"
)

// signal deals with a signal to the monitor.
func (m *Monitor) signal(sig unix.Signal) {
	switch sig {
	case unix.SIGCHLD:
		m.reap()
	case unix.SIGHUP, unix.SIGUSR1:
		m.reopenLogs()
	case unix.SIGUSR2:
		m.startUpgrade("")
	default:
		m.forward(sig)
	}
}

// terminates reports whether a signal asks for the container's end.
func terminates(sig unix.Signal) bool {
	return sig == unix.SIGTERM || sig == unix.SIGINT || sig == unix.SIGQUIT
}

// forward passes a signal on to the container, or to the runtime before there
// is one.
func (m *Monitor) forward(sig unix.Signal) {
	before := m.phase
	m.decide(terminate, "monitor got "+unix.SignalName(sig)+" before the container existed")
	switch before {
	case creating:
		_ = m.runtime.Signal(sig)
		m.end.reason = "runtime stopped by " + unix.SignalName(sig) + " to the monitor"
		m.timers.patience = clock.Earlier(m.timers.patience, clock.Now()+runtimePatience)
	case running, killing:
		if err := m.container.Signal(sig); err != nil && err != unix.ESRCH {
			m.diag.Warn("forward signal: " + err.Error())
		}
		if m.cfg.Exec {
			// CRI-O stops a container's sessions this way and waits for them.
			m.timers.patience = clock.Earlier(m.timers.patience, clock.Now()+sessionPatience)
		}
	}
}

// How long a signal may go unheeded, and a death take.
const (
	runtimePatience = 2 * clock.Second
	sessionPatience = 10 * clock.Second
	deathTime       = clock.Second / 2
)

func (m *Monitor) reopenLogs() {
	if err := m.log.Reopen(clock.Now()); err != nil {
		m.diag.Error("reopen logs: " + err.Error())
	}
}

func (m *Monitor) control(ev poll.Event) {
	for _, c := range m.ctl.Ready(ev) {
		switch c.Kind {
		case ctl.Malformed:
			m.diag.Warn(c.Problem)
		case ctl.Resize:
			m.size = c
			m.resize()
		case ctl.Reopen:
			m.reopenLogs()
		case ctl.Upgrade:
			m.startUpgrade("")
		}
	}
}

// resize gives the terminal the size that was asked for last. Podman asks before
// it lets an exec session start: then it waits for the terminal.
func (m *Monitor) resize() {
	if m.terminal < 0 || m.size.Kind != ctl.Resize {
		return
	}
	if err := tty.Resize(m.terminal, m.size.Height, m.size.Width); err != nil {
		m.diag.Warn(err.Error())
	}
}
