// Package monitor is the life of one container: one event loop that owns all
// state, from the runtime's start to the recorded exit.
package monitor

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"conmon/internal/attach"
	"conmon/internal/clock"
	"conmon/internal/config"
	"conmon/internal/ctl"
	"conmon/internal/diag"
	"conmon/internal/handoff"
	"conmon/internal/logging"
	"conmon/internal/notify"
	"conmon/internal/offload"
	"conmon/internal/oom"
	"conmon/internal/parent"
	"conmon/internal/poll"
	"conmon/internal/proc"
	"conmon/internal/status"
	"conmon/internal/stdio"
	"conmon/internal/tty"
)

// Whose event it is.
const (
	ownWake poll.Owner = iota + 1
	ownSignals
	ownRuntime
	ownContainer
	ownStreams
	ownStart
	ownConsole
	ownAttach
	ownCtl
	ownNotify
	ownOOM
	ownLog
	ownStatus
	ownUpgrade
)

// Monitor is one container's monitor. Everything in it belongs to the goroutine
// that runs the loop.
type Monitor struct {
	cfg    *config.Config
	self   self
	diag   *diag.Logger
	poller *poll.Poller
	wake   poll.Bell
	buffer *stdio.Buffer

	signals *proc.Signals
	pipes   parent.Pipes
	proto   parent.Protocol

	phase     phase
	runtime   proc.Process
	container proc.Process
	reaped    map[int]unix.WaitStatus
	started   time.Time
	// recordsInMemory: the exit files' file systems are Volatile.
	recordsInMemory bool
	early           []byte // what the runtime said on standard error so far
	console         *tty.ConsoleSocket
	terminal        int         // the terminal's master, -1: none (yet)
	size            ctl.Command // a Resize that waits for the terminal
	streams         [2]stream

	log    *logging.Log
	attach *attach.Server
	ctl    *ctl.Control
	notify *notify.Relay
	oom    *oom.Watcher
	status *status.Server
	marker *offload.Worker // makes the OOM marker; nil until there is one to make

	timers timers
	memory renewal
	parked inherited
	panics int
	end    end
	up     upgrade
}

// self is what the monitor knows about its own program.
type self struct {
	path        string // where the next version of it will be found
	argv        []string
	launcher    int // pid of the process that the engine started
	gone        int // closes when the launcher is gone; -1: no launcher
	oomScoreAdj string
}

// Run is a monitor's whole life. It returns the process's exit status.
func Run(st *handoff.State) int {
	m, err := load(st)
	if err != nil {
		return refuse(st, err)
	}
	whole := false
	m.safely("start", func() {
		if err := m.prepare(st); err != nil {
			m.decide(monitorCannotRun, err.Error())
		}
		whole = true
	})
	if !whole {
		m.decide(monitorCannotRun, "fault in the monitor")
	}
	for turn := m.turn; m.phase != ended; {
		m.safely("turn", turn)
	}
	return m.finish()
}

// turn waits for something to happen and deals with it.
func (m *Monitor) turn() {
	events, err := m.poller.Wait(m.deadline())
	if err != nil {
		m.diag.Error(err.Error())
	}
	if m.bringsDeath(events) {
		return
	}
	now := clock.Now()
	for _, ev := range events {
		m.dispatch(ev, now)
	}
	m.tick(now)
	m.resume(now)
	m.fitPipes()
	if len(events) > 0 {
		m.timers.trim = now + idleAfter
	}
	m.advanceUpgrade()
	m.countTurn(now)
}

// bringsDeath deals with the container's end, if that is among the events. It goes
// before all others: somebody waits for the exit file. Orders that came with it are
// carried out; at what else happened, such as output, the drain looks.
func (m *Monitor) bringsDeath(events []poll.Event) bool {
	for _, ev := range events {
		if ev.Tag.Owner == ownContainer {
			m.reap()
		}
	}
	if m.phase != ended {
		return false
	}
	for _, ev := range events {
		if ev.Tag.Owner == ownSignals || ev.Tag.Owner == ownCtl {
			m.dispatch(ev, clock.Now())
		}
	}
	return true
}

func (m *Monitor) dispatch(ev poll.Event, now clock.Mono) {
	switch ev.Tag.Owner {
	case ownStreams:
		if s := m.stream(stdio.Stream(ev.Tag.ID)); s.fd >= 0 && !s.paused {
			m.pumpOrKeep(s, now)
		}
	case ownWake:
		m.wake.Hear() // whoever rang has a deadline or a result: see tick
	case ownRuntime, ownUpgrade:
		m.reap()
	case ownSignals:
		for sig := range m.signals.Pending() {
			m.signal(sig)
		}
	case ownStart:
		m.clientIsThere()
	case ownConsole:
		if m.console != nil {
			m.takeTerminal(m.console.Ready(ev))
		}
	case ownAttach:
		m.attach.Ready(ev)
	case ownCtl:
		m.control(ev)
	case ownNotify:
		m.notify.Ready(ev)
	case ownOOM:
		m.noteOOM(m.oom.Ready(ev))
	case ownLog:
		m.log.Ready(ev)
	case ownStatus:
		m.answer(ev)
	}
}

// decide tells the state machine what happened and does what it says.
func (m *Monitor) decide(e event, reason string) {
	var a action
	m.phase, a = next(m.phase, e)
	switch a {
	case startRuntime:
		if err := m.create(); err != nil {
			m.decide(monitorCannotRun, err.Error())
		}
	case announce:
		m.announce()
	case reportFailure, abandonBeforeRun:
		m.end.reason, m.end.failed = reason, true
	case killRuntime:
		_ = m.runtime.Signal(unix.SIGKILL)
	case killSession:
		m.killSession()
	case killForTimeout:
		m.end.reason, m.end.timedOut, m.end.status = reason, true, -1
		m.killContainer()
		m.timers.overdue = clock.Now() + deathTime
	}
}

func (m *Monitor) stream(kind stdio.Stream) *stream { return &m.streams[kind.Index()] }

// callerEnv returns the environment as the engine gave it.
func callerEnv() []string { return handoff.CallerEnv(syscall.Environ()) }

// refuse says why a state cannot be taken over. Nobody else can say it any more.
func refuse(st *handoff.State, err error) int {
	msg := fmt.Sprintf("take over: %v", err)
	diag.New(diag.Error, st.String("config.cid"), true).Error(msg)
	proto := parent.Protocol{API: int(st.Int("config.api_version")), Exec: st.Bool("config.exec")}
	_ = parent.Send(parent.Load(st).Sync, proto.Failed(msg), clock.Now()+clock.Second)
	return 1
}
