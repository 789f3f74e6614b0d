package tests

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"conmon/internal/status/client"
	"conmon/tests/harness"
)

// Clients that come before the start, all through the output and around the end:
// whoever gets in gets everything from then on, and the end of file.
func TestAttachAtAnyTime(t *testing.T) {
	harness.NeedOurs(t)
	const lines, length = 3000, 80
	for range harness.Count(8, 200) {
		b := harness.NewBundle(t, harness.FakeRuntime(), payload(t, harness.FakeRuntime(), "count", lines, length, 20_000))
		m := create(t, b, harness.Launch{})
		first := newTap(t, m)
		b.Start(t)
		var group sync.WaitGroup
		var mu sync.Mutex
		var got [][]byte
		for {
			c, err := m.Dial()
			if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
				break // it is over
			}
			if err != nil {
				t.Fatal(err)
			}
			group.Go(func() {
				defer c.Close()
				data := receiveRest(t, c)
				mu.Lock()
				defer mu.Unlock()
				got = append(got, data)
			})
			time.Sleep(time.Millisecond)
		}
		m.Finish(t)
		group.Wait()
		first.wait(t)
		var whole bytes.Buffer
		if err := harness.Reassemble(&whole, io.Discard, m.LogPath); err != nil {
			t.Fatal(err)
		}
		if whole.Len() != lines*length || first.got.Load() != lines*length {
			t.Errorf("log %d bytes, first client %v", whole.Len(), first.stdout)
		}
		for _, data := range got {
			if !bytes.HasSuffix(whole.Bytes(), data) {
				t.Errorf("a client got %d bytes, which are not the end of the output", len(data))
			}
		}
	}
}

// receiveRest returns all that a client gets until the end of file.
func receiveRest(t *testing.T, c *harness.Client) (data []byte) {
	t.Helper()
	for {
		p, err := c.Receive()
		if errors.Is(err, io.EOF) {
			return data
		}
		if err != nil {
			t.Errorf("receiving: %v", err)
			return data
		}
		data = append(data, p.Data...)
	}
}

// A container that closes its standard input takes nothing from anybody: what is
// sent is thrown away.
func TestStdinClosed(t *testing.T) {
	harness.NeedOurs(t)
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("exec 0<&-; "+ticking))
	m := b.Run(t, harness.Launch{Args: []string{"-i"}})
	m.WaitLog(t, "tick")
	sender, other := m.Attach(t), m.Attach(t)
	for range 256 {
		sender.Send(t, make([]byte, 32<<10))
	}
	watchTicks(t, other)
	checkMemory(t, m)
	sender.Close()
	waitStatus(t, m, "the sender is gone", func(s *client.Report) bool { return s.Attach.Clients == 1 })
	b.Kill(t, "KILL")
	if status := m.Finish(t); status != 137 {
		t.Errorf("exit status %d", status)
	}
}

// One that never reads makes the sender wait, and only that.
func TestStdinUnread(t *testing.T) {
	harness.NeedOurs(t)
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell(ticking))
	m := b.Run(t, harness.Launch{Args: []string{"-i"}})
	m.WaitLog(t, "tick")
	sender, other := m.Attach(t), m.Attach(t)
	sent := make(chan int, 1)
	go func() {
		n := 0
		for ; n < 8<<20 && sender.TrySend(make([]byte, 32<<10)) == nil; n += 32 << 10 {
		}
		sent <- n
	}()
	waitStatus(t, m, "the container's pipe and the monitor's queue are full", func(s *client.Report) bool { return s.Attach.Input >= 96<<10 })
	watchTicks(t, other)
	if input := status(t, m).Attach.Input; input > 256<<10 {
		t.Errorf("the monitor took %d bytes that nobody reads", input)
	}
	checkMemory(t, m)
	sender.Close()
	if n := <-sent; n > 2<<20 {
		t.Errorf("the sender got rid of %d bytes", n)
	}
	watchTicks(t, other)
	b.Kill(t, "KILL")
	if status := m.Finish(t); status != 137 {
		t.Errorf("exit status %d", status)
	}
}

// ticking is a script that says something all the time, and reads nothing.
const ticking = "while :; do echo tick; sleep 0.01; done"

// watchTicks sees to it that output comes.
func watchTicks(t *testing.T, c *harness.Client) {
	t.Helper()
	for range 20 {
		if p, err := c.Receive(); err != nil || strings.ReplaceAll(string(p.Data), "tick\n", "") != "" {
			t.Fatalf("the client got %q, %v", p.Data, err)
		}
	}
}
