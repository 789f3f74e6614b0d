package tests

import (
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"

	"conmon/internal/status/client"
	"conmon/tests/harness"
)

// feed gives a program some text to read and returns what it says.
func feed(t *testing.T, text, name string, args ...string) (out string, ok bool) {
	t.Helper()
	cmd := exec.Command(harness.NeedTool(t, name), args...)
	cmd.Stdin = strings.NewReader(text)
	said, err := cmd.CombinedOutput()
	return string(said), err == nil
}

// What "conmon status" prints is read by the programs that it is for, whatever
// the container is called, and tells what there is to tell.
func TestStatusFormats(t *testing.T) {
	harness.NeedOurs(t)
	odd := "a \"quoted\" \\name\\ with a\nnewline, \x1b[31m, \xff and ünïcode"
	var monitors []*harness.Monitor
	for _, args := range [][]string{{"-n", odd}, {"--log-rate-limit=1000000"}} {
		b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("echo out; echo err >&2; exec sleep 1000"))
		if len(monitors) > 0 { // --all is about one registry
			args = append(args, "-l", "json-file:"+b.Base+"/second")
		}
		env := []string{}
		if len(monitors) > 0 {
			env = append(env, "CONMON_REGISTRY_DIR="+monitors[0].Bundle.Base+"/reg")
		}
		m := b.Run(t, harness.Launch{Args: args, Env: env})
		waitStatus(t, m, "both lines are written", func(s *client.Report) bool {
			return s.Logs[0].Stdout.Written.Lines == 1 && s.Logs[0].Stderr.Written.Lines == 1
		})
		monitors = append(monitors, m)
	}
	env := []string{"CONMON_REGISTRY_DIR=" + monitors[0].Bundle.Base + "/reg"}
	m := monitors[0]
	c := m.Attach(t)
	defer c.Close()
	waitStatus(t, m, "a client is there", func(s *client.Report) bool { return s.Attach.Clients == 1 })
	for _, which := range [][]string{{"-b", m.Dir}, {"-b", monitors[1].Dir}, {"--all"}} {
		print := func(format string) string {
			t.Helper()
			status, out, errs := harness.Command(t, "/", env, append([]string{"status", "--format", format}, which...)...)
			if status != 0 || errs != "" || out == "" {
				t.Fatalf("%v in %s: status %d, %q", which, format, status, errs)
			}
			return out
		}
		metrics := print("prometheus")
		if said, ok := feed(t, metrics, "promtool", "check", "metrics"); !ok || said != "" {
			t.Errorf("%v: promtool says %s of\n%s", which, said, metrics)
		}
		if want := len(monitors); which[0] == "--all" && strings.Count(metrics, "\nconmon_monitor_info{") != want {
			t.Errorf("%v: not %d monitors in\n%s", which, want, metrics)
		}
		want := "1"
		if which[0] == "--all" {
			want = "2"
		}
		query := `[.] | flatten | map(select(.state == "running" and .schema == 1 and .container.pid > 1 and .logs[0].stdout.written.lines == 1)) | length`
		if said, ok := feed(t, print("json"), "jq", query); !ok || strings.TrimSpace(said) != want {
			t.Errorf("%v: jq says %q", which, said)
		}
		if text := print("text"); !strings.Contains(text, "running") || strings.Contains(text, "\x1b") || !utf8.ValidString(text) {
			t.Errorf("%v: %q", which, text)
		}
	}
	status, table, errs := harness.Command(t, "/", env, "ps")
	if status != 0 || strings.Count(table, "\n") != 3 {
		t.Errorf("ps: %d %s\n%s", status, errs, table)
	}
	for _, m := range monitors {
		m.Bundle.Kill(t, "KILL")
		m.Finish(t)
	}
}
