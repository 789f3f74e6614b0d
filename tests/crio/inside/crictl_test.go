package inside

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// crictlCommand is crictl with arguments, not yet started.
func (e *engine) crictlCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, e.programs+"/crictl", append([]string{"--config", e.dir + "/etc/crictl.yaml"}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/root", "TERM=xterm"}
	return cmd
}

// crictl runs crictl and returns what it printed, without the last newline.
func (e *engine) crictl(t *testing.T, args ...string) string {
	t.Helper()
	cmd := e.crictlCommand(limited(t), args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("crictl %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return strings.TrimSuffix(string(out), "\n")
}

// jsonFile writes what crictl reads: the CRI's messages as JSON.
func jsonFile(t *testing.T, name string, v any) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, jsonBytes(t, v), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// testCrictl is a session by hand, from pod to removal, in a pod that has a
// pause container and so one monitor more.
func testCrictl(t *testing.T, e *engine) {
	p := &pod{e: e, config: e.podConfig(cri.NamespaceMode_POD)}
	config := p.containerConfig(spec{script: "echo out; echo err >&2; read line; echo got $line; exit 3", stdin: true, stdinOnce: true})
	podFile, containerFile := jsonFile(t, "pod.json", p.config), jsonFile(t, "container.json", config)

	p.id = e.crictl(t, "runp", "-r", "no-cpu", podFile)
	t.Cleanup(func() { p.remove(t) })
	if n := len(e.monitors()); n != 1 {
		t.Errorf("%d monitors, want 1: that of the pause container", n)
	}
	id := e.crictl(t, "create", p.id, containerFile, podFile)
	if got := e.crictl(t, "ps", "-a", "-q", "--state", "created"); got != id {
		t.Errorf("created containers are %q, want %q", got, id)
	}
	e.crictl(t, "start", id)
	if got := e.crictl(t, "ps", "-q"); got != id {
		t.Errorf("running containers are %q, want %q", got, id)
	}
	if got := e.crictl(t, "exec", "-s", id, "echo", "hello"); strings.TrimSpace(got) != "hello" { // crictl adds a newline
		t.Errorf("exec printed %q", got)
	}
	attach := e.crictlCommand(limited(t), "attach", "-i", id)
	attach.Stdin = strings.NewReader("a line\n")
	if out, err := attach.CombinedOutput(); err != nil || !strings.Contains(string(out), "got a line\n") {
		t.Errorf("attach: %v, printed %q", err, out)
	}
	c := &container{p: p, id: id}
	c.wantEnd(t, 3, "Error")
	var seen struct {
		Status struct {
			ExitCode int
			State    string
		}
	}
	if err := json.Unmarshal([]byte(e.crictl(t, "inspect", id)), &seen); err != nil {
		t.Fatal(err)
	}
	if seen.Status.ExitCode != 3 || seen.Status.State != "CONTAINER_EXITED" {
		t.Errorf("inspect says %+v", seen)
	}
	if got := e.crictl(t, "logs", id); got != "out\ngot a line" {
		t.Errorf("logs printed %q on standard output", got)
	}
	e.crictl(t, "rm", id)
	e.crictl(t, "stopp", p.id)
	e.crictl(t, "rmp", p.id)
}

// monitors returns the pids of the running monitors.
func (e *engine) monitors() []int {
	var pids []int
	for pid := range processes() {
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if strings.HasPrefix(string(cmdline), e.monitor+"\x00") {
			pids = append(pids, pid)
		}
	}
	return pids
}
