package tests

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"conmon/tests/harness"
)

// wrapped is the fake runtime behind a shell script that first does something
// else. It is the runtime of its own bundle.
func wrapped(t *testing.T, script string) harness.Runtime {
	t.Helper()
	path := t.TempDir() + "/runtime"
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\nexec "+harness.FakeRuntime().Path+" \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return harness.Runtime{Name: "fake", Path: path}
}

// What the monitor's own making has changed is not passed on: signals, limits,
// descriptors.
func TestNothingOfOursIsInherited(t *testing.T) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 512, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &old) }()
	const look = `ulimit -Sn; grep -E '^Sig(Blk|Ign)' /proc/self/status; for f in /proc/$$/fd/*; do readlink $f; done`
	b := harness.NewBundle(t, wrapped(t, "{ "+look+"; } >$LOOK.runtime"), harness.Shell("exit 0"))
	file := b.Base + "/look"
	m := b.Run(t, harness.Launch{
		Env:  []string{"LOOK=" + file},
		Args: []string{"--exit-command", "/bin/sh", "--exit-command-arg", "-c", "--exit-command-arg", "{ " + look + "; } >$LOOK.exit"},
	})
	m.Finish(t)
	// The runtime also gets what the test was started with.
	notTheirs := map[string][]string{
		"runtime": {"socket:", "anon_inode:", "memfd:", b.LogPath, b.Dir},
		"exit":    {"socket:", "anon_inode:", "memfd:", b.LogPath, b.Dir, "pipe:"},
	}
	for who, strange := range notTheirs {
		text, err := os.ReadFile(file + "." + who)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		if lines[0] != "512" {
			t.Errorf("%s: soft limit of open files %s", who, lines[0])
		}
		for _, signals := range lines[1:3] {
			if !harness.Peer() && !strings.HasSuffix(signals, "\t0000000000000000") {
				t.Errorf("%s: %s", who, signals)
			}
		}
		for _, name := range lines[3:] {
			if slices.ContainsFunc(strange, func(s string) bool { return strings.HasPrefix(name, s) }) {
				t.Errorf("%s: has descriptor of %s", who, name)
			}
		}
	}
}

// The engine learns from the sync pipe, too, what the launching process has
// refused.
func TestRefusedLaunchIsReported(t *testing.T) {
	harness.NeedOurs(t)
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("exit 0"))
	gone := harness.NewBundle(t, harness.Runtime{Name: "fake", Path: "/no/such/runtime"}, harness.Shell("exit 0"))
	for _, c := range []struct {
		launch harness.Launch
		want   string
	}{
		{harness.Launch{Bundle: b, Log: []string{b.Base + "/no/such/dir/log"}}, "Failed to open log file"},
		{harness.Launch{Bundle: gone}, "Runtime path /no/such/runtime is not valid"},
		{harness.Launch{Bundle: b, Env: []string{"CONMON_LOG_ON_FULL=explode"}}, "CONMON_LOG_ON_FULL"},
		{harness.Launch{Bundle: b, Args: []string{"--no-such-flag"}}, "option parsing failed"},
		{harness.Launch{Bundle: b, Env: []string{"_OCI_ATTACHPIPE=77"}, Args: []string{"--log-max-files=-1"}}, "log-max-files"},
	} {
		m := c.launch.Run(t)
		if msg := m.Message(t); msg.Value != -1 || !strings.Contains(msg.Text, c.want) {
			t.Errorf("message %q, want %q", msg.Raw, c.want)
		}
		if status := m.Wait(t); status != 1 {
			t.Errorf("%s: exit status %d", c.want, status)
		}
	}
}

// What a runtime that has failed has started is not left behind.
func TestFailedCreateLeavesNoProcess(t *testing.T) {
	harness.NeedOurs(t)
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("sleep 100 & exec sleep 100"))
	m := harness.Launch{Bundle: b, Env: []string{"FAKE_MODE=nopidfile", "FAKE_AUTOSTART=1"}}.Run(t)
	if msg := m.Message(t); msg.Value != -1 {
		t.Errorf("message %q", msg.Raw)
	}
	m.Launched(t)
	m.Gone(t)
	harness.Eventually(t, "no process is left", func() bool { return len(b.Processes()) == 0 })
}

