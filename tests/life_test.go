package tests

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"conmon/internal/status/client"
	"conmon/tests/harness"
)

func TestOutputAndStatus(t *testing.T) {
	harness.EachRuntime(t, func(t *testing.T, r harness.Runtime) {
		for _, engine := range []harness.Engine{harness.Podman, harness.CRIO} {
			b := harness.NewBundle(t, r, harness.Shell(`echo hello; echo there; sleep 0.05; echo oops >&2; sleep 0.05; printf 'no end'; exit 7`))
			m := b.Run(t, harness.Launch{Engine: engine})
			if status := m.Finish(t); status != 7 {
				t.Errorf("exit status %d", status)
			}
			want := []string{"stdout F hello", "stdout F there", "stderr F oops", "stdout P no end"}
			if got := m.Log(t); !slices.Equal(got, want) {
				t.Errorf("log %q", got)
			}
		}
	})
}

func TestExitStatus(t *testing.T) {
	cases := []struct {
		name, script, signal string
		status               int
	}{
		{"0", "exit 0", "", 0},
		{"1", "exit 1", "", 1},
		{"255", "exit 255", "", 255},
		{"own SIGTERM", "trap 'exit 143' TERM; echo ready; while :; do sleep 0.1; done", "TERM", 143},
		{"SIGKILL", "echo ready; exec sleep 100", "KILL", 137},
		{"handled SIGTERM", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done", "TERM", 3},
	}
	harness.EachRuntime(t, func(t *testing.T, r harness.Runtime) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				b := harness.NewBundle(t, r, harness.Shell(c.script))
				m := b.Run(t, harness.Launch{})
				if c.signal != "" {
					m.WaitLog(t, "ready")
					b.Kill(t, c.signal)
				}
				if status := m.Finish(t); status != c.status {
					t.Errorf("exit status %d, want %d", status, c.status)
				}
			})
		}
	})
}

// An unhandled signal ends an ordinary process; pid 1 of a namespace would
// ignore it, so that only the fake runtime can show 128 + signal of SIGTERM.
func TestUnhandledSignal(t *testing.T) {
	for _, c := range []struct {
		signal string
		status int
	}{{"TERM", 143}, {"ABRT", 134}, {"SEGV", 139}, {"INT", 130}} {
		b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("echo up; exec sleep 100"))
		m := b.Run(t, harness.Launch{})
		m.WaitLog(t, "up")
		b.Kill(t, c.signal)
		if status := m.Finish(t); status != c.status {
			t.Errorf("SIG%s: exit status %d, want %d", c.signal, status, c.status)
		}
	}
}

func TestSignalsAreForwarded(t *testing.T) {
	harness.EachRuntime(t, func(t *testing.T, r harness.Runtime) {
		for _, c := range []struct {
			signal unix.Signal
			status int
		}{{unix.SIGTERM, 15}, {unix.SIGINT, 2}, {unix.SIGQUIT, 3}} {
			b := harness.NewBundle(t, r, harness.Shell("trap 'exit 15' TERM; trap 'exit 2' INT; trap 'exit 3' QUIT; echo ready; while :; do sleep 0.1; done"))
			m := b.Run(t, harness.Launch{})
			m.WaitLog(t, "ready")
			m.Signal(t, c.signal)
			if status := m.Finish(t); status != c.status {
				t.Errorf("%v: exit status %d, want %d", c.signal, status, c.status)
			}
		}
	})
}

func TestSync(t *testing.T) {
	harness.EachRuntime(t, func(t *testing.T, r harness.Runtime) {
		b := harness.NewBundle(t, r, harness.Shell("echo hello; exit 9"))
		m := b.Run(t, harness.Launch{Args: []string{"--sync"}})
		if status := m.Wait(t); status != 9 {
			t.Errorf("the monitor's own exit status is %d", status)
		}
		if status := m.ExitFile(t); status != 9 {
			t.Errorf("exit status %d", status)
		}
		if _, err := os.Stat(m.MonPid); err == nil {
			t.Error("the monitor's pid file was written in spite of --sync")
		}
	})
}

// The launching process has ended, and the pid in the file is that of a session
// leader which kept its command line for ps.
func TestDetached(t *testing.T) {
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Spec{Args: []string{"sleep", "100"}})
	m := b.Run(t, harness.Launch{})
	pid := m.Pid(t)
	if sid, err := unix.Getsid(pid); err != nil || sid != pid {
		t.Errorf("session %d (%v), want %d", sid, err, pid)
	}
	cmdline, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil || !strings.Contains(string(cmdline), "\x00"+b.ID+"\x00") {
		t.Errorf("command line %q, %v", cmdline, err)
	}
	if name := harness.Status(pid, "Name"); name != "conmon" {
		t.Errorf("process name %q: pgrep conmon does not find it", name)
	}
	b.Kill(t, "KILL")
	if status := m.Finish(t); status != 137 {
		t.Errorf("exit status %d", status)
	}
}

