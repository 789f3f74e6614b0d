package harness

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
)

// place decides where the session's files are.
func (m *Monitor) place(t testing.TB) {
	t.Helper()
	b := m.Bundle
	m.Dir, m.LogPath, m.ExitDir, m.PidFile, m.MonPid = b.Dir, b.LogPath, b.ExitDir, b.PidFile, b.MonPid
	if m.launch.Exec == nil {
		return
	}
	b.execs++
	dir := fmt.Sprintf("%s/exec%d", b.Base, b.execs)
	m.Dir, m.LogPath, m.ExitDir, m.PidFile, m.MonPid = dir, dir+"/exec.log", dir+"/exit", dir+"/exec.pid", dir+"/monitor.pid"
	for _, d := range []string{dir, m.ExitDir} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeJSON(t, dir+"/process.json", b.processSpec(*m.launch.Exec))
}

// arguments are those of the engine, in its order.
func (m *Monitor) arguments(t testing.TB) []string {
	t.Helper()
	b, l := m.Bundle, m.launch
	var args []string
	if l.Engine == Podman {
		session := b.ID
		if l.Exec != nil {
			session = b.ID + "-exec" + strconv.Itoa(b.execs)
		}
		args = []string{
			"--api-version", "1", "-c", b.ID, "-u", session, "-r", b.Runtime.Path, "-b", m.Dir, "-p", m.PidFile,
			"-n", "name-" + b.ID, "--exit-dir", m.ExitDir, "--full-attach",
		}
		if l.Exec == nil {
			args = append(args, "--persist-dir", b.Persist)
		}
		args = append(args, "--conmon-pidfile", m.MonPid)
	} else {
		args = []string{"-c", b.ID, "-n", "name-" + b.ID, "-r", b.Runtime.Path, "-p", m.PidFile, "--socket-dir-path", b.Sockets}
		if l.Exec == nil {
			args = append(args, "-b", b.Dir, "-u", b.ID, "--exit-dir", b.ExitDir, "--persist-dir", b.Persist, "-P", m.MonPid)
		}
	}
	for _, a := range b.runtimeArgs() {
		args = append(args, "--runtime-arg", a)
	}
	if l.Exec != nil {
		args = append(args, "-e", "--exec-process-spec", m.Dir+"/process.json")
		if l.ExecAttach {
			args = append(args, "--exec-attach")
		}
		if l.Exec.Terminal {
			args = append(args, "-t")
		}
	} else if b.spec.Terminal {
		args = append(args, "-t")
	}
	logs := l.Log
	if logs == nil && l.Engine == Podman {
		logs = []string{"k8s-file:" + m.LogPath}
	} else if logs == nil {
		logs = []string{m.LogPath}
	}
	for _, path := range logs {
		args = append(args, "-l", path)
	}
	return append(args, l.Args...)
}

func (m *Monitor) environment() []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"), "TMPDIR=" + m.Bundle.Temp, "HOME=" + os.Getenv("HOME"),
		envReg + "=" + m.Bundle.registry(), m.Bundle.marker(),
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		env = append(env, "XDG_RUNTIME_DIR="+dir)
	}
	return append(env, m.launch.Env...)
}

// pipes gives cmd its sync, start and attach pipes and returns the ends that are
// the monitor's, to be closed after the start.
func (m *Monitor) pipes(t testing.TB, cmd *exec.Cmd) []*os.File {
	t.Helper()
	var theirs []*os.File
	give := func(variable string, theirWrites bool) *os.File {
		ours, their := newPipe(t, m.launch.Engine, theirWrites)
		cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d", variable, 3+len(cmd.ExtraFiles)))
		cmd.ExtraFiles = append(cmd.ExtraFiles, their)
		theirs = append(theirs, their)
		return ours
	}
	if !m.launch.NoSync {
		m.sync = newSyncPipe(give("_OCI_SYNCPIPE", true))
	}
	m.start = give("_OCI_STARTPIPE", false)
	if m.launch.ExecAttach {
		m.attach = newSyncPipe(give("_OCI_ATTACHPIPE", true))
	}
	t.Cleanup(m.release)
	return theirs
}