// A directory passes the check of the runtime; that it cannot be executed is
// known after the fork only, so the exit command is due.
func TestRuntimeCannotBeExecuted(t *testing.T) {
	harness.NeedOurs(t)
	b := harness.NewBundle(t, harness.Runtime{Name: "fake", Path: t.TempDir()}, harness.Shell("exit 0"))
	failure(t, harness.Launch{Bundle: b})
}

// With passthrough the runtime's complaints have reached the caller already.
func TestPassthroughFailureHasNoMessage(t *testing.T) {
	harness.NeedOurs(t)
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("exit 0"))
	m := harness.Launch{
		Bundle: b, Log: []string{"passthrough"}, Stdio: stdioFiles(t, b.Base, ""),
		Env: []string{"FAKE_MODE=fail", "FAKE_MESSAGE=no\n"},
	}.Run(t)
	if msg := m.Message(t); msg.Raw != "{\"data\": -1}\n" {
		t.Errorf("message %q", msg.Raw)
	}
	m.Wait(t)
	if got, err := os.ReadFile(b.Base + "/stderr"); err != nil || !strings.HasPrefix(string(got), "no\n") {
		t.Errorf("standard error %q, %v", got, err)
	}
}

// An exit.json of the bundle's last container does not speak for this one.
func TestOldReasonIsForgotten(t *testing.T) {
	harness.NeedOurs(t)
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("exit 0"))
	old := b.Persist + "/exit.json"
	if err := os.WriteFile(old, []byte("{}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	failure(t, harness.Launch{Bundle: b, Env: []string{"FAKE_MODE=fail"}})
	if _, err := os.Lstat(old); err == nil {
		t.Error("the old exit.json is still there")
	}
}

// A pid file of another run must not make a stranger of its process.
func TestOldPidFileIsForgotten(t *testing.T) {
	harness.NeedOurs(t)
	b := running(t, harness.FakeRuntime())
	pidFile := b.Base + "/old.pid"
	if err := os.WriteFile(pidFile, []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	spec := harness.Shell("exit 0")
	m := harness.Launch{Bundle: b, Exec: &spec, Args: []string{"-p", pidFile}, Env: []string{"FAKE_MODE=fail"}}.Run(t)
	if msg := m.Message(t); msg.Value != -1 {
		t.Errorf("message %q", msg.Raw)
	}
	m.Wait(t)
	m.Gone(t)
}

// The service manager hears of a container whose output is passed through, too:
// systemd units made from containers are run like that.
func TestPassthroughRelaysNotifications(t *testing.T) {
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Spec{Args: []string{"sleep", "100"}})
	if err := os.Mkdir(b.Dir+"/notify", 0o755); err != nil {
		t.Fatal(err)
	}
	host := datagramSocket(t)
	defer unix.Close(host)
	path := b.Base + "/host.sock"
	if err := unix.Bind(host, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(path)
	m := b.Run(t, harness.Launch{
		Log: []string{"passthrough"}, Stdio: stdioFiles(t, b.Base, ""), Args: []string{"--sdnotify-socket", path},
	})
	container := datagramSocket(t)
	defer unix.Close(container)
	if err := unix.Sendto(container, []byte("MAINPID=1\nREADY=1\n"), 0, &unix.SockaddrUnix{Name: b.Dir + "/notify/notify.sock"}); err != nil {
		t.Errorf("sending to the relay: %v", err)
	}
	var got [256]byte
	n, err := unix.Read(host, got[:])
	if text := string(got[:max(n, 0)]); err != nil || strings.TrimSpace(text) != "READY=1" {
		t.Errorf("the host got %q, %v", text, err)
	}
	b.Kill(t, "KILL")
	m.Finish(t)
}

// datagramSocket makes a socket that does not wait for ever.
func datagramSocket(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(harness.Patience / time.Second)})
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// Podman gives the terminal its size before it lets the session start.
func TestExecAttachResizedBeforeStart(t *testing.T) {
	harness.EachRuntime(t, func(t *testing.T, r harness.Runtime) {
		b := running(t, r)
		// The session does not wait for the monitor, which has the terminal as early.
		spec := harness.Shell("until stty size 2>/dev/null | grep -q [1-9]; do sleep 0.01; done; stty size")
		spec.Terminal = true
		m := harness.Launch{Bundle: b, Exec: &spec, ExecAttach: true, Log: []string{"none"}}.Run(t)
		m.AttachReady(t)
		if err := writeFifo(m.Dir+"/ctl", "1 33 77\n"); err != nil {
			t.Fatal(err)
		}
		client := m.Attach(t)
		m.SecondStart(t)
		m.Created(t)
		if out, _ := client.ReceiveAll(t); string(out) != "33 77\r\n" {
			t.Errorf("the terminal's size is %q", out)
		}
		m.Launched(t)
		m.Finish(t)
	})
}

// writeFifo writes to a control fifo as Podman does: there has to be a reader.
func writeFifo(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

// A runtime's warning is nothing for the client of a terminal, which knows no
// standard error.
func TestExecTerminalWithRuntimeWarning(t *testing.T) {
	harness.NeedOurs(t)
	b := running(t, wrapped(t, `case "$*" in *--process*) echo warning >&2; esac`))
	spec := harness.Shell("echo hello")
	spec.Terminal = true
	m := harness.Launch{Bundle: b, Exec: &spec, ExecAttach: true}.Run(t)
	m.AttachReady(t)
	client := m.Attach(t)
	m.SecondStart(t)
	m.Created(t)
	if out, errs := client.ReceiveAll(t); string(out) != "hello\r\n" || len(errs) > 0 {
		t.Errorf("the client got %q and %q", out, errs)
	}
	m.Launched(t)
	m.Finish(t)
	if got := m.Log(t); !slices.Contains(got, "stderr F warning") {
		t.Errorf("log %q", got)
	}
}

// The client of a session that has failed to start does not have to wait for the
// exit command, which the API has delayed by minutes.
func TestFailedExecEndsAttach(t *testing.T) {
	harness.NeedOurs(t)
	b := running(t, harness.FakeRuntime())
	spec := harness.Shell("exit 0")
	m := harness.Launch{
		Bundle: b, Exec: &spec, ExecAttach: true, Env: []string{"FAKE_MODE=fail"},
		Args: []string{"--exit-delay", "300", "--exit-command", "/bin/true"},
	}.Run(t)
	m.AttachReady(t)
	client := m.Attach(t)
	m.SecondStart(t)
	if msg := m.Message(t); msg.Value != -1 {
		t.Errorf("message %q", msg.Raw)
	}
	client.ReceiveAll(t)
	m.Launched(t)
	m.Signal(t, unix.SIGTERM) // ends the delay
	m.Gone(t)
}

// No monitor is started that could not be told of.
func TestFullDiskForThePidFile(t *testing.T) {
	harness.NeedOurs(t)
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("exit 0"))
	dir := tmpfs(t, "64k")
	fill(t, dir)
	m := harness.Launch{Bundle: b, Args: []string{"-P", dir + "/pid"}}.Run(t)
	if status := m.Wait(t); status != 1 || !strings.Contains(m.Output.String(), "pid file") {
		t.Errorf("exit status %d, %q", status, m.Output)
	}
	for _, name := range []string{b.Dir + "/ctl", b.PidFile, dir + "/pid"} {
		if present(name) {
			t.Errorf("there is a %s", name)
		}
	}
}

// A container whose parent stays alive is not the monitor's child; its end is
// noticed all the same, and its status is the real one.
func TestContainerOfAnotherParent(t *testing.T) {
	harness.NeedOurs(t)
	for _, c := range []struct {
		script, signal string
		status         int
	}{{"echo up; read x <$GATE; exit 0", "", 0}, {"echo up; read x <$GATE; exit 5", "", 5}, {"echo up; exec sleep 100", "KILL", 137}} {
		b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell(c.script))
		gate := b.Base + "/go"
		if err := unix.Mkfifo(gate, 0o600); err != nil {
			t.Fatal(err)
		}
		m := b.Run(t, harness.Launch{Env: []string{"FAKE_MODE=keeper", "GATE=" + gate}})
		m.WaitLog(t, "up")
		if c.signal != "" {
			b.Kill(t, c.signal)
		} else if err := os.WriteFile(gate, nil, 0); err != nil {
			t.Fatal(err)
		}
		// Older kernels do not tell, and unknown must not read as success.
		if status := m.Finish(t); status != c.status && status != -1 {
			t.Errorf("%q: exit status %d, want %d", c.script, status, c.status)
		}
	}
}
