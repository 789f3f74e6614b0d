package podman

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"conmon/tests/harness"
)

// listenNotify makes a socket as systemd's, with the messages of each client.
func listenNotify(t *testing.T) (path string, next func() string) {
	t.Helper()
	path = "/run/notify-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		os.Remove(path)
	})
	return path, func() string {
		t.Helper()
		if err := c.SetReadDeadline(time.Now().Add(harness.Patience)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4096)
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("waiting for a notification: %v", err)
		}
		return string(buf[:n])
	}
}

// testSdnotify looks at what reaches the host's notify socket.
func testSdnotify(t *testing.T) {
	p := root()
	run := func(path string, args ...string) *session {
		t.Helper()
		cmd := p.command(append([]string{"run", "--rm"}, args...)...)
		argv := cmd.Args
		cmd.Args = slices.Concat([]string{"env", "NOTIFY_SOCKET=" + path}, argv)
		cmd.Path = "/usr/bin/env"
		s := &session{cmd: cmd}
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdout, cmd.Stderr = w, w
		s.in, s.out = r, r
		return s.start(t, w)
	}

	path, next := listenNotify(t)
	name := p.name(t)
	s := run(path, "--sdnotify", "container", "--name", name, image, "sh", "-c", `
		helper notify STATUS=starting "MAINPID=99
X_OTHER=1" "READY=1
MAINPID=98
STATUS=all is well" RELOADING=1 WATCHDOG=1 FDSTORE=1 STOPPING=1; sleep 1000`)
	var lines []string
	isMain := func(line string) bool { return strings.HasPrefix(line, "MAINPID=") }
	for !slices.Contains(lines, "STOPPING=1") || !slices.ContainsFunc(lines, isMain) {
		lines = append(lines, strings.Split(strings.TrimSuffix(next(), "\n"), "\n")...)
	}
	monitor := fmt.Sprintf("MAINPID=%d", p.monitorOf(t, name))
	want := []string{"STATUS=starting", "READY=1", "STATUS=all is well", "RELOADING=1", "WATCHDOG=1", "STOPPING=1"}
	// Podman's own comes in between, at some time.
	relayed := slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return l == monitor })
	if !slices.Equal(relayed, want) || len(relayed) == len(lines) {
		t.Errorf("sdnotify=container: the host has %q, want %q and %s", lines, want, monitor)
	}
	p.ok(t, "kill", name)
	if code := s.code(t); code != 137 {
		t.Errorf("the container ends with %d", code)
	}

	path, next = listenNotify(t)
	name = p.name(t)
	s = run(path, "--sdnotify", "conmon", "-d", "--name", name, image, "sleep", "1000")
	lines = nil
	for !slices.Contains(lines, "READY=1") {
		lines = append(lines, strings.Split(strings.TrimSuffix(next(), "\n"), "\n")...)
	}
	if monitor := fmt.Sprintf("MAINPID=%d", p.monitorOf(t, name)); !slices.Contains(lines, monitor) {
		t.Errorf("sdnotify=conmon: the host has %q, want %s", lines, monitor)
	}
	s.rest(t)
	s.code(t)
}

// unit writes a service as `podman generate systemd` makes it and starts it.
func unit(t *testing.T, p podman, name string, args ...string) (service string, show func(property string) string) {
	t.Helper()
	p.ok(t, append([]string{"create", "--name", name}, args...)...)
	service = "container-" + name + ".service"
	path := filepath.Join("/run/systemd/system", service)
	if err := os.WriteFile(path, []byte(p.ok(t, "generate", "systemd", "--new", "--name", name)), 0o644); err != nil {
		t.Fatal(err)
	}
	p.ok(t, "rm", name)
	systemctl := func(args ...string) string {
		return strings.TrimSpace(finish(t, exec.Command("systemctl", args...)).stdout)
	}
	systemctl("daemon-reload")
	t.Cleanup(func() {
		systemctl("stop", service)
		systemctl("reset-failed", service)
		os.Remove(path)
		systemctl("daemon-reload")
	})
	return service, func(property string) string { return systemctl("show", "-P", property, service) }
}

func testNotifyUnit(t *testing.T) {
	p := root()
	for mode, script := range map[string]string{
		"conmon":    "trap 'exit 0' TERM; while :; do sleep 0.05; done",
		"container": "trap 'exit 0' TERM; sleep 1; helper notify READY=1; while :; do sleep 0.05; done",
	} {
		name := p.name(t)
		service, show := unit(t, p, name, "--sdnotify", mode, image, "sh", "-c", script)
		began := time.Now()
		if r := finish(t, exec.Command("systemctl", "start", service)); r.code != 0 {
			t.Fatalf("starting the unit: %+v", r)
		}
		if took := time.Since(began); mode == "container" && took < time.Second {
			t.Errorf("the unit was ready after %v, before its container", took)
		}
		if got, want := show("Type")+" "+show("ActiveState")+" "+show("MainPID"), fmt.Sprintf("notify active %d", p.monitorOf(t, name)); got != want {
			t.Errorf("sdnotify=%s: the unit is %q, want %q", mode, got, want)
		}
		if r := finish(t, exec.Command("systemctl", "stop", service)); r.code != 0 {
			t.Errorf("stopping the unit: %+v", r)
		}
		if got := show("ActiveState") + " " + show("Result"); got != "inactive success" {
			t.Errorf("sdnotify=%s: after the stop the unit is %q", mode, got)
		}
		noMonitor(t, name)
	}
	// The monitor's own exit status is the container's, which systemd judges.
	name := p.name(t)
	service, show := unit(t, p, name, "--sdnotify", "conmon", image, "sh", "-c", "sleep 0.5; exit 5")
	finish(t, exec.Command("systemctl", "start", service))
	harness.Eventually(t, "the unit has noticed the end", func() bool { return show("ExecMainStatus") == "5" })
}

func testHealthcheck(t *testing.T) {
	p := root()
	name := p.name(t)
	id := p.ok(t, "run", "-d", "--health-cmd", "test -e /data/well", "--health-interval", "1s", "--health-retries", "1",
		"--health-timeout", "30s", "--name", name, image, "sleep", "1000")
	health := func(want string) {
		t.Helper()
		harness.Eventually(t, "the container is "+want, func() bool {
			return p.inspect(t, name, "{{.State.Health.Status}}") == want
		})
	}
	health("unhealthy")
	p.ok(t, "exec", name, "touch", "/data/well")
	health("healthy")
	if r := p.run(t, "healthcheck", "run", name); r.code != 0 {
		t.Errorf("healthcheck run: %+v", r)
	}
	p.ok(t, "exec", name, "rm", "/data/well")
	health("unhealthy")
	if r := p.run(t, "healthcheck", "run", name); r.code != 1 {
		t.Errorf("healthcheck run: %+v", r)
	}
	timers := func() string {
		return finish(t, exec.Command("systemctl", "list-units", "--type=timer", "--no-legend")).stdout
	}
	if !strings.Contains(timers(), id) {
		t.Errorf("no timer of the healthcheck: %s", timers())
	}
	p.ok(t, "stop", "-t", "0", name)
	harness.Eventually(t, "the timer is gone", func() bool { return !strings.Contains(timers(), id) })
}
