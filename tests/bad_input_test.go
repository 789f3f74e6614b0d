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

func TestBadFlags(t *testing.T) {
	harness.NeedOurs(t) // the peer's prefixes are older
	dir := t.TempDir()
	good := []string{"-c", "abcdefabcdefabcd", "-u", "abcdefabcdefabcd", "-r", "/bin/true", "-b", dir, "-l", "k8s-file:" + dir + "/log"}
	with := func(args ...string) []string { return append(slices.Clone(good), args...) }
	// without drops a flag and its value.
	without := func(flag string) []string {
		i := slices.Index(good, flag)
		return slices.Delete(slices.Clone(good), i, i+2)
	}
	replaced := func(flag string, value ...string) []string { return append(without(flag), value...) }
	const e = "[conmon:e]: "
	cases := []struct {
		name string
		args []string
		text string
	}{
		{"nothing", nil, "conmon: Container ID not provided. Use --cid"},
		{"no cid", without("-c"), "conmon: Container ID not provided. Use --cid"},
		{"no cuuid", without("-u"), e + "Container UUID not provided. Use --cuuid"},
		{"no runtime", without("-r"), e + "Runtime path not provided. Use --runtime"},
		{"missing runtime", replaced("-r", "-r", "/no/such/runtime"), e + "Runtime path /no/such/runtime is not valid"},
		{"runtime not executable", replaced("-r", "-r", "/etc/passwd"), e + "Runtime path /etc/passwd is not valid"},
		{"no log path", without("-l"), e + "Log driver not provided. Use --log-path"},
		{"empty log path", replaced("-l", "-l", ""), "log-path must not be empty"},
		{"no file", replaced("-l", "-l", "k8s-file:"), "k8s-file requires a filename"},
		{"unknown driver", replaced("-l", "-l", "tape:/x"), "No such log driver tape"},
		{"log in a missing directory", replaced("-l", "-l", dir+"/no/such/log"), "Failed to open log file"},
		{"journald and a short id", append(replaced("-l", "-l", "journald"), "-c", "short"), "Container ID must be longer than 12 characters"},
		{"label without value", with("-l", "journald", "--log-label", "X"), "Container labels must be in format LABEL=VALUE"},
		{"label in lower case", with("-l", "journald", "--log-label", "x=1"), "Container label names must contain only uppercase letters, numbers and underscore"},
		{"tag without journald", with("--log-tag", "x"), "k8s-file doesn't support --log-tag"},
		{"label without journald", with("--log-label", "X=1"), "k8s-file doesn't support --log-label"},
		{"negative backups", with("--log-max-files", "-1"), "conmon: log-max-files must be non-negative"},
		{"no backups", with("--log-rotate", "--log-max-files", "0"), "conmon: log-max-files must be at least 1 when log-rotate is enabled"},
		{"huge number", with("--timeout", "99999999999999999999"), "out of range"},
		{"not a number", with("--timeout", "soon"), "option parsing failed"},
		{"unknown flag", with("--no-such-flag"), "option parsing failed"},
		{"log level", with("--log-level", "loud"), "loud"},
		{"exec without a spec", with("--exec"), e},
		{"exec-attach without exec", with("--exec-attach"), "Attach can only be specified with exec"},
		{"exec-attach of API 0", with("--exec", "--exec-attach", "--exec-process-spec", "/dev/null"), "Attach can only be specified for a non-legacy exec session"},
		{"exec-attach without its pipe", with("--api-version", "1", "--exec", "--exec-attach", "--exec-process-spec", "/dev/null"), "--attach specified but _OCI_ATTACHPIPE was not"},
		{"malformed size", with("--log-max-line", "many"), "log-max-line"},
		{"malformed duration", with("--log-flush-interval", "soon"), "log-flush-interval"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			status, stdout, stderr := harness.Command(t, dir, nil, c.args...)
			if status != 1 || !strings.Contains(stderr, c.text) || stdout != "" {
				t.Errorf("exit status %d, standard output %q, standard error %q", status, stdout, stderr)
			}
		})
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 1 { // the log may be there
		t.Errorf("left over: %v", entries)
	}
}

