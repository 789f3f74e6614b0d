package tests

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"conmon/tests/harness"
)

// running returns the bundle of a container that runs until it is killed.
func running(t *testing.T, r harness.Runtime) *harness.Bundle {
	t.Helper()
	b := harness.NewBundle(t, r, harness.Shell("echo up; trap 'exit 0' TERM; while :; do sleep 0.1; done"))
	m := b.Run(t, harness.Launch{})
	m.WaitLog(t, "up")
	t.Cleanup(func() {
		b.Kill(t, "TERM")
		m.Finish(t)
	})
	return b
}

// Legacy exec, as CRI-O's exec sync: nothing is said until the end.
func TestExecLegacy(t *testing.T) {
	harness.EachRuntime(t, func(t *testing.T, r harness.Runtime) {
		b := running(t, r)
		for _, args := range [][]string{nil, {"--sync"}} {
			spec := harness.Shell("echo out; echo err >&2; exit 42")
			m := harness.Launch{Bundle: b, Engine: harness.CRIO, Exec: &spec, Args: args}.Run(t)
			if msg := m.Message(t); msg.Raw != "{\"exit_code\": 42}\n" {
				t.Errorf("%v: message %q", args, msg.Raw)
			}
			// Complete in the file when the message comes: CRI-O reads it then.
			got := m.Log(t)
			slices.Sort(got)
			if want := []string{"stderr F err", "stdout F out"}; !slices.Equal(got, want) {
				t.Errorf("%v: log %q", args, got)
			}
			want := 0
			if args != nil {
				want = 42
			}
			if status := m.Wait(t); status != want {
				t.Errorf("%v: the launched process exited with %d", args, status)
			}
			if msg := m.Message(t); msg.Raw != "" {
				t.Errorf("%v: one message more: %q", args, msg.Raw)
			}
		}
	})
}

// Exec of API 1, as Podman's: the pid, and the status at the end.
func TestExecAPI1(t *testing.T) {
	harness.EachRuntime(t, func(t *testing.T, r harness.Runtime) {
		b := running(t, r)
		spec := harness.Shell("echo out; sleep 0.2; exit 6")
		m := harness.Launch{Bundle: b, Exec: &spec}.Run(t)
		if msg := m.Message(t); msg.Key != "data" || msg.Value <= 1 {
			t.Errorf("message %q", msg.Raw)
		}
		m.Launched(t)
		if msg := m.Message(t); msg.Raw != "{\"data\": 6}\n" {
			t.Errorf("message at the end %q", msg.Raw)
		}
		if status := m.Finish(t); status != 6 {
			t.Errorf("exit status %d", status)
		}
	})
}

// Exec with --exec-attach: the session begins when the client is connected, so
// that it gets all of the output and its input arrives.
func TestExecAttach(t *testing.T) {
	harness.EachRuntime(t, func(t *testing.T, r harness.Runtime) {
		b := running(t, r)
		spec := harness.Shell("read line; echo got $line; exit 8")
		m := harness.Launch{Bundle: b, Exec: &spec, ExecAttach: true, Args: []string{"-i"}, Log: []string{"none"}}.Run(t)
		if msg := m.AttachReady(t); msg.Raw != "{\"data\": 0}\n" {
			t.Errorf("attach pipe says %q", msg.Raw)
		}
		client := m.Attach(t)
		m.SecondStart(t)
		m.Created(t)
		client.Send(t, []byte("input\n"))
		if out, _ := client.ReceiveAll(t); string(out) != "got input\n" {
			t.Errorf("the client got %q", out)
		}
		if msg := m.Message(t); msg.Value != 8 {
			t.Errorf("message at the end %q", msg.Raw)
		}
		m.Launched(t)
		m.Finish(t)
	})
}