// Nothing may be spawned before the engine has moved the launched process.
func TestStartPipeIsAwaited(t *testing.T) {
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("exit 0"))
	m := harness.Launch{Bundle: b, HoldStart: true}.Run(t)
	harness.Eventually(t, "the monitor runs", func() bool { return len(b.Processes()) > 0 })
	// There is no event for what does not happen.
	time.Sleep(200 * time.Millisecond)
	if got := b.Processes(); len(got) != 1 {
		t.Errorf("%d processes before the start byte", len(got))
	}
	m.FirstStart(t)
	m.Created(t)
	m.Launched(t)
	b.Start(t)
	m.Finish(t)
}

func TestRestoreArguments(t *testing.T) {
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("exit 4"))
	argv := b.Base + "/argv"
	image := b.Base + "/checkpoint"
	if err := os.Mkdir(image, 0o755); err != nil {
		t.Fatal(err)
	}
	m := b.Run(t, harness.Launch{
		Args: []string{"--restore", image, "--no-pivot", "--runtime-opt", "--tcp-established", "--runtime-opt=--file-locks"},
		Env:  []string{"FAKE_ARGV=" + argv},
	})
	if status := m.Finish(t); status != 4 {
		t.Errorf("exit status %d", status)
	}
	want := []string{
		"--root=" + b.Base + "/rt", "restore", "--bundle", b.Dir, "--pid-file", b.PidFile,
		"--no-pivot", "--tcp-established", "--file-locks",
		"--detach", "--image-path", image, "--work-path", b.Dir, b.ID,
	}
	got := calls(t, argv)[0]
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("arguments\n%q, want\n%q", got, want)
	}
}

func TestCreateArguments(t *testing.T) {
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("exit 0"))
	argv := b.Base + "/argv"
	m := b.Run(t, harness.Launch{
		Args: []string{"-s", "--no-new-keyring", "--runtime-arg=--log=" + b.Base + "/oci.log", "--runtime-opt", "--preserve-fds", "--runtime-opt", "0"},
		Env:  []string{"FAKE_ARGV=" + argv},
	})
	m.Finish(t)
	want := []string{
		"--systemd-cgroup", "--root=" + b.Base + "/rt", "--log=" + b.Base + "/oci.log",
		"create", "--bundle", b.Dir, "--pid-file", b.PidFile, "--no-new-keyring", "--preserve-fds", "0", b.ID,
	}
	if got := calls(t, argv)[0]; !slices.Equal(got, want) {
		t.Errorf("arguments\n%q, want\n%q", got, want)
	}
}

// The runtime sees the caller's environment and nothing that only the monitor
// is to have.
func TestRuntimeEnvironment(t *testing.T) {
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("exit 0"))
	file := b.Base + "/environ"
	m := b.Run(t, harness.Launch{Env: []string{"FAKE_ENVIRON=" + file, "GREETING=hello world", "GOMAXPROCS=3"}})
	m.Finish(t)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	env := strings.Split(strings.TrimSpace(string(text)), "\n")
	for _, want := range []string{"GREETING=hello world", "GOMAXPROCS=3"} {
		if !slices.Contains(env, want) {
			t.Errorf("no %s in %q", want, env)
		}
	}
	allowed := []string{"PATH", "TMPDIR", "HOME", "XDG_RUNTIME_DIR", "CONMON_REGISTRY_DIR", "CONMON_TEST_MARKER", "_OCI_SYNCPIPE", "_OCI_STARTPIPE", "FAKE_ENVIRON", "GREETING", "GOMAXPROCS"}
	for _, v := range env {
		if name, _, _ := strings.Cut(v, "="); !slices.Contains(allowed, name) {
			t.Errorf("the runtime has got a variable more: %s", v)
		}
	}
}

