package tests

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"conmon/internal/status/client"
	"conmon/tests/harness"
	"conmon/tests/sample"
)

// A gibibyte of any bytes goes in through standard input and comes out at the
// client again, whoever is the slowest, and the monitor holds none of it.
func TestAttachGibibyte(t *testing.T) {
	harness.NeedOurs(t)
	const size, seed = 1 << 30, 31
	r := volumeRuntime()
	b := harness.NewBundle(t, r, harness.Spec{Args: []string{"cat"}})
	m := create(t, b, harness.Launch{Args: []string{"-i"}, Log: []string{"none"}})
	p := newTap(t, m)
	b.Start(t)
	lines, h, buf := sample.New(seed), sha256.New(), make([]byte, 32<<10) // the largest packet that a monitor takes
	for sent := 0; sent < size; sent += len(buf) {
		_, _ = lines.Read(buf)
		p.client.Send(t, buf)
		h.Write(buf)
		if sent == size/2 {
			checkMemory(t, m)
		}
	}
	p.client.CloseInput(t)
	p.wait(t)
	if status := m.Finish(t); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if want := (checksum{size, fmt.Sprintf("%x", h.Sum(nil))}); p.stdout != want {
		t.Errorf("in: %v, out: %v", want, p.stdout)
	}
}

// pipeSize returns how much the pipe holds that is a process's descriptor fd.
func pipeSize(t *testing.T, pid, fd int) int {
	t.Helper()
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/%d", pid, fd), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, err := unix.FcntlInt(f.Fd(), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// While somebody looks, the container's pipes hold more, so that writer, monitor
// and client take turns less often; afterwards what they held before, also if the
// monitor was upgraded meanwhile.
func TestAttachWidensPipes(t *testing.T) {
	harness.NeedOurs(t)
	b := harness.NewBundle(t, volumeRuntime(), harness.Spec{Args: []string{"cat"}})
	m := harness.Launch{Args: []string{"-i", "--leave-stdin-open"}, Bundle: b}.Run(t)
	container := m.Created(t)
	before := pipeSize(t, container, 1)
	b.Start(t)
	for _, upgrade := range []bool{false, true} {
		c := m.Attach(t)
		for fd := 1; fd <= 2; fd++ {
			harness.Eventually(t, "a bigger pipe", func() bool { return pipeSize(t, container, fd) > before })
		}
		if upgrade {
			if _, err := client.Upgrade(m.Dir, ""); err != nil {
				t.Fatal(err)
			}
		}
		c.Close()
		for fd := 1; fd <= 2; fd++ {
			harness.Eventually(t, "a pipe as before", func() bool { return pipeSize(t, container, fd) == before })
		}
	}
	b.Kill(t, "KILL")
	m.Finish(t)
}

// An exec session's client comes before there is a pipe.
func TestExecAttachWidensPipes(t *testing.T) {
	harness.NeedOurs(t)
	b := running(t, harness.FakeRuntime())
	spec := harness.Spec{Args: []string{"cat"}}
	m := harness.Launch{Bundle: b, Exec: &spec, ExecAttach: true, Args: []string{"-i"}, Log: []string{"none"}}.Run(t)
	m.AttachReady(t)
	c := m.Attach(t)
	m.SecondStart(t)
	m.Message(t)
	pid := harness.ReadNumber(t, m.PidFile)
	harness.Eventually(t, "a bigger pipe", func() bool { return pipeSize(t, pid, 1) > 64<<10 })
	c.CloseInput(t)
	c.ReceiveAll(t)
	m.Wait(t)
}

// What is in a pipe at the container's end must get into the log soon: where that
// takes its time, the pipes stay as they are.
func TestAttachWidensNoPipeOfASlowLog(t *testing.T) {
	harness.NeedOurs(t)
	b := harness.NewBundle(t, volumeRuntime(), harness.Spec{Args: []string{"cat"}})
	m := harness.Launch{Args: []string{"-i", "--log-rate-limit=10k"}, Bundle: b}.Run(t)
	container := m.Created(t)
	before := pipeSize(t, container, 1)
	b.Start(t)
	c := m.Attach(t)
	c.Send(t, []byte("echo\n"))
	if p, err := c.Receive(); err != nil || string(p.Data) != "echo\n" {
		t.Fatalf("%q, %v", p.Data, err)
	}
	if now := pipeSize(t, container, 1); now != before {
		t.Errorf("the pipe holds %d bytes, before it was %d", now, before)
	}
	c.CloseInput(t)
	m.Finish(t)
}

// A client that never reads. Within its backlog neither the log nor the other
// client waits for it; past it the container waits and nothing is lost, or the
// client is cut off. What it was not cut off from it gets when it reads at last.
func TestAttachLaggard(t *testing.T) {
	harness.NeedOurs(t)
	const seed, backlog = 32, 64 << 20
	for _, c := range []struct {
		policy string
		size   int64
		step   int64 // how far the reader may be behind, lest it be cut off too
	}{{"block", 50e6, 50e6}, {"disconnect", 50e6, 50e6}, {"block", 200e6, 200e6}, {"disconnect", 200e6, 40e6}} {
		t.Run(fmt.Sprintf("%s %d MB", c.policy, c.size/1e6), func(t *testing.T) {
			r := volumeRuntime()
			b := harness.NewBundle(t, r, payload(t, r, "steps", seed, c.step))
			m := create(t, b, harness.Launch{Args: []string{"-i", "--attach-on-full", c.policy}})
			reader, laggard := newTap(t, m), m.Attach(t)
			var late *tap
			b.Start(t)
			for sent := c.step; sent <= c.size; sent += c.step {
				reader.client.Send(t, []byte{1})
				if sent > backlog && c.policy == "block" {
					waitStatus(t, m, "the container waits", func(s *client.Report) bool {
						return s.Attach.PastLimit == 1 && s.Streams.Stdout.Paused
					})
					if read := status(t, m).Streams.Stdout.Read.Bytes; read < backlog-1<<20 || read > backlog+8<<20 {
						t.Errorf("%d bytes were read: not the backlog", read)
					}
					late = tapOf(laggard)
				}
				waitStatus(t, m, "the log has everything", func(s *client.Report) bool {
					l := s.Logs[0].Stdout
					return l.Written.Bytes+l.Pending.Bytes == uint64(sent)
				})
				harness.Eventually(t, "the reader has everything", func() bool { return reader.got.Load() == sent })
			}
			want := sampleSum(seed, c.size)
			if cut := c.size > backlog && c.policy == "disconnect"; status(t, m).Attach.Disconnected > 0 != cut {
				t.Errorf("%+v", status(t, m).Attach)
			} else if late == nil && !cut {
				late = tapOf(laggard)
			}
			if late != nil {
				harness.Eventually(t, "the laggard has everything", func() bool { return late.got.Load() == c.size })
			}
			reader.client.CloseInput(t)
			reader.wait(t)
			compare(t, "reader", reader.stdout, want)
			if late != nil {
				late.wait(t)
				compare(t, "laggard", late.stdout, want)
			}
			m.Finish(t)
			if exit := exitJSON(t, m); exit.BytesLost != 0 || exit.BytesLogged != c.size {
				t.Errorf("%+v", exit)
			}
			logged, _ := logSum(t, m.LogPath)
			compare(t, "log", logged, want)
		})
	}
}

// Clients that are killed while they send, while they wait for somebody to take
// what they received, and while they do both: the container, its log and the
// other client notice nothing.
func TestAttachKilled(t *testing.T) {
	harness.NeedOurs(t)
	const seed = 33
	r := volumeRuntime()
	b := harness.NewBundle(t, r, payload(t, r, "talk", seed, 20))
	m := create(t, b, harness.Launch{Args: []string{"-i"}})
	p := newTap(t, m)
	b.Start(t)
	for i := range harness.Count(15, 150) {
		before := status(t, m)
		victim := attachProcess(t, m, i%3 != 1, i%3 == 0)
		waitStatus(t, m, "the client is at work", func(s *client.Report) bool {
			sends, lags := s.Attach.Input > before.Attach.Input, s.Attach.MaxLag > 0
			return s.Attach.Clients == 2 && (sends || i%3 == 1) && (lags || i%3 == 0)
		})
		if err := victim.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = victim.Wait()
		waitStatus(t, m, "the dead client is forgotten", func(s *client.Report) bool { return s.Attach.Clients == 1 })
	}
	input := int64(status(t, m).Attach.Input)
	p.client.CloseInput(t)
	p.wait(t)
	if status := m.Finish(t); status != 0 {
		t.Errorf("exit status %d", status)
	}
	logged, errs := logSum(t, m.LogPath)
	want := told(t, errs, "stdout")
	compare(t, "client", p.stdout, want)
	compare(t, "log", logged, want)
	if got := told(t, errs, "stdin"); got.n != input {
		t.Errorf("the monitor took %d bytes of input, the container got %v", input, got)
	}
}

// attachProcess starts "conmon attach" for a container. It sends zeros without
// end if it is to type; if it is not to read, it cannot get rid of what it
// receives.
func attachProcess(t *testing.T, m *harness.Monitor, typing, reading bool) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(harness.MonitorPath(), "attach", "-b", m.Dir, "--no-stdin="+strconv.FormatBool(!typing))
	zeros, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer zeros.Close()
	cmd.Stdin = zeros
	if !reading {
		stuck, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { stuck.Close() })
		defer w.Close()
		cmd.Stdout = w
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}
