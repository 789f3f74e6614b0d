package inside

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"conmon/tests/harness"
)

// testExits checks exit codes and reasons with both runtimes.
func testExits(t *testing.T, e *engine) {
	for _, handler := range []string{"crun", "runc"} {
		t.Run(handler, func(t *testing.T) {
			p := e.newPodWith(t, handler, cri.NamespaceMode_CONTAINER)
			p.shell(t, "exit 0").wantEnd(t, 0, "Completed")
			p.shell(t, "exit 42").wantEnd(t, 42, "Error")
			p.shell(t, "kill -9 $$ & exec sh -c 'kill -s KILL 1; exit 5'").wantEnd(t, 5, "Error") // pid 1 is immune to itself
			p.run(t, spec{script: "exit 9", tty: true}).wantEnd(t, 9, "Error")
			killed := p.shell(t, "sleep 1000")
			kill(t, killed.pid(t), "KILL")
			killed.wantEnd(t, 137, "Error")
		})
	}
}

// testCreateFails checks that CRI-O gets the runtime's complaint, and can go on.
func testCreateFails(t *testing.T, e *engine) {
	for _, handler := range []string{"crun", "runc"} {
		p := e.newPodWith(t, handler, cri.NamespaceMode_CONTAINER)
		_, err := p.create(limited(t), spec{args: []string{"/no/such/program"}})
		if err == nil || !strings.Contains(err.Error(), "no such file") && !strings.Contains(err.Error(), "not found") {
			t.Errorf("%s: creating a container of nothing: %v", handler, err)
		}
		p.shell(t, "exit 0").wantEnd(t, 0, "Completed")
	}
}

// testOOMKilled checks that a container over its memory limit is reported so,
// and one that was killed otherwise is not.
func testOOMKilled(t *testing.T, e *engine) {
	const limit = 32 << 20
	p := e.newPod(t)
	hungry := []string{"dd", "if=/dev/zero", "of=/dev/null", "bs=256M", "count=1"}
	p.run(t, spec{args: hungry, memory: limit}).wantEnd(t, 137, "OOMKilled")
	p.run(t, spec{script: strings.Join(hungry, " ") + "; exit 6", memory: limit}).wantEnd(t, 6, "OOMKilled")
	modest := p.run(t, spec{script: "sleep 1000", memory: limit})
	kill(t, modest.pid(t), "KILL")
	modest.wantEnd(t, 137, "Error")
}

// untilKill is how many seconds a container that obeys TERM is given: enough on
// any machine, and less than a call may take.
const untilKill = 50

// testStop stops containers that obey TERM, and one that does not.
func testStop(t *testing.T, e *engine) {
	p := e.newPod(t)
	polite := p.shell(t, "trap 'echo bye; exit 11' TERM; echo up; while :; do sleep 0.1; done")
	polite.waitLog(t, "stdout F up")
	polite.stop(t, untilKill)
	polite.wantEnd(t, 11, "Error")
	polite.waitLog(t, "stdout F bye")

	stubborn := p.shell(t, "trap '' TERM; echo up; while :; do sleep 0.1; done")
	stubborn.waitLog(t, "stdout F up")
	stubborn.stop(t, 1)
	stubborn.wantEnd(t, 137, "Error")

	terminal := p.run(t, spec{script: "trap 'exit 12' TERM; echo up; while :; do sleep 0.1; done", tty: true})
	terminal.waitLog(t, "stdout F up\r")
	terminal.stop(t, untilKill)
	terminal.wantEnd(t, 12, "Error")
}

// testFastExits runs 200 containers that end at once. CRI-O makes 255 of an exit
// file that does not come in time.
func testFastExits(t *testing.T, e *engine) {
	const each = 50
	var all sync.WaitGroup
	for i, handler := range []string{"crun", "crun", "crun", "runc"} { // runc takes twice as long
		p := e.newPodWith(t, handler, cri.NamespaceMode_CONTAINER)
		all.Go(func() {
			for n := range each {
				if err := p.fastExit(t.Context(), int32(i*each+n)); err != nil {
					t.Errorf("container %d of pod %d: %v", n, i, err)
					return
				}
			}
		})
	}
	all.Wait()
}

// fastExit runs a container that says a word and ends, and removes it.
func (p *pod) fastExit(ctx context.Context, code int32) error {
	ctx, stop := context.WithTimeout(ctx, harness.Patience)
	defer stop()
	c, err := p.create(ctx, spec{script: fmt.Sprintf("echo out; exit %d", code)})
	if err != nil {
		return err
	}
	if err := c.start(ctx); err != nil {
		return err
	}
	s, err := c.ended(ctx)
	if err != nil {
		return err
	}
	if s.ExitCode != code {
		return fmt.Errorf("exit code %d, want %d", s.ExitCode, code)
	}
	if log, err := os.ReadFile(c.log); !strings.HasSuffix(string(log), " stdout F out\n") {
		return fmt.Errorf("log is %q, %v", log, err)
	}
	return c.remove(ctx)
}