func TestPassthrough(t *testing.T) {
	harness.EachRuntime(t, func(t *testing.T, r harness.Runtime) {
		b := harness.NewBundle(t, r, harness.Shell("cat; echo oops >&2; exit 5"))
		stdio := stdioFiles(t, b.Base, "typed\n")
		// The streams are the container's alone: not the exit command's.
		m := b.Run(t, harness.Launch{Log: []string{"passthrough"}, Stdio: stdio, Args: []string{
			"--exit-command", "/bin/sh", "--exit-command-arg=-c", "--exit-command-arg", "echo noise; echo noise >&2; touch " + b.Base + "/ran",
		}})
		if status := m.Finish(t); status != 5 {
			t.Errorf("exit status %d", status)
		}
		for name, want := range map[string]string{"stdout": "typed\n", "stderr": "oops\n"} {
			if got, err := os.ReadFile(b.Base + "/" + name); err != nil || string(got) != want {
				t.Errorf("%s is %q, %v", name, got, err)
			}
		}
		if _, err := os.Stat(b.Base + "/ran"); err != nil {
			t.Errorf("the exit command: %v", err)
		}
		for _, name := range []string{"attach", "ctl", "winsz"} {
			if _, err := os.Lstat(b.Dir + "/" + name); err == nil {
				t.Errorf("there is a %s with passthrough", name)
			}
		}
	})
}

// stdioFiles makes three files in dir to be a process's standard descriptors.
func stdioFiles(t *testing.T, dir, input string) []*os.File {
	t.Helper()
	if err := os.WriteFile(dir+"/stdin", []byte(input), 0o644); err != nil {
		t.Fatal(err)
	}
	var files []*os.File
	for _, name := range []string{"stdin", "stdout", "stderr"} {
		f, err := os.OpenFile(dir+"/"+name, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		files = append(files, f)
	}
	return files
}

// Orders that arrive together with the container's end are carried out: a log that
// was moved away is opened again, and clients that lag behind get their time.
func TestOrdersWithTheEnd(t *testing.T) {
	harness.NeedOurs(t)
	for _, c := range []struct {
		name  string
		order func(t *testing.T, m *harness.Monitor)
	}{
		{"signal", func(t *testing.T, m *harness.Monitor) { m.Signal(t, unix.SIGUSR1) }},
		{"control line", func(t *testing.T, m *harness.Monitor) { ctl(t, m, "2 0 0\n") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("echo up; exec sleep 100"))
			m := b.Run(t, harness.Launch{})
			m.WaitLog(t, "up")
			pid := m.Pid(t)
			m.Signal(t, unix.SIGSTOP)
			harness.Eventually(t, "the monitor stopped", func() bool { return harness.StatField(pid, 3) == "T" })
			if err := os.Rename(m.LogPath, m.LogPath+".old"); err != nil {
				t.Fatal(err)
			}
			c.order(t, m)
			b.Kill(t, "KILL")
			m.Signal(t, unix.SIGCONT)
			if status := m.Finish(t); status != 137 {
				t.Errorf("exit status %d", status)
			}
			if _, err := os.Stat(m.LogPath); err != nil {
				t.Errorf("after the end: %v", err)
			}
		})
	}
	t.Run("terminate", func(t *testing.T) {
		const seed, size = 5, 3_000_000
		r := volumeRuntime()
		b := harness.NewBundle(t, r, payload(t, r, "steps", seed, size))
		m := create(t, b, harness.Launch{Args: []string{"-i"}})
		laggard := m.Attach(t)
		b.Start(t)
		laggard.Send(t, []byte{1})
		waitStatus(t, m, "all is logged", func(s *client.Report) bool { return s.Streams.Stdout.Read.Bytes == size })
		pid := m.Pid(t)
		m.Signal(t, unix.SIGSTOP)
		harness.Eventually(t, "the monitor stopped", func() bool { return harness.StatField(pid, 3) == "T" })
		m.Signal(t, unix.SIGTERM)
		b.Kill(t, "KILL")
		m.Signal(t, unix.SIGCONT)
		m.ExitFile(t)
		if got := receiveRest(t, laggard); len(got) != size {
			t.Errorf("the client got %d bytes of %d", len(got), size)
		}
		m.Finish(t)
	})
}

// Whoever is still to become a monitor is ended by the signals that end anybody.
func TestLauncherEndsBySignals(t *testing.T) {
	harness.NeedOurs(t)
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT} {
		b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("exit 0"))
		m := harness.Launch{Bundle: b, HoldStart: true, Args: []string{"--sync"}}.Run(t)
		pid := m.Pid(t)
		harness.Eventually(t, "the Go runtime has its handlers", func() bool {
			caught, _ := strconv.ParseUint(harness.Status(pid, "SigCgt"), 16, 64)
			return caught&(1<<(sig-1)) != 0 && harness.StatField(pid, 3) == "S"
		})
		m.Signal(t, sig)
		harness.Eventually(t, sig.String(), func() bool { return !harness.Alive(pid) })
		m.Wait(t)
	}
}
