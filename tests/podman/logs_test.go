package podman

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"conmon/tests/harness"
)

// logDrivers are those that podman logs can read.
func logDrivers() []string { return []string{"k8s-file", "journald"} }

func testLogs(t *testing.T) {
	p := root()
	for _, driver := range logDrivers() {
		name := p.name(t)
		p.ok(t, "run", "-d", "--log-driver", driver, "--name", name, image, "sh", "-c",
			"trap 'echo late; exit' USR1; seq 5; echo oops >&2; while :; do sleep 0.05; done")
		harness.Eventually(t, "the first lines are in the log", func() bool {
			return p.run(t, "logs", name).stderr == "oops\n"
		})
		// Podman cuts the times that it is given to seconds.
		pause(1100 * time.Millisecond)
		between := time.Now().Format(time.RFC3339)
		pause(1100 * time.Millisecond)
		p.ok(t, "kill", "-s", "USR1", name)
		p.ok(t, "wait", name)
		for _, c := range []struct {
			args string
			want outcome
		}{
			{"", outcome{"1\n2\n3\n4\n5\nlate\n", "oops\n", 0}},
			{"--tail 3", outcome{"5\nlate\n", "oops\n", 0}},
			{"--tail 0", outcome{"", "", 0}},
			{"--since " + between, outcome{"late\n", "", 0}},
			{"--until " + between, outcome{"1\n2\n3\n4\n5\n", "oops\n", 0}},
			{"-f --tail 1", outcome{"late\n", "", 0}},
		} {
			if r := p.run(t, append(append([]string{"logs"}, strings.Fields(c.args)...), name)...); r != c.want {
				t.Errorf("%s: podman logs %s: %+v", driver, c.args, r)
			}
		}
		for line := range strings.Lines(p.run(t, "logs", "-t", name).stdout) {
			stamp, _, _ := strings.Cut(line, " ")
			if at, err := time.Parse(time.RFC3339Nano, stamp); err != nil || time.Since(at) > time.Minute || time.Since(at) < 0 {
				t.Errorf("%s: the time of %q: %v", driver, line, err)
			}
		}
	}
}

func testLogsFollow(t *testing.T) {
	p := root()
	for _, driver := range logDrivers() {
		name := p.name(t)
		p.ok(t, "run", "-d", "-i", "--log-driver", driver, "--name", name, image, "sh", "-c",
			"echo ready; while read l; do echo \"got $l\"; done; echo end")
		writer := p.talk(t, "attach", name)
		all, recent := p.talk(t, "logs", "-f", name), p.talk(t, "logs", "-f", "--since", "1h", "--tail", "1", name)
		all.expect(t, "ready\n")
		for i := range 5 {
			line := fmt.Sprintf("line %d\n", i)
			writer.send(t, line)
			all.expect(t, "got "+line)
			recent.expect(t, "got "+line)
		}
		writer.in.Close()
		for _, s := range []*session{all, recent} {
			s.expect(t, "end\n")
			if more := s.rest(t); more != "" || s.code(t) != 0 {
				t.Errorf("%s: after the end podman logs -f prints %q", driver, more)
			}
		}
	}
}

// testPartial has lines that are not finished: a prompt, and a last one.
func testPartial(t *testing.T) {
	p := root()
	const script = `printf abc; sleep 1; printf 'def\nxyz'`
	file := p.name(t)
	p.ok(t, "run", "--log-driver", "k8s-file", "--name", file, image, "sh", "-c", script)
	text, err := os.ReadFile(p.inspect(t, file, "{{.HostConfig.LogConfig.Path}}"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(text)) {
		stamp, record, _ := strings.Cut(line, " ")
		if _, err := time.Parse("2006-01-02T15:04:05.000000000-07:00", stamp); err != nil {
			t.Error(err)
		}
		got = append(got, record)
	}
	if want := []string{"stdout P abc\n", "stdout F def\n", "stdout P xyz\n"}; strings.Join(got, "") != strings.Join(want, "") {
		t.Errorf("the file has %q, want %q", got, want)
	}
	journal := p.name(t)
	p.ok(t, "run", "--log-driver", "journald", "--name", journal, image, "sh", "-c", script)
	entries := journalOf(t, journal, 2)
	if m := entries[0]; m.message() != "abcdef" || m.has("CONTAINER_PARTIAL_MESSAGE") {
		t.Errorf("the first entry is %v", m)
	}
	if m := entries[1]; m.message() != "xyz" || !m.has("CONTAINER_PARTIAL_MESSAGE") {
		t.Errorf("the second entry is %v", m)
	}
	for _, name := range []string{file, journal} {
		if got := p.run(t, "logs", name).stdout; got != "abcdef\nxyz" {
			t.Errorf("podman logs of %s: %q", name, got)
		}
	}
}

// testLogSize limits a log to 100 kB, on which Podman relies.
func testLogSize(t *testing.T) {
	p := root()
	name := p.name(t)
	path := "/var/lib/containers/" + name + ".log"
	p.ok(t, "run", "-d", "--log-driver", "k8s-file", "--log-opt", "max-size=100kb", "--log-opt", "path="+path, "--name", name,
		image, "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do seq 3000; sleep 0.05; done; echo done")
	const most = 100 << 10
	var largest int64
	harness.Eventually(t, "the container is done", func() bool {
		if st, err := os.Stat(path); err == nil {
			largest = max(largest, st.Size())
		}
		return p.inspect(t, name, "{{.State.Status}}") == "exited"
	})
	if largest > most || largest == 0 {
		t.Errorf("the log reached %d bytes of %d", largest, most)
	}
	if got := p.ok(t, "logs", "--tail", "2", name); got != "3000\ndone" {
		t.Errorf("the last lines are %q", got)
	}
	if found, _ := filepath.Glob(path + "*"); len(found) != 1 {
		t.Errorf("the log's files are %v", found)
	}
}

// testNoLog has no log to read: with none, and with passthrough, where the
// container has Podman's own standard output and error.
func testNoLog(t *testing.T) {
	p := root()
	none := p.name(t)
	const script = "echo out; echo err >&2; exit 3"
	if r := p.run(t, "run", "--log-driver", "none", "--name", none, image, "sh", "-c", script); r != (outcome{"out\n", "err\n", 3}) {
		t.Errorf("none: %+v", r)
	}
	if r := p.run(t, "logs", none); r.code == 0 || !strings.Contains(r.stderr, "none") {
		t.Errorf("logs with the driver none: %+v", r)
	}
	args := []string{"--log-driver", "passthrough", "--name", p.name(t), image, "sh", "-c", script}
	if r := p.run(t, append([]string{"run", "--rm"}, args...)...); r != (outcome{"out\n", "err\n", 3}) {
		t.Errorf("passthrough: %+v", r)
	}
	detached := p.name(t)
	file, err := os.Create("/run/" + detached)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := p.command("run", "-d", "--rm", "--log-driver", "passthrough", "--name", detached, image, "sh", "-c", "sleep 0.5; "+script)
	cmd.Stdout = file
	if r := finish(t, cmd); r.code != 0 {
		t.Fatalf("passthrough, detached: %+v", r)
	}
	for _, pid := range monitors(detached) {
		harness.WaitProcess(t, pid)
	}
	text, err := os.ReadFile(file.Name())
	// Podman itself prints nothing, to keep the output clean.
	if err != nil || string(text) != "out\n" {
		t.Errorf("passthrough, detached: the file has %q, %v", text, err)
	}
}