// Exec with a terminal, as "podman exec -it": size, input, control keys, status.
func TestExecTerminal(t *testing.T) {
	harness.NeedOurs(t)
	harness.EachRuntime(t, func(t *testing.T, r harness.Runtime) {
		b := running(t, r)
		spec := harness.Shell("stty -echo; trap 'echo interrupted' INT; test -t 0 -a -t 1 -a -t 2 || exit 1; echo ready; sleep 1000; while read line; do echo \"<$line $(stty size)>\"; done; exit 9")
		spec.Terminal = true
		m := harness.Launch{Bundle: b, Exec: &spec, ExecAttach: true, Args: []string{"-i"}}.Run(t)
		m.AttachReady(t)
		c := m.Attach(t)
		m.SecondStart(t)
		m.Created(t)
		m.Launched(t)
		m.WaitLog(t, "ready")
		c.Send(t, []byte{3}) // ctrl-c, which ends the sleep and not the shell
		m.WaitLog(t, "interrupted")
		for i := range 3 {
			ctl(t, m, fmt.Sprintf("1 %d 70\n", 40+i))
			c.Send(t, []byte("size\n"))
			m.WaitLog(t, fmt.Sprintf("<size %d 70>", 40+i))
		}
		c.Send(t, []byte{4})
		out, _ := c.ReceiveAll(t)
		if msg := m.Message(t); msg.Value != 9 {
			t.Errorf("message at the end %q", msg.Raw)
		}
		if status := m.Finish(t); status != 9 || !strings.Contains(string(out), "<size 42 70>\r\n") {
			t.Errorf("exit status %d; the client got %q", status, out)
		}
	})
}

func TestExecTimeout(t *testing.T) {
	harness.EachRuntime(t, func(t *testing.T, r harness.Runtime) {
		b := running(t, r)
		spec := harness.Shell("echo begun; sleep 100")
		begun := time.Now()
		m := harness.Launch{Bundle: b, Engine: harness.CRIO, Exec: &spec, Args: []string{"--sync", "-T", "1"}}.Run(t)
		if msg := m.Message(t); msg.Value != -1 || msg.Text != "command timed out" {
			t.Errorf("message %q", msg.Raw)
		}
		if took := time.Since(begun); took < time.Second && !harness.Peer() || took > 10*time.Second {
			t.Errorf("the time limit of 1 s took %v", took)
		}
		m.Wait(t)
		if !harness.Peer() {
			if got := m.Log(t); !slices.Equal(got, []string{"stdout F begun"}) {
				t.Errorf("log %q", got)
			}
		}
	})
}

// The program does not exist: the session has failed to start, and the message
// says what the runtime said.
func TestExecFailsToStart(t *testing.T) {
	harness.EachRealRuntime(t, func(t *testing.T, r harness.Runtime) {
		b := running(t, r)
		for _, c := range []struct {
			engine harness.Engine
			key    string
		}{{harness.CRIO, "exit_code"}, {harness.Podman, "data"}} {
			spec := harness.Spec{Args: []string{"/no/such/program"}}
			m := harness.Launch{Bundle: b, Engine: c.engine, Exec: &spec}.Run(t)
			msg := m.Message(t)
			if msg.Key != c.key || msg.Value != -1 || msg.Text == "" {
				t.Errorf("message %q", msg.Raw)
			}
			m.Wait(t)
			if _, err := os.Stat(m.ExitDir + "/" + b.ID); err == nil {
				t.Error("there is an exit file")
			}
		}
	})
}

// A stopping container: CRI-O interrupts the monitors of its exec sessions.
func TestExecInterrupted(t *testing.T) {
	harness.NeedOurs(t)
	harness.EachRuntime(t, func(t *testing.T, r harness.Runtime) {
		b := running(t, r)
		spec := harness.Shell("trap 'exit 17' INT; echo ready; while :; do sleep 0.1; done")
		m := harness.Launch{Bundle: b, Engine: harness.CRIO, Exec: &spec, Args: []string{"--sync"}}.Run(t)
		m.WaitLog(t, "ready")
		m.Signal(t, unix.SIGINT)
		if msg := m.Message(t); msg.Value != 17 {
			t.Errorf("message %q", msg.Raw)
		}
		m.Wait(t)
	})
}
