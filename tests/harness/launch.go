package harness

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Engine is whose manner of launching the monitor is followed.
type Engine int

// The two engines. Podman's pipes are SEQPACKET socket pairs and it speaks API
// 1; CRI-O's are pipes and it speaks API 0, with the attach socket behind a
// symlink in --socket-dir-path.
const (
	Podman Engine = iota
	CRIO
)

// Launch describes one launching of the monitor. The zero value of every field
// but Bundle is what the engine does by default.
type Launch struct {
	Bundle *Bundle
	Engine Engine
	Args   []string // further arguments, such as -i, -t, --timeout=2
	Env    []string // further variables

	Log   []string // values of --log-path; default: the bundle's LogPath as the engine names it
	Files []*os.File
	// Files are preserved descriptors, 3 and up; the engine's pipes follow them.

	Exec       *Spec // an exec session in the bundle's container
	ExecAttach bool  // with --exec-attach: the session waits for SecondStart

	NoSync bool // no sync pipe at all
	Stdio  []*os.File
	// Stdio, if given, are the monitor's three standard descriptors. By default
	// they are /dev/null and pipes into Monitor.Output, so that a monitor which
	// does not let go of them is noticed.

	HoldStart bool // do not write to the start pipe: Monitor.FirstStart does
}

// Monitor is a launched monitor.
type Monitor struct {
	Bundle  *Bundle
	Dir     string // working directory: the bundle, or an exec session's own
	LogPath string
	ExitDir string
	PidFile string // the container's or exec session's
	MonPid  string // --conmon-pidfile
	Output  *bytes.Buffer
	// Output is what the launched process printed; read it after Launched or Wait.

	launch  Launch
	cmd     *exec.Cmd
	sync    *syncPipe
	attach  *syncPipe
	start   *os.File
	waited  chan struct{}
	waitErr error
	pid     int
}

// Run launches the monitor and lets it go on, but waits for nothing yet.
func (l Launch) Run(t testing.TB) *Monitor {
	t.Helper()
	b := l.Bundle
	m := &Monitor{Bundle: b, Output: new(bytes.Buffer), launch: l, waited: make(chan struct{})}
	m.place(t)
	cmd := exec.Command(MonitorPath(), m.arguments(t)...)
	cmd.Dir = m.Dir
	cmd.Stdout, cmd.Stderr = m.Output, m.Output
	if l.Stdio != nil {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = l.Stdio[0], l.Stdio[1], l.Stdio[2]
	}
	// Whoever holds our pipes longer than the launched process lives is found
	// by the error this makes.
	cmd.WaitDelay = 5 * time.Second
	cmd.ExtraFiles = append(cmd.ExtraFiles, l.Files...)
	cmd.Env = m.environment()
	theirs := m.pipes(t, cmd)
	err := cmd.Start()
	for _, f := range theirs {
		f.Close()
	}
	if err != nil {
		t.Fatalf("launching %s: %v", cmd.Path, err)
	}
	m.cmd = cmd
	b.launched = append(b.launched, m)
	go func() {
		m.waitErr = cmd.Wait()
		close(m.waited)
	}()
	if !l.HoldStart {
		m.FirstStart(t)
	}
	return m
}

func (m *Monitor) release() {
	m.CloseSync()
	m.start.Close()
	if m.attach != nil {
		m.attach.close()
	}
}

// FirstStart writes the byte that lets the monitor begin.
func (m *Monitor) FirstStart(t testing.TB) { m.startByte(t) }

// SecondStart writes the byte that says that the attach client is connected.
func (m *Monitor) SecondStart(t testing.TB) { m.startByte(t) }

func (m *Monitor) startByte(t testing.TB) {
	t.Helper()
	// A monitor that has refused its arguments reads nothing any more.
	if _, err := m.start.Write([]byte{0}); err != nil && !errors.Is(err, syscall.EPIPE) {
		t.Fatalf("writing to the start pipe: %v", err)
	}
}

// CloseSync closes the engine's end of the sync pipe, as an engine that dies.
func (m *Monitor) CloseSync() {
	if m.sync != nil {
		m.sync.close()
	}
}

