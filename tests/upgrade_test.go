package tests

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"conmon/internal/status/client"
	"conmon/tests/harness"
	"conmon/tests/sample"
)

// upgrade upgrades the monitor to the binary that it was started from.
func upgrade(t *testing.T, m *harness.Monitor) {
	t.Helper()
	if _, err := client.Upgrade(m.Dir, ""); err != nil {
		t.Fatal(err)
	}
}

// identity is what an engine knows a monitor by.
func identity(pid int) string { return harness.StatField(pid, 22) }

// A writer at 100 MB/s, its standard input, two attach clients and a rotating
// log: nothing of it is lost, doubled or out of order in any number of upgrades.
func TestUpgradeUnderLoad(t *testing.T) {
	harness.NeedOurs(t)
	const seed = 8
	r := volumeRuntime()
	for _, args := range [][]string{nil, {"--log-rotate", "--log-max-files=100000", "--log-size-max=4194304"}} {
		b := harness.NewBundle(t, r, payload(t, r, "talk", seed, 100))
		m := create(t, b, harness.Launch{Args: append(args, "-i")})
		taps := []*tap{newTap(t, m), newTap(t, m)}
		b.Start(t)
		pid := m.Pid(t)
		born := identity(pid)

		count := harness.Count(60, 500)
		start := time.Now()
		upgraded := make(chan error, 1)
		go func() { upgraded <- upgradeMany(m, pid, count) }()
		typed := typeUntil(t, taps[0].client, upgraded)
		taps[0].client.CloseInput(t)
		for _, p := range taps {
			p.wait(t)
		}
		if status := m.Finish(t); status != 0 {
			t.Errorf("exit status %d", status)
		}
		if identity(pid) != born && identity(pid) != "" {
			t.Error("the monitor's start time has changed")
		}
		logged, errs := logSum(t, backups(m.LogPath)...)
		want := told(t, errs, "stdout")
		for name, got := range map[string]checksum{"log": logged, "first client": taps[0].stdout, "second client": taps[1].stdout} {
			if got != want {
				t.Errorf("%s: %v, want %v", name, got, want)
			}
		}
		if got := told(t, errs, "stdin"); got != typed {
			t.Errorf("standard input: %v, want %v", got, typed)
		}
		took := time.Since(start).Seconds()
		t.Logf("%d upgrades in %.1f s, output %v, %.0f MB/s, input %v, %.0f MB/s", count, took,
			want, float64(want.n)/1e6/took, typed, float64(typed.n)/1e6/took)
	}
}

