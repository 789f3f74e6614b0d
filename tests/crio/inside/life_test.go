package inside

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

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

// testStop stops containers that obey TERM, and one that does not.
func testStop(t *testing.T, e *engine) {
	p := e.newPod(t)
	polite := p.shell(t, "trap 'echo bye; exit 11' TERM; echo up; while :; do sleep 0.1; done")
	polite.waitLog(t, "stdout F up")
	begin := time.Now()
	polite.stop(t, 30)
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("stopping took %v", took)
	}
	polite.wantEnd(t, 11, "Error")
	polite.waitLog(t, "stdout F bye")

	stubborn := p.shell(t, "trap '' TERM; echo up; while :; do sleep 0.1; done")
	stubborn.waitLog(t, "stdout F up")
	stubborn.stop(t, 1)
	stubborn.wantEnd(t, 137, "Error")

	both := p.run(t, spec{script: "trap 'exit 12' TERM; echo up; while :; do sleep 0.1; done", tty: true})
	both.waitLog(t, "stdout F up\r")
	both.stop(t, 30)
	both.wantEnd(t, 12, "Error")
}

// testFastExits runs containers that end at once. CRI-O makes 255 of an exit
// file that does not come in time.
func testFastExits(t *testing.T, e *engine) {
	const pods, each = 2, 10
	var all sync.WaitGroup
	for i := range pods {
		p := e.newPodWith(t, []string{"crun","runc"}[i], cri.NamespaceMode_CONTAINER)
		func() {
		t0:=time.Now(); defer func(){ t.Log(i, time.Since(t0), acc); clear(acc) }()
			for n := range each {
				code := (i*each + n) % 100
				if err := fastExit(t.Context(), p, int32(code)); err != nil {
					t.Errorf("container %d of pod %d: %v", n, i, err)
					return
				}
			}
		}()
	}
	all.Wait()
}

func fastExit(ctx context.Context, p *pod, code int32) error {
	ctx, stop := context.WithTimeout(ctx, harness.Patience)
	defer stop()
	t0:=time.Now(); m:=func(k string){ acc[k]+=time.Since(t0); t0=time.Now() }
	defer m("remove")
	c, err := p.create(ctx, spec{script: fmt.Sprintf("echo out; exit %d", code)})
	if err != nil {
		return err
	}
	m("create")
	if err := c.start(ctx); err != nil {
		return err
	}
	m("start")
	s, err := c.ended(ctx)
	m("ended")
	if err != nil {
		return err
	}
	if s.ExitCode != code {
		return fmt.Errorf("exit code %d, want %d", s.ExitCode, code)
	}
	return c.remove(ctx)
}

var acc = map[string]time.Duration{}
