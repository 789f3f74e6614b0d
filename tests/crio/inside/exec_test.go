package inside

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"conmon/tests/harness"
)

// exec runs a script in the container as a probe does: to its end, or for some
// seconds if that is not 0.
func (c *container) exec(ctx context.Context, seconds int64, script string) (*cri.ExecSyncResponse, error) {
	return c.p.e.runtime().ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: c.id, Cmd: []string{"sh", "-c", script}, Timeout: seconds})
}

// outcome is what became of an exec.
type outcome struct {
	r   *cri.ExecSyncResponse
	err error
}

// beginExec runs a script in the background and returns when it has begun.
func (c *container) beginExec(t *testing.T, script string) <-chan outcome {
	t.Helper()
	ctx, ended := limited(t), make(chan outcome, 1)
	go func() {
		r, err := c.exec(ctx, 0, "touch /tmp/begun; "+script)
		ended <- outcome{r, err}
	}()
	c.wantExec(t, "until [ -e /tmp/begun ]; do sleep 0.05; done", "", "", 0)
	return ended
}

// wantExec runs a script and checks its whole outcome.
func (c *container) wantExec(t *testing.T, script, stdout, stderr string, code int32) {
	t.Helper()
	r, err := c.exec(limited(t), 0, script)
	if err != nil {
		t.Errorf("exec sync of %q: %v", script, err)
		return
	}
	if string(r.Stdout) != stdout || string(r.Stderr) != stderr || r.ExitCode != code {
		t.Errorf("exec sync of %q: %q, %q, %d; want %q, %q, %d", script, r.Stdout, r.Stderr, r.ExitCode, stdout, stderr, code)
	}
}

func testExecSync(t *testing.T, e *engine) {
	for _, handler := range []string{"crun", "runc"} {
		t.Run(handler, func(t *testing.T) {
			c := e.newPodWith(t, handler, cri.NamespaceMode_CONTAINER).shell(t, "sleep 1000")
			c.wantExec(t, "echo out; echo err >&2; exit 3", "out\n", "err\n", 3)
			c.wantExec(t, "printf 'no newline'", "no newline", "", 0)
			c.wantExec(t, "printf 'a\\n\\nb'; printf x >&2", "a\n\nb", "x", 0)
			c.wantExec(t, "exit 255", "", "", 255)
			c.wantExec(t, "kill -9 $$", "", "", 137)
			if r, err := c.p.e.runtime().ExecSync(limited(t), &cri.ExecSyncRequest{ContainerId: c.id, Cmd: []string{"/no/such"}}); err == nil && r.ExitCode == 0 {
				t.Error("exec sync of nothing succeeded")
			}
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() { c.wantExec(t, fmt.Sprintf("echo %d; exit %d", i, i), fmt.Sprintf("%d\n", i), "", int32(i)) })
			}
			all.Wait()
			c.wantRunning(t)
		})
	}
}

// testExecSyncCap: CRI-O asks for at most 16 MiB of log, and the session must
// neither fail nor hang beyond.
func testExecSyncCap(t *testing.T, e *engine) {
	c := e.newPod(t).shell(t, "sleep 1000")
	const line = 1000
	r, err := c.exec(limited(t), 0, fmt.Sprintf("yes $(printf %%0%dd 0) | head -n 30000; exit 4", line-1))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(r.Stdout); r.ExitCode != 4 || n > 16<<20 || n < 15<<20 {
		t.Errorf("30 MB of output: exit code %d, %d bytes; want 4 and nearly 16 MiB", r.ExitCode, n)
	}
	// CRI-O cuts the file: the last line may be a part of one, no other.
	whole := strings.Repeat("0", line-1) + "\n"
	for i, l := range strings.SplitAfter(string(r.Stdout), "\n") {
		if l != whole && i < len(r.Stdout)/line {
			t.Fatalf("line %d is %q", i, l)
		}
	}
	// Just below the cap everything arrives.
	r, err = c.exec(limited(t), 0, fmt.Sprintf("yes $(printf %%0%dd 0) | head -n 15000", line-1))
	if err != nil || len(r.Stdout) != 15000*line {
		t.Errorf("15 MB of output: %d bytes, %v", len(r.GetStdout()), err)
	}
}

// find is a script that ends with 0 if a process sleeps for so many seconds. The
// number has to be written so that it does not match itself.
func find(seconds string) string { return "ps -o args | grep -q '^sleep " + seconds + "'" }

// testExecSyncBackground: a session ends with its first process, even if
// another one keeps the output open; that one goes on.
func testExecSyncBackground(t *testing.T, e *engine) {
	c := e.newPod(t).shell(t, "sleep 1000")
	c.wantExec(t, "sleep 777 & echo started", "started\n", "", 0)
	c.wantExec(t, find("77[7]"), "", "", 0)
}

// testExecSyncTimeout checks the timeout as kubelet's probes need it, and that
// nothing of the session goes on.
func testExecSyncTimeout(t *testing.T, e *engine) {
	c := e.newPod(t).shell(t, "sleep 1000")
	begin := time.Now()
	r, err := c.exec(limited(t), 1, "echo before; sleep 888; echo after")
	if err != nil || r.ExitCode != -1 || string(r.Stderr) != "command timed out" {
		t.Errorf("a session over its time: %v, %v", r, err)
	}
	if took := time.Since(begin); took < time.Second {
		t.Errorf("a timeout of 1 s took %v", took)
	}
	c.wantExec(t, find("88[8]"), "", "", 1)
	r, err = c.exec(limited(t), 30, "echo in time")
	if err != nil || string(r.Stdout) != "in time\n" {
		t.Errorf("a session within its time: %v, %v", r, err)
	}
	if t.Run("descendant", func(t *testing.T) {
		needOurs(t)
		if _, err := c.exec(limited(t), 1, "setsid sleep 889 & sleep 888"); err != nil {
			t.Error(err)
		}
		c.wantExec(t, find("88[89]"), "", "", 1)
	}); t.Failed() {
		return
	}
	c.wantRunning(t)
}

// testExecSyncTerminal: in a container with a terminal, CRI-O gives one to the
// session too.
func testExecSyncTerminal(t *testing.T, e *engine) {
	c := e.newPod(t).run(t, spec{script: "sleep 1000", tty: true})
	c.wantExec(t, "test -t 1 && echo terminal; exit 7", "terminal\r\n", "", 7)
}

// testExecSyncStopped: stopping a container ends its sessions, also where they
// would survive the container's first process.
func testExecSyncStopped(t *testing.T, e *engine) {
	for name, pid := range map[string]cri.NamespaceMode{"container": cri.NamespaceMode_CONTAINER, "node": cri.NamespaceMode_NODE} {
		t.Run(name, func(t *testing.T) {
			c := e.newPodWith(t, "", pid).shell(t, "trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done")
			c.waitLog(t, "stdout F up")
			session := c.beginExec(t, "sleep 999")
			c.stop(t, untilKill)
			if o := <-session; status.Code(o.err) == codes.DeadlineExceeded {
				t.Errorf("%v after the container's end its session goes on", harness.Patience)
			}
		})
	}
}