func TestMalformedVariable(t *testing.T) {
	harness.NeedOurs(t)
	status, _, stderr := harness.Command(t, t.TempDir(), []string{"CONMON_LOG_RATE_LIMIT=fast"},
		"-c", "abcdefabcdefabcd", "-u", "x", "-r", "/bin/true", "-l", "none")
	if status != 1 || !strings.Contains(stderr, "CONMON_LOG_RATE_LIMIT") {
		t.Errorf("exit status %d: %s", status, stderr)
	}
}

// failure launches a container whose creation fails and checks what is common
// to all failures: no exit files, and the exit command still runs. It returns the message.
func failure(t *testing.T, l harness.Launch) harness.Message {
	t.Helper()
	b := l.Bundle
	mark := b.Base + "/exit-command-ran"
	l.Args = append(l.Args, "--exit-command", "/bin/touch", "--exit-command-arg", mark)
	m := l.Run(t)
	msg := m.Message(t)
	if msg.Value != -1 {
		t.Errorf("message %q", msg.Raw)
	}
	if more := m.Message(t); more.Raw != "" {
		t.Errorf("one message more: %q", more.Raw)
	}
	m.Wait(t)
	m.Gone(t)
	harness.WaitFile(t, mark)
	for _, path := range []string{b.ExitDir + "/" + b.ID, b.Persist + "/exit"} {
		if present(path) {
			t.Errorf("there is a %s", path)
		}
	}
	return msg
}

func TestRuntimeFails(t *testing.T) {
	harness.NeedOurs(t)
	long := strings.Repeat("0123456789", 1000)
	cases := []struct {
		name     string
		env      []string
		terminal bool
		text     string
	}{
		{"with a message", []string{"FAKE_MODE=fail", "FAKE_MESSAGE=it does \"not\" work\n"}, false, "it does \"not\" work"},
		{"with status 127", []string{"FAKE_MODE=fail", "FAKE_MESSAGE=no", "FAKE_STATUS=127"}, false, "no"},
		{"with a long message", []string{"FAKE_MODE=fail", "FAKE_MESSAGE=" + long}, false, long[:1000]},
		{"with invalid UTF-8", []string{"FAKE_MODE=fail", "FAKE_MESSAGE=a\xffb\x01c"}, false, "a"},
		{"leaving a missing pid file", []string{"FAKE_MODE=fail", "FAKE_STATUS=0"}, false, ""},
		{"leaving an empty pid file", []string{"FAKE_MODE=emptypidfile"}, false, ""},
		{"leaving a malformed pid file", []string{"FAKE_MODE=badpidfile"}, false, ""},
		{"without a terminal", []string{"FAKE_MODE=emptypidfile"}, true, "Runtime did not set up terminal"},
		{"without a terminal or a word", []string{"FAKE_MODE=fail"}, true, "Runtime did not set up terminal"},
		{"without a terminal, with a message", []string{"FAKE_MODE=fail", "FAKE_MESSAGE=why"}, true, "why"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			spec := harness.Shell("exit 0")
			spec.Terminal = c.terminal
			b := harness.NewBundle(t, harness.FakeRuntime(), spec)
			msg := failure(t, harness.Launch{Bundle: b, Env: c.env})
			if !strings.HasPrefix(msg.Text, c.text) {
				t.Errorf("message %.200q", msg.Text)
			}
			if len(msg.Raw) > 4096 {
				t.Errorf("a message of %d bytes does not fit into Podman's buffer", len(msg.Raw))
			}
		})
	}
}

func TestRealRuntimeFails(t *testing.T) {
	harness.EachRealRuntime(t, func(t *testing.T, r harness.Runtime) {
		for _, c := range []struct {
			name  string
			spoil func(b *harness.Bundle) error
		}{
			{"no such program", func(b *harness.Bundle) error {
				b.SetSpec(t, harness.Spec{Args: []string{"/no/such/program"}})
				return nil
			}},
			{"malformed config", func(b *harness.Bundle) error { return os.WriteFile(b.Dir+"/config.json", []byte("{"), 0o644) }},
			{"missing config", func(b *harness.Bundle) error { return os.Remove(b.Dir + "/config.json") }},
		} {
			t.Run(c.name, func(t *testing.T) {
				b := harness.NewBundle(t, r, harness.Shell("exit 0"))
				if err := c.spoil(b); err != nil {
					t.Fatal(err)
				}
				if msg := failure(t, harness.Launch{Bundle: b}); msg.Text == "" {
					t.Errorf("no message in %q", msg.Raw)
				}
			})
		}
	})
}

