package monitor

import (
	"fmt"

	"golang.org/x/sys/unix"

	"conmon/internal/attach"
	"conmon/internal/config"
	"conmon/internal/ctl"
	"conmon/internal/diag"
	"conmon/internal/exitfile"
	"conmon/internal/handoff"
	"conmon/internal/logging"
	"conmon/internal/notify"
	"conmon/internal/parent"
	"conmon/internal/poll"
	"conmon/internal/proc"
	"conmon/internal/status"
	"conmon/internal/stdio"
)

// load builds a monitor from what another image left: what every image needs,
// whether the container is still to be made or has run for a year.
func load(st *handoff.State) (*Monitor, error) {
	cfg, err := config.Load(st)
	if err != nil {
		return nil, err
	}
	m := &Monitor{
		cfg:   cfg,
		diag:  diag.New(diag.ParseLevel(cfg.LogLevel), cfg.CID, cfg.Syslog),
		pipes: parent.Load(st),
		proto: parent.Protocol{API: cfg.APIVersion, Exec: cfg.Exec},
		self: self{
			path: st.String("self.path"), argv: st.Strings("self.argv"), launcher: int(st.Int("self.launcher")),
			gone: st.FD("launch.gone"), oomScoreAdj: st.String("self.oom_score_adj"),
		},
		terminal: -1,
		streams: [2]stream{
			{kind: stdio.Stdout, fd: -1},
			{kind: stdio.Stderr, fd: -1},
		},
	}
	if len(m.self.argv) > 0 {
		proc.SetName(m.self.argv[0])
	}
	unix.Umask(0o022)
	if m.poller, err = poll.New(); err != nil {
		return nil, err
	}
	if m.buffer, err = stdio.NewBuffer(); err != nil {
		return nil, err
	}
	if m.signals, err = proc.OpenSignals(); err != nil {
		return nil, err
	}
	if err := m.poller.Add(m.signals.FD(), poll.Tag{Owner: ownSignals}, poll.In); err != nil {
		return nil, err
	}
	if m.wake, err = poll.NewBell(); err != nil {
		return nil, err
	}
	if err := m.poller.Add(m.wake.FD(), poll.Tag{Owner: ownWake}, poll.In); err != nil {
		return nil, err
	}
	m.log, err = logging.Load(cfg, st, m.poller, ownLog, m.wake.Ring, spawner{m})
	return m, err
}

// prepare gets everything ready that must exist before the runtime starts, and
// starts it, or waits for the engine's word to do so. After an upgrade it takes
// the predecessor's state over instead.
func (m *Monitor) prepare(st *handoff.State) error {
	if upgraded(st) {
		return m.takeOver(st)
	}
	_, _ = unix.Setsid() // a launcher that detached has done it
	if err := proc.BecomeSubreaper(); err != nil {
		return err
	}
	if err := proc.ProtectFromOOM(); err != nil {
		m.diag.Debug("oom_score_adj stays as it is: " + err.Error())
	}
	exitfile.Forget(m.destinations())
	m.recordsInMemory = m.destinations().Volatile()
	if err := m.openDoors(); err != nil {
		return err
	}
	if m.cfg.ExecAttach {
		if m.attach != nil {
			// Podman resizes and connects as soon as it reads this.
			if err := parent.Send(m.pipes.Attach, m.proto.AttachReady(), deadlineIn(sendTime)); err != nil {
				return err
			}
		}
		if m.pipes.Start >= 0 {
			m.phase = awaiting
			m.openWindows()
			return m.poller.Add(m.pipes.Start, poll.Tag{Owner: ownStart}, poll.In)
		}
	}
	m.phase = creating
	return m.create()
}

// openDoors makes what others reach the monitor by: sockets and fifos.
func (m *Monitor) openDoors() (err error) {
	cfg := m.cfg
	if cfg.Bundle == "" {
		return nil
	}
	if !cfg.Passthrough() {
		if m.ctl, err = ctl.Open(cfg.Bundle, m.poller, ownCtl); err != nil {
			return err
		}
		if m.attach, err = attach.Listen(m.attachOptions(), m.poller, ownAttach); err != nil {
			return err
		}
	}
	if cfg.SdNotifySocket != "" {
		if m.notify, err = notify.Listen(cfg.Bundle, cfg.SdNotifySocket, m.poller, ownNotify); err != nil {
			return err
		}
	}
	return nil
}

// openWindows makes what only people look through, once the runtime is at work
// and there is time. No container fails for want of it.
func (m *Monitor) openWindows() {
	cfg := m.cfg
	if cfg.Bundle == "" || m.status != nil {
		return
	}
	var err error
	if m.status, err = status.Listen(cfg.Bundle, m.poller, ownStatus); err != nil {
		m.diag.Warn(err.Error())
	}
	if cfg.RegistryDir != "" && cfg.CUUID != "" {
		if err := status.Register(cfg.RegistryDir, cfg.CUUID, cfg.Bundle); err != nil {
			m.diag.Debug(err.Error())
		}
	}
}

func (m *Monitor) attachOptions() attach.Options {
	cfg := m.cfg
	return attach.Options{
		Bundle: cfg.Bundle, SocketDir: cfg.SocketDir, CUUID: cfg.CUUID,
		FullAttach: cfg.FullAttach || cfg.CUUID == "", // a legacy exec session need not have a name for a link
		Stdin:      cfg.Stdin || cfg.Terminal, Terminal: cfg.Terminal, LeaveStdinOpen: cfg.LeaveStdinOpen,
		Backlog: cfg.AttachBacklog, Disconnect: cfg.AttachDisconnect,
		BacklogDirs: []string{cfg.PersistDir, cfg.Bundle, tempDir(callerEnv()), "/var/tmp"},
	}
}

// clientIsThere handles the engine's second word on the start pipe.
func (m *Monitor) clientIsThere() {
	var b [1024]byte
	if _, err := unix.Read(m.pipes.Start, b[:]); err == unix.EAGAIN || err == unix.EINTR {
		return
	}
	m.poller.Remove(m.pipes.Start)
	_ = unix.Close(m.pipes.Start)
	m.pipes.Start = -1
	m.decide(clientAttached, "")
}

// errNoTerminal is what the engines look for when a runtime was asked for a
// terminal and sent none.
//
//lint:ignore ST1005 these very words
var errNoTerminal = fmt.Errorf("Runtime did not set up terminal")