// Wait waits for the launched process and returns its exit status (128 + signal
// for a signal): the monitor's own with --sync, else the launching process's.
func (m *Monitor) Wait(t testing.TB) int {
	t.Helper()
	select {
	case <-m.waited:
	case <-time.After(Patience):
		t.Fatalf("the launched process %d has not ended", m.cmd.Process.Pid)
	}
	var exit *exec.ExitError
	if m.waitErr != nil && !errors.As(m.waitErr, &exit) {
		t.Fatalf("the launched process: %v (does the monitor hold its standard output or error?)\n%s", m.waitErr, m.Output)
	}
	ws := m.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// Launched waits until the launching process has exited with 0, having written
// the monitor's pid, and returns that.
func (m *Monitor) Launched(t testing.TB) int {
	t.Helper()
	if status := m.Wait(t); status != 0 {
		t.Fatalf("the launching process exited with %d:\n%s", status, m.Output)
	}
	return m.Pid(t)
}

// Created waits until the container is created, or the exec session started,
// and returns its pid.
func (m *Monitor) Created(t testing.TB) int {
	t.Helper()
	msg := m.Message(t)
	if msg.Value <= 0 {
		t.Fatalf("the sync pipe says %q; the launched process ended with %d", msg.Raw, m.Wait(t))
	}
	return msg.Value
}

// Message returns the next message on the sync pipe; at the end of the pipe one
// whose Raw is empty.
func (m *Monitor) Message(t testing.TB) Message {
	t.Helper()
	return m.sync.next(t, "sync pipe")
}

// AttachReady waits for the message that the attach socket accepts clients.
func (m *Monitor) AttachReady(t testing.TB) Message {
	t.Helper()
	return m.attach.next(t, "attach pipe")
}

// Pid returns the monitor's pid: from its pid file, or the launched process's
// own with --sync.
func (m *Monitor) Pid(t testing.TB) int {
	t.Helper()
	if m.pid != 0 {
		return m.pid
	}
	if m.isSync() {
		m.pid = m.cmd.Process.Pid
		return m.pid
	}
	text, err := os.ReadFile(m.MonPid)
	if err != nil {
		t.Fatal(err)
	}
	if m.pid, err = strconv.Atoi(string(text)); err != nil {
		t.Fatalf("%s holds %q: a bare decimal is asked for", m.MonPid, text)
	}
	return m.pid
}

func (m *Monitor) isSync() bool {
	for _, a := range m.launch.Args {
		if a == "--sync" {
			return true
		}
	}
	return false
}

// ExitFile waits for the exit file and returns the status in it.
func (m *Monitor) ExitFile(t testing.TB) int {
	t.Helper()
	path := m.ExitDir + "/" + m.Bundle.ID
	WaitFile(t, path)
	return ReadNumber(t, path)
}

// Gone waits until the monitor has ended.
func (m *Monitor) Gone(t testing.TB) {
	t.Helper()
	if m.isSync() {
		m.Wait(t)
		return
	}
	WaitProcess(t, m.Pid(t))
}

// Finish waits for the exit file and the monitor's end and returns the status,
// having compared both exit files.
func (m *Monitor) Finish(t testing.TB) int {
	t.Helper()
	status := m.ExitFile(t)
	m.Gone(t)
	if m.launch.Exec == nil {
		if persisted := ReadNumber(t, m.Bundle.Persist+"/exit"); persisted != status {
			t.Errorf("the exit dir says %d, the persist dir %d", status, persisted)
		}
	}
	return status
}

// Signal sends a signal to the monitor.
func (m *Monitor) Signal(t testing.TB, sig unix.Signal) {
	t.Helper()
	if err := unix.Kill(m.Pid(t), sig); err != nil {
		t.Fatalf("signalling the monitor: %v", err)
	}
}

// Run launches, creates, starts and returns the container's monitor.
func (b *Bundle) Run(t testing.TB, l Launch) *Monitor {
	t.Helper()
	l.Bundle = b
	m := l.Run(t)
	m.Created(t)
	if !m.isSync() {
		m.Launched(t)
	}
	b.Start(t)
	return m
}

// Command runs the monitor by hand, with nothing but these arguments, and
// returns its exit status and what it printed.
func Command(t testing.TB, dir string, env []string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(MonitorPath(), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = dir, &out, &errs, 5*time.Second
	cmd.Env = append(os.Environ(), env...)
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("conmon %s: %v", strings.Join(args, " "), err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}