// upgradeMany upgrades a monitor in each of the three ways in turn.
func upgradeMany(m *harness.Monitor, pid, count int) error {
	for i := range count {
		var err error
		switch i % 3 {
		case 0:
			_, err = client.Upgrade(m.Dir, "")
		case 1:
			err = os.WriteFile(m.Dir+"/ctl", []byte("3 0 0\n"), 0)
		case 2:
			err = unix.Kill(pid, unix.SIGUSR2)
		}
		for end := time.Now().Add(harness.Patience); err == nil; time.Sleep(time.Millisecond) {
			var text []byte
			var s *client.Report
			if text, err = client.Status(m.Dir); err != nil {
				break
			}
			if s, err = client.Parse(text); err != nil || s.Monitor.Upgrades == uint64(i+1) {
				break
			}
			if time.Now().After(end) {
				err = fmt.Errorf("upgrade %d did not happen: %s", i+1, s.Monitor.UpgradeError)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// typeUntil sends the sample until something arrives at stop.
func typeUntil(t *testing.T, c *harness.Client, stop <-chan error) checksum {
	t.Helper()
	lines, h, buf, n := sample.New(99), sha256.New(), make([]byte, 20_000), int64(0)
	for {
		select {
		case err := <-stop:
			if err != nil {
				t.Fatal(err)
			}
			return checksum{n, fmt.Sprintf("%x", h.Sum(nil))}
		case <-time.After(time.Millisecond): // a typist's pace: up to 20 MB/s
		}
		_, _ = lines.Read(buf)
		c.Send(t, buf)
		h.Write(buf)
		n += int64(len(buf))
	}
}

// Whatever moment of an upgrade the container's end hits, its status and its
// last words are recorded.
func TestUpgradeAtTheEnd(t *testing.T) {
	harness.NeedOurs(t)
	for i := range harness.Count(30, 300) {
		delay := time.Duration(rand.IntN(60)) * time.Millisecond
		b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell(fmt.Sprintf("sleep %.3f; echo last words; exit %d", delay.Seconds(), i%200+1)))
		m := b.Run(t, harness.Launch{})
		var err error
		for err == nil {
			_, err = client.Upgrade(m.Dir, "")
		}
		if status := m.Finish(t); status != i%200+1 {
			t.Errorf("exit status %d, want %d", status, i%200+1)
		}
		if got := m.Log(t); !slices.Equal(got, []string{"stdout F last words"}) {
			t.Errorf("log %q", got)
		}
	}
}

// A signal is acted on once, before, in or after an upgrade, and kills nobody.
func TestUpgradeAndSignals(t *testing.T) {
	harness.NeedOurs(t)
	b := harness.NewBundle(t, harness.FakeRuntime(), payload(t, harness.FakeRuntime(), "signals"))
	m := create(t, b, harness.Launch{})
	c := m.Attach(t)
	b.Start(t)
	expect := func(want string) {
		t.Helper()
		if p, err := c.Receive(); err != nil || string(p.Data) != want+"\n" {
			t.Fatalf("the container says %q (%v), want %q", p.Data, err, want)
		}
	}
	expect("ready")
	signals := []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGQUIT}
	for i := range harness.Count(150, 1500) {
		m.Signal(t, unix.SIGUSR2)
		time.Sleep(time.Duration(rand.IntN(15_000)) * time.Microsecond) // anywhere in the upgrade
		if i%4 == 3 {
			moved := fmt.Sprintf("%s.%d", m.LogPath, i)
			if err := os.Rename(m.LogPath, moved); err != nil {
				t.Fatal(err)
			}
			m.Signal(t, []unix.Signal{unix.SIGUSR1, unix.SIGHUP}[i/4%2])
			harness.WaitFile(t, m.LogPath)
			continue
		}
		sig := signals[i%len(signals)]
		m.Signal(t, sig)
		expect(unix.SignalName(sig))
	}
	if s := status(t, m); s.Monitor.Upgrades < 100 {
		t.Errorf("only %d upgrades", s.Monitor.Upgrades)
	}
	b.Kill(t, "HUP")
	if status := m.Finish(t); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// Sessions of both engines are upgraded, with their input, time limit and end.
func TestUpgradeExecSession(t *testing.T) {
	harness.NeedOurs(t)
	r := volumeRuntime()
	b := running(t, r)
	t.Run("Podman", func(t *testing.T) {
		spec := harness.Shell("echo begin; read a; echo got $a; exit 6")
		m := harness.Launch{Bundle: b, Exec: &spec, Args: []string{"-i"}}.Run(t)
		m.Created(t)
		m.Launched(t)
		m.WaitLog(t, "begin")
		for range 5 {
			upgrade(t, m)
		}
		c := m.Attach(t)
		c.Send(t, []byte("some"))
		upgrade(t, m)
		c.Send(t, []byte("thing\n"))
		if msg := m.Message(t); msg.Value != 6 {
			t.Errorf("message %q", msg.Raw)
		}
		if got := m.Log(t); !slices.Equal(got, []string{"stdout F begin", "stdout F got something"}) {
			t.Errorf("log %q", got)
		}
	})
	// There is nobody to ask: the session has no bundle.
	t.Run("CRI-O", func(t *testing.T) {
		spec := harness.Shell("for i in 0 1 2 3 4 5 6 7 8 9; do echo $i; sleep 0.05; done; exit 7")
		m := harness.Launch{Bundle: b, Engine: harness.CRIO, Exec: &spec, Args: []string{"--sync"}}.Run(t)
		m.WaitLog(t, "F 0")
		for range 8 {
			m.Signal(t, unix.SIGUSR2)
			time.Sleep(40 * time.Millisecond)
		}
		if msg := m.Message(t); msg.Raw != "{\"exit_code\": 7}\n" {
			t.Errorf("message %q", msg.Raw)
		}
		if status := m.Wait(t); status != 7 {
			t.Errorf("the monitor's own status is %d", status)
		}
		if got := m.Log(t); len(got) != 10 {
			t.Errorf("log %q", got)
		}
	})
	t.Run("timeout", func(t *testing.T) {
		spec := harness.Shell("echo begin; exec sleep 100")
		start := time.Now()
		m := harness.Launch{Bundle: b, Exec: &spec, Args: []string{"-T", "2"}}.Run(t)
		m.Created(t)
		m.Launched(t)
		m.WaitLog(t, "begin")
		for time.Since(start) < 1500*time.Millisecond {
			upgrade(t, m)
		}
		msg := m.Message(t)
		if took := time.Since(start); msg.Value != -1 || msg.Text != "command timed out" || took > 4*time.Second {
			t.Errorf("message %q after %v", msg.Raw, took)
		}
	})
}

// A terminal keeps its size, its input and its reader.
func TestUpgradeTerminal(t *testing.T) {
	harness.NeedOurs(t)
	harness.EachRuntime(t, func(t *testing.T, r harness.Runtime) {
		spec := harness.Shell("stty -echo; echo ready; while read line; do echo \"<$line $(stty size)>\"; done; exit 3")
		spec.Terminal = true
		b := harness.NewBundle(t, r, spec)
		m := create(t, b, harness.Launch{Args: []string{"-i"}})
		c := m.Attach(t)
		b.Start(t)
		seen := ""
		expect := func(want string) {
			t.Helper()
			for !strings.Contains(seen, want) {
				p, err := c.Receive()
				if err != nil {
					t.Fatalf("the terminal says %q, and then %v; want %q", seen, err, want)
				}
				seen += string(p.Data)
			}
			_, seen, _ = strings.Cut(seen, want)
		}
		expect("ready\r\n")
		for i := range 5 {
			ctl(t, m, fmt.Sprintf("1 %d 77\n", 20+i))
			upgrade(t, m)
			c.Send(t, []byte("one"))
			upgrade(t, m)
			c.Send(t, []byte(" two\n"))
			expect(fmt.Sprintf("<one two %d 77>\r\n", 20+i))
		}
		c.Send(t, []byte{4}) // end of file, as typed
		if _, err := c.Receive(); err != io.EOF {
			t.Errorf("the client got no end of file: %v", err)
		}
		if status := m.Finish(t); status != 3 {
			t.Errorf("exit status %d", status)
		}
	})
}
