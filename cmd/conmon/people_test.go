package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/poll"
	"conmon/internal/status"
)

// people runs a subcommand as a person would.
func people(args ...string) (out string, err error) {
	root := &cobra.Command{Use: "conmon", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(peopleCommands()...)
	var b bytes.Buffer
	root.SetOut(&b)
	root.SetArgs(args)
	err = root.Execute()
	return b.String(), err
}

// serve stands in for monitors: it answers on the status socket of each bundle,
// and registers them.
func serve(t *testing.T, registry string, bundles ...string) {
	t.Helper()
	t.Setenv("CONMON_REGISTRY_DIR", registry)
	for i, bundle := range bundles {
		p, err := poll.New()
		if err != nil {
			t.Fatal(err)
		}
		s, err := status.Listen(bundle, p, 1)
		if err != nil {
			t.Fatal(err)
		}
		id := string(rune('a' + i))
		if err := status.Register(registry, "uuid-"+id, bundle); err != nil {
			t.Fatal(err)
		}
		stop, done := make(chan struct{}), make(chan struct{})
		t.Cleanup(func() { close(stop); <-done; s.Close() })
		go func() {
			defer close(done)
			for answer(p, s, id) {
				select {
				case <-stop:
					return
				default:
				}
			}
		}()
	}
}

func answer(p *poll.Poller, s *status.Server, id string) bool {
	events, err := p.Wait(clock.Now() + 10*clock.Millisecond)
	for _, ev := range events {
		switch r, _ := s.Ready(ev); {
		case r.Kind == status.StatusRequest:
			snapshot := status.Snapshot{ID: id, State: "running"}
			s.Answer(r.Client, snapshot.AppendJSON(nil))
		case r.Kind == status.UpgradeRequest && r.Arg == "/bad":
			s.UpgradeFailed("cannot take over")
		case r.Kind == status.UpgradeRequest:
			s.Upgraded("9 " + r.Arg)
		}
	}
	return err == nil
}

func TestPeopleCommands(t *testing.T) {
	a, b, empty := t.TempDir(), t.TempDir(), t.TempDir()
	serve(t, t.TempDir(), a, b)
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args, out, err string // parts of the output, and of the error
	}{
		{"status -b " + a, "container  a\n", ""},
		{"status --bundle " + a + " --format prometheus", `conmon_monitor_info{id="a",`, ""},
		{"status -b " + empty, "", "no monitor is running in " + empty},
		{"status -b " + a + " --format xml", "", `--format: "xml" is none of text, json and prometheus`},
		{"status", "", "at least one of the flags in the group [bundle all] is required"},
		{"status --all -b " + a, "", "none of the others can be"},
		{"status --all", "container  b\n", ""},
		{"status --all --format prometheus", `conmon_monitor_info{id="b",`, ""},
		{"ps", "\nb   -     -    running", ""},
		{"ps stray", "", "unknown command"},
		{"upgrade -b " + a, "upgraded: version 9 \n", ""},
		{"upgrade -b " + a + " --binary new", "upgraded: version 9 " + wd + "/new\n", ""},
		{"upgrade -b " + a + " --binary /bad", "", "monitor in " + a + ": cannot take over"},
		{"upgrade --all", "uuid-b: upgraded: version 9 \n", ""},
		{"upgrade --all --binary /bad", "", "monitor in " + b + ": cannot take over"},
		{"reopen-logs", "", `required flag(s) "bundle" not set`},
		{"reopen-logs -b " + empty, "", "no monitor is running in " + empty},
		{"resize -b " + empty + " 24", "", `size "24" is not HEIGHTxWIDTH`},
		{"attach -b " + empty, "", "no monitor is running in " + empty},
	} {
		out, err := people(strings.Fields(c.args)...)
		if !strings.Contains(out, c.out) || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: error %v, output\n%s", c.args, err, out)
		}
	}
}

func TestStatusJSON(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	serve(t, t.TempDir(), a, b)
	type answer struct{ ID string }
	var one answer
	out, err := people("status", "-b", a, "--format", "json")
	if err != nil || json.Unmarshal([]byte(out), &one) != nil || one.ID != "a" {
		t.Errorf("one: %v, %s", err, out)
	}
	var all []answer
	out, err = people("status", "--all", "--format", "json")
	if err != nil || json.Unmarshal([]byte(out), &all) != nil || len(all) != 2 || all[1].ID != "b" {
		t.Errorf("all: %v, %s", err, out)
	}
	t.Setenv("CONMON_REGISTRY_DIR", t.TempDir())
	if out, err = people("status", "--all", "--format", "json"); err != nil || out != "[]\n" {
		t.Errorf("none: %v, %q", err, out)
	}
}

func TestControlCommands(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ctl")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := people("reopen-logs", "-b", dir); err == nil || err.Error() != "no monitor is running in "+dir {
		t.Errorf("a fifo without a reader: %v", err)
	}
	fifo, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer fifo.Close()
	for _, c := range []struct{ args, want string }{
		{"reopen-logs -b " + dir, "2 0 0\n"},
		{"resize -b " + dir + " 24 80", "1 24 80\n"},
		{"resize -b " + dir + " 1000x0", "1 1000 0\n"},
	} {
		if _, err := people(strings.Fields(c.args)...); err != nil {
			t.Errorf("%s: %v", c.args, err)
			continue
		}
		b := make([]byte, 100)
		if n, err := fifo.Read(b); string(b[:n]) != c.want {
			t.Errorf("%s: wrote %q, %v", c.args, b[:n], err)
		}
	}
	file := t.TempDir()
	if err := os.WriteFile(filepath.Join(file, "ctl"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := people("reopen-logs", "-b", file); err == nil || !strings.HasSuffix(err.Error(), "ctl is not a fifo") {
		t.Errorf("a file: %v", err)
	}
}

func TestParseSize(t *testing.T) {
	for _, c := range []struct {
		in            string
		height, width int
		ok            bool
	}{
		{"24 80", 24, 80, true},
		{"24x80", 24, 80, true},
		{"0x0", 0, 0, true},
		{"1000 1000", 1000, 1000, true},
		{"1001 80", 0, 0, false},
		{"-1 80", 0, 0, false},
		{"24", 0, 0, false},
		{"24x80x1", 0, 0, false},
		{"x80", 0, 0, false},
		{"24x", 0, 0, false},
		{"0x10 80", 0, 0, false},
	} {
		h, w, err := parseSize(strings.Fields(c.in))
		if h != c.height || w != c.width || (err == nil) != c.ok {
			t.Errorf("%q: %d, %d, %v", c.in, h, w, err)
		}
	}
}
