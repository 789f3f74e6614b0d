package monitor

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/ociruntime"
	"conmon/internal/oom"
	"conmon/internal/parent"
	"conmon/internal/poll"
	"conmon/internal/proc"
	"conmon/internal/stdio"
	"conmon/internal/tty"
)

// maxEarly bounds what is kept of a runtime's standard error until it is known
// whether it belongs in the container's log or in a failure report.
const maxEarly = 1 << 20

// sendTime bounds how long a message to the engine may wait for room.
const sendTime = 2 * clock.Second

func deadlineIn(d clock.Mono) clock.Mono { return clock.Now() + d }

// create starts the runtime. Its end, seen by reap, goes on from there.
func (m *Monitor) create() error {
	child, err := m.makeStdio()
	if err != nil {
		return err
	}
	defer child.close()
	env := callerEnv()
	socket := ""
	if m.cfg.Terminal {
		if m.console, err = tty.Listen(tempDir(env), m.poller, ownConsole); err != nil {
			return err
		}
		socket = m.console.Path()
	}
	listenPid := ociruntime.PassesListenPid(m.cfg, env, m.self.launcher)
	if listenPid {
		env = ociruntime.WithoutListenPid(env)
	}
	ociruntime.ForgetPid(m.cfg.ContainerPidFile)
	// Also if it cannot be executed: the exit command then is the engine's
	// clean-up after an attempt.
	m.end.runtimeRan = true
	pid, pidfd, err := proc.Start(&proc.Command{
		Path: m.cfg.Runtime, Argv: ociruntime.Argv(m.cfg, socket), Env: env, Files: child.fds[:],
		ParentDeath: true, ListenPid: listenPid, OOMScoreAdj: m.self.oomScoreAdj,
	})
	if err != nil {
		return err
	}
	m.runtime = proc.Adopt(pid, pidfd)
	m.letGoOfStdio()
	m.openWindows()
	m.reaped = map[int]unix.WaitStatus{}
	return m.poller.Add(pidfd, poll.Tag{Owner: ownRuntime}, poll.In)
}

// pumpOrKeep pumps a stream, or keeps it back while nobody knows yet whether
// there will be a container: then it is the reason why not.
func (m *Monitor) pumpOrKeep(s *stream, now clock.Mono) {
	if m.phase != creating {
		m.pump(s, now)
		return
	}
	buf := m.buffer.Take()
	n, state := stdio.Read(s.fd, buf)
	m.early = append(m.early, buf[:n]...)
	if len(m.early) > maxEarly {
		m.flushEarly(now)
	}
	if state == stdio.Ended {
		m.closeStream(s, now)
	}
}

func (m *Monitor) flushEarly(now clock.Mono) {
	if len(m.early) > 0 {
		m.deliver(stdio.Stderr, m.early, now)
	}
	m.early = nil
}

// takeTerminal notes what came over the console socket: the terminal's master,
// or nothing yet.
func (m *Monitor) takeTerminal(master int, err error) {
	if err != nil {
		m.diag.Warn("console socket: " + err.Error())
	}
	if master < 0 {
		return
	}
	m.closeConsole()
	if err := tty.Configure(master); err != nil {
		m.diag.Warn(err.Error())
	}
	m.terminal = master
	m.resize()
	// A duplicate: one descriptor cannot be in an epoll set twice.
	input, err := unix.FcntlInt(uintptr(master), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		m.diag.Error("duplicate the terminal: " + err.Error())
		return
	}
	m.useStdin(input)
}

func (m *Monitor) closeConsole() {
	if m.console != nil {
		m.console.Close()
		m.console = nil
	}
}

// tempDir is where the console socket is made.
func tempDir(env []string) string {
	for _, kv := range env {
		if dir, ok := strings.CutPrefix(kv, "TMPDIR="); ok && dir != "" {
			return dir
		}
	}
	return "/tmp"
}

// runtimeEnded goes on after the runtime: is there a container?
func (m *Monitor) runtimeEnded(ws unix.WaitStatus) {
	m.poller.Remove(m.runtime.FD())
	m.runtime.Close()
	m.timers.patience = 0
	if m.console != nil {
		// A terminal that was sent right before the runtime's end is waiting.
		m.takeTerminal(m.console.Last())
	}
	pid, err := m.findContainer(ws)
	if err != nil {
		m.readComplaints()
		// With passthrough the runtime has told its caller itself.
		m.end.silent = m.cfg.Passthrough() && m.end.reason == ""
		m.decide(createFailed, m.complaint(err))
		return
	}
	if m.container, err = proc.Open(pid); err != nil {
		// It has ended already, and was reaped if it was ours.
		m.container = proc.Adopt(pid, -1)
	}
	m.decide(containerKnown, "")
}

