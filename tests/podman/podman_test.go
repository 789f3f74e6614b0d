package podman

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"conmon/tests/harness"
)

// podman is somebody's Podman.
type podman struct {
	rootless bool
	url      string // of an API service that does the work
}

func root() podman { return podman{} }

// command returns the command line of a podman call, not started.
func (p podman) command(args ...string) *exec.Cmd {
	argv := []string{"podman"}
	if p.url != "" {
		argv = append(argv, "--remote", "--url", p.url)
	}
	if p.rootless {
		place := "/run/user/" + strconv.Itoa(userID)
		argv = append([]string{
			"runuser", "-u", user, "--", "env", "HOME=" + userHome, "XDG_RUNTIME_DIR=" + place,
			"DBUS_SESSION_BUS_ADDRESS=unix:path=" + place + "/bus",
		}, argv...)
	}
	argv = append(argv, args...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = "/"
	return cmd
}

// outcome is how a podman call ended.
type outcome struct {
	stdout, stderr string
	code           int
}

// run calls podman with nothing on standard input.
func (p podman) run(t testing.TB, args ...string) outcome {
	t.Helper()
	return finish(t, p.command(args...))
}

// finish runs a command to its end, which must come within the harness's
// patience.
func finish(t testing.TB, cmd *exec.Cmd) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &stdout
	}
	cmd.Stderr = &stderr
	cmd.WaitDelay = harness.Patience
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	alarm := time.AfterFunc(limit(), func() { _ = cmd.Process.Kill() })
	defer alarm.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v\n%s%s", brief(cmd), err, stdout.String(), stderr.String())
	}
	if cmd.ProcessState.ExitCode() < 0 {
		t.Fatalf("%s: %v (killed after %v?)\n%s%s", brief(cmd), err, limit(), stdout.String(), stderr.String())
	}
	return outcome{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// limit is how long one podman call may take. The long mode moves a gigabyte.
func limit() time.Duration {
	if harness.Long() {
		return 5 * time.Minute
	}
	return 2 * harness.Patience
}

func brief(cmd *exec.Cmd) string {
	return strings.Join(cmd.Args, " ")
}

// ok calls podman, which must succeed, and returns its output without the last
// newline.
func (p podman) ok(t testing.TB, args ...string) string {
	t.Helper()
	r := p.run(t, args...)
	if r.code != 0 {
		t.Fatalf("podman %s: status %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return strings.TrimSuffix(r.stdout, "\n")
}

// name returns a name for a container of the test. At the end of the test the
// container is removed, and then nothing of its monitors may be left.
func (p podman) name(t testing.TB) string {
	t.Helper()
	base := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, strings.TrimPrefix(t.Name(), "TestPodman/"))
	name := base + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s: %+v", name, p.run(t, "ps", "-a", "--filter", "name="+name, "--format", "{{.Status}}"))
		}
		if r := p.run(t, "rm", "-f", "-i", "-t", "0", name); r.code != 0 {
			t.Errorf("removing %s: %s", name, r.stderr)
		}
		noMonitor(t, name)
	})
	return name
}

// inspect returns a field of a container.
func (p podman) inspect(t testing.TB, name, format string) string {
	t.Helper()
	return p.ok(t, "inspect", "--type", "container", "-f", format, name)
}

// want checks a field of a container.
func (p podman) want(t testing.TB, name, format, want string) {
	t.Helper()
	if got := p.inspect(t, name, format); got != want {
		t.Errorf("%s of %s is %q, want %q", format, name, got, want)
	}
}

// monitorOf returns the pid of a container's monitor as Podman has it.
func (p podman) monitorOf(t testing.TB, name string) int {
	t.Helper()
	pid, err := strconv.Atoi(p.inspect(t, name, "{{.State.ConmonPid}}"))
	if err != nil || pid <= 1 {
		t.Fatalf("the monitor of %s: pid %d, %v", name, pid, err)
	}
	return pid
}

// monitors returns the monitors that run: of the containers with a name, or all
// of them for an empty name.
func monitors(name string) []int {
	var found []int
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || !harness.Alive(pid) {
			continue
		}
		text, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		argv := strings.Split(string(text), "\x00")
		i := slices.Index(argv, "-n")
		if argv[0] == monitorPath && (name == "" || i > 0 && i+1 < len(argv) && argv[i+1] == name) {
			found = append(found, pid)
		}
	}
	return found
}

// noMonitor checks that the monitors of a container are gone, or go, and
// ends those that do not.
func noMonitor(t testing.TB, name string) {
	t.Helper()
	for _, pid := range monitors(name) {
		if !ends(pid, harness.Patience) {
			text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
			t.Errorf("left over: %q", strings.ReplaceAll(string(text), "\x00", " "))
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// ends waits for the end of a process.
func ends(pid int, patience time.Duration) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	for end := time.Now().Add(patience); ; {
		left := max(time.Until(end), 0)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds()))
		if n > 0 || left == 0 {
			return n > 0
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false
		}
	}
}

// counters are the parts of `conmon status` that the suite looks at.
type counters struct {
	Monitor struct {
		Upgrades     int
		UpgradeError string `json:"upgrade_error"`
	}
	Streams struct {
		Stdout struct{ Read count }
	}
	Logs []struct {
		Driver string
		Stdout struct{ Written, Lost, Pending count }
	}
	Attach struct{ Clients int }
}

type count struct{ Bytes, Lines int64 }

// status asks the monitor of a container.
func (p podman) status(t testing.TB, name string) counters {
	t.Helper()
	return statusOf(t, p.inspect(t, name, "{{.StaticDir}}"))
}

// statusOf asks the monitor of a bundle.
func statusOf(t testing.TB, bundle string) counters {
	t.Helper()
	r := finish(t, exec.Command(monitorPath, "status", "-b", bundle, "--format", "json"))
	if r.code != 0 {
		t.Fatalf("asking the monitor of %s: %s", bundle, r.stderr)
	}
	var c counters
	if err := json.Unmarshal([]byte(r.stdout), &c); err != nil {
		t.Fatalf("the monitor of %s says %q: %v", bundle, r.stdout, err)
	}
	return c
}

// exitRecord is what exit.json says about the output.
type exitRecord struct {
	Status      int
	Reason      string
	BytesLogged int64 `json:"bytes_logged"`
	LinesLogged int64 `json:"lines_logged"`
	BytesLost   int64 `json:"bytes_lost"`
	LinesLost   int64 `json:"lines_lost"`
}

// exitRecord returns the exit.json of a container that has ended.
func (p podman) exitRecord(t testing.TB, name string) exitRecord {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.inspect(t, name, "{{.StaticDir}}"), "exit.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r exitRecord
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return r
}

func atoi(t testing.TB, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// sockets returns the sockets below the directories in which monitors work.
func sockets() []string {
	var found []string
	for _, dir := range []string{"/run/containers", "/var/lib/containers", "/run/libpod", "/run/conmon"} {
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type()&fs.ModeSocket != 0 {
				found = append(found, path)
			}
			return nil
		})
	}
	return found
}