// A runtime that hangs has no time limit; SIGTERM ends the attempt.
func TestRuntimeHangs(t *testing.T) {
	harness.NeedOurs(t)
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("exit 0"))
	m := harness.Launch{Bundle: b, Env: []string{"FAKE_MODE=hang"}}.Run(t)
	m.Launched(t)
	harness.Eventually(t, "the runtime runs", func() bool { return len(b.Processes()) == 2 })
	m.Signal(t, unix.SIGTERM)
	if msg := m.Message(t); msg.Value != -1 || msg.Text == "" {
		t.Errorf("message %q", msg.Raw)
	}
	m.Gone(t)
}

// A runtime killed half-way takes nothing with it: the engine hears of it.
func TestRuntimeKilled(t *testing.T) {
	harness.NeedOurs(t)
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("exit 0"))
	m := harness.Launch{Bundle: b, Env: []string{"FAKE_MODE=hang"}}.Run(t)
	monitor := m.Launched(t)
	harness.Eventually(t, "the runtime runs", func() bool { return len(b.Processes()) == 2 })
	for _, pid := range b.Processes() {
		if pid != monitor {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	if msg := m.Message(t); msg.Value != -1 {
		t.Errorf("message %q", msg.Raw)
	}
	m.Gone(t)
}

// The runtime dies with the monitor.
func TestMonitorKilledWhileCreating(t *testing.T) {
	harness.NeedOurs(t)
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("exit 0"))
	b.Untidy()
	m := harness.Launch{Bundle: b, Env: []string{"FAKE_MODE=hang"}}.Run(t)
	m.Launched(t)
	harness.Eventually(t, "the runtime runs", func() bool { return len(b.Processes()) == 2 })
	m.Signal(t, unix.SIGKILL)
	harness.Eventually(t, "the runtime is gone too", func() bool { return len(b.Processes()) == 0 })
}

func TestEngineGone(t *testing.T) {
	harness.NeedOurs(t)
	harness.EachRuntime(t, func(t *testing.T, r harness.Runtime) {
		b := harness.NewBundle(t, r, harness.Shell("echo hello; exit 5"))
		m := harness.Launch{Bundle: b, HoldStart: true}.Run(t)
		m.CloseSync()
		m.FirstStart(t)
		m.Launched(t)
		harness.WaitFile(t, b.PidFile)
		harness.Eventually(t, "the container can be started", func() bool {
			_, err := b.RuntimeCommand("start", b.ID)
			return err == nil
		})
		if status := m.Finish(t); status != 5 {
			t.Errorf("exit status %d", status)
		}
	})
}

// Opening a fifo nobody reads must not make the engine wait.
func TestLogIsAFifo(t *testing.T) {
	harness.NeedOurs(t)
	dir := t.TempDir()
	if err := unix.Mkfifo(dir+"/log", 0o600); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	status, _, stderr := harness.Command(t, dir, nil, "-c", "abcdefabcdefabcd", "-u", "x", "-r", "/bin/true", "-b", dir, "-l", dir+"/log")
	if status != 1 || !strings.Contains(stderr, "log") || time.Since(begun) > 5*time.Second {
		t.Errorf("exit status %d after %v: %s", status, time.Since(begun), stderr)
	}
}

func TestMissingBundle(t *testing.T) {
	harness.NeedOurs(t)
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("exit 0"))
	m := harness.Launch{Bundle: b, Args: []string{"-b", b.Base + "/nowhere"}}.Run(t)
	msg := m.Message(t)
	if status := m.Wait(t); status == 0 && (msg.Value != -1 || msg.Text == "") {
		t.Errorf("neither an exit status nor a message: %q", msg.Raw)
	}
}