// findContainer returns the container's pid. An exec session exists if its pid
// file says so, whatever the runtime's status; CRI-O creates the file empty.
func (m *Monitor) findContainer(ws unix.WaitStatus) (int, error) {
	noTerminal := m.cfg.Terminal && m.terminal < 0
	switch {
	case noTerminal && ws != 0:
		return 0, fmt.Errorf("%w: it %s", errNoTerminal, describe(ws))
	case noTerminal:
		return 0, errNoTerminal
	case !m.cfg.Exec && ws != 0:
		return 0, fmt.Errorf("runtime %s", describe(ws))
	}
	return ociruntime.ReadPid(m.cfg.ContainerPidFile)
}

func describe(ws unix.WaitStatus) string {
	if ws.Signaled() {
		return "was killed by " + unix.SignalName(ws.Signal())
	}
	return "ended with status " + strconv.Itoa(ws.ExitStatus())
}

// readComplaints adds what the runtime wrote last.
func (m *Monitor) readComplaints() {
	s := m.stream(stdio.Stderr)
	for s.fd >= 0 && len(m.early) < maxEarly {
		buf := m.buffer.Take()
		n, state := stdio.Read(s.fd, buf)
		m.early = append(m.early, buf[:n]...)
		if state != stdio.More {
			return
		}
	}
}

// complaint is the reason of a failure in the runtime's own words, else ours. If
// the monitor stopped the runtime, that is the reason.
func (m *Monitor) complaint(err error) string {
	switch {
	case m.end.reason != "" && len(m.early) > 0:
		return m.end.reason + "; the runtime said: " + string(m.early)
	case m.end.reason != "":
		return m.end.reason
	case err == errNoTerminal || len(m.early) == 0:
		return err.Error()
	}
	return string(m.early)
}

// announce tells the engine about the container and starts to watch it.
func (m *Monitor) announce() {
	now := clock.Now()
	m.started = time.Now()
	if err := m.watchContainer(); err != nil {
		m.diag.Error(err.Error())
	}
	m.awaitLauncher()
	if err := parent.Send(m.pipes.Sync, m.proto.Created(m.container.Pid), now+sendTime); err != nil {
		m.diag.Error(err.Error())
	}
	m.parked.find()
	if m.cfg.Timeout > 0 {
		m.timers.timeout = now + clock.Mono(m.cfg.Timeout)*clock.Second
	}
	m.flushEarly(now)
	m.watchOutput()
	m.timers.trim = now + idleAfter
	if ws, ok := m.reaped[m.container.Pid]; ok {
		m.containerEnded(knownStatus(ws))
	} else if m.container.FD() < 0 {
		m.containerEnded(unknownStatus("it ended before the monitor saw it"))
	}
	m.reaped = nil
}

// watchContainer takes the baselines of what will be compared later. The
// container is created and not started, so nothing of its own has happened yet.
func (m *Monitor) watchContainer() (err error) {
	if fd := m.container.FD(); fd >= 0 {
		err = m.poller.Add(fd, poll.Tag{Owner: ownContainer}, poll.In)
	}
	if !m.cfg.Exec {
		var oomErr error
		if m.oom, oomErr = oom.Watch(m.container.Pid, m.poller, ownOOM); oomErr != nil {
			m.diag.Debug("watch for OOM: " + oomErr.Error())
		}
	}
	return err
}

func (m *Monitor) watchOutput() {
	s := m.stream(stdio.Stdout)
	fd := s.fd
	if m.cfg.Terminal {
		fd = m.terminal
	}
	if fd < 0 {
		return
	}
	if err := m.watchStream(s, fd); err != nil {
		m.diag.Error("watch the container's output: " + err.Error())
	}
}

// awaitLauncher waits until the process that the engine started has written
// the pid file and is gone; usually it was long ago.
func (m *Monitor) awaitLauncher() {
	if m.self.gone < 0 {
		return
	}
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(m.self.gone), Events: unix.POLLIN}}, int(sendTime/clock.Millisecond))
	_ = unix.Close(m.self.gone)
	m.self.gone = -1
}
