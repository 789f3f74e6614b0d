package tests

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	"conmon/tests/harness"
)

// one is a short container with this exit status; everything about its end is
// looked at.
func one(t *testing.T, r harness.Runtime, l harness.Launch, status int) {
	t.Helper()
	b := harness.NewBundle(t, r, harness.Shell(fmt.Sprintf("echo bye; exit %d", status)))
	m := b.Run(t, l)
	if got := m.Finish(t); got != status {
		t.Errorf("exit status %d, want %d", got, status)
	}
	if got := m.Log(t); len(got) != 1 || got[0] != "stdout F bye" {
		t.Errorf("log %q", got)
	}
}

// Short containers, one after the other. Each status, both exit files and the
// log are right, and nothing is left.
func TestManyInARow(t *testing.T) {
	for i := range harness.Count(250, 1000) {
		// A subtest, so that its bundle goes before the next one comes.
		ok := t.Run("", func(t *testing.T) {
			one(t, harness.FakeRuntime(), harness.Launch{Engine: harness.Engine(i % 2)}, i%256)
		})
		if !ok {
			t.Fatalf("container %d", i)
		}
	}
}

func TestRealOnesInARow(t *testing.T) {
	harness.EachRealRuntime(t, func(t *testing.T, r harness.Runtime) {
		for i := range harness.Count(10, 500) {
			if !t.Run("", func(t *testing.T) { one(t, r, harness.Launch{}, i%256) }) {
				t.Fatalf("container %d", i)
			}
		}
	})
}

// The container has ended before anybody could look: never a wrong status.
func TestEndsAtOnce(t *testing.T) {
	for i := range harness.Count(100, 1000) {
		ok := t.Run("", func(t *testing.T) {
			b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell(fmt.Sprintf("exit %d", i%256)))
			m := harness.Launch{Bundle: b, Env: []string{"FAKE_AUTOSTART=1"}}.Run(t)
			m.Created(t)
			m.Launched(t)
			if got := m.Finish(t); got != i%256 {
				t.Errorf("exit status %d, want %d", got, i%256)
			}
		})
		if !ok {
			t.Fatalf("container %d", i)
		}
	}
}

func TestFiftyAtOnce(t *testing.T) {
	harness.EachRuntime(t, func(t *testing.T, r harness.Runtime) {
		var group sync.WaitGroup
		monitors := make([]*harness.Monitor, 50)
		for i := range monitors {
			b := harness.NewBundle(t, r, harness.Shell(fmt.Sprintf("echo %d; exit %d", i, i+100)))
			monitors[i] = harness.Launch{Bundle: b}.Run(t)
		}
		for _, m := range monitors {
			m.Created(t)
			m.Launched(t)
		}
		for _, m := range monitors { // all at once
			group.Go(func() {
				if out, err := m.Bundle.RuntimeCommand("start", m.Bundle.ID); err != nil {
					t.Errorf("starting: %v\n%s", err, out)
				}
			})
		}
		group.Wait()
		for i, m := range monitors {
			if got := m.Finish(t); got != i+100 {
				t.Errorf("container %d: exit status %d", i, got)
			}
			if got, want := m.Log(t), fmt.Sprintf("stdout F %d", i); len(got) != 1 || got[0] != want {
				t.Errorf("container %d: log %q", i, got)
			}
		}
	})
}

// randomLines writes lines of all lengths and all bytes to a file, the last one
// without its newline.
func randomLines(t *testing.T, path string, size int) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seed := [32]byte{1, 2, 3}
	source := rand.NewChaCha8(seed)
	random := rand.New(source)
	line := make([]byte, 100_000)
	for written := 0; written < size; {
		// Mostly short, now and then one that has to be cut into pieces.
		n := random.IntN(200)
		switch random.IntN(100) {
		case 0:
			n = random.IntN(len(line))
		case 1, 2, 3, 4, 5:
			n = random.IntN(20_000)
		}
		_, _ = source.Read(line[:n])
		for i, c := range line[:n] {
			if c == '\n' {
				line[i] = 0
			}
		}
		if written+n < size {
			line = append(line[:n], '\n')
			n++
		}
		if _, err := f.Write(line[:n]); err != nil {
			t.Fatal(err)
		}
		line = line[:100_000]
		written += n
	}
}

// Random binary lines come back from the log byte by byte, on both streams.
func TestByteExact(t *testing.T) {
	size := harness.Count(200<<20, 1<<30)
	source := t.TempDir() + "/lines"
	randomLines(t, source, size)
	want := digest(t, source)
	harness.EachRuntime(t, func(t *testing.T, r harness.Runtime) {
		if r.Name == "crun" && !harness.Long() {
			t.Skip("runc has shown it; crun in test-long")
		}
		spec := harness.Shell("cat " + source + " >&2 & cat " + source + "; wait")
		spec.Mounts = []harness.Mount{{Source: source, Target: source, ReadOnly: true}}
		b := harness.NewBundle(t, r, spec)
		m := b.Run(t, harness.Launch{})
		if status := m.Finish(t); status != 0 {
			t.Errorf("exit status %d", status)
		}
		stdout, stderr := sha256.New(), sha256.New()
		if err := harness.Reassemble(stdout, stderr, m.LogPath); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(stdout.Sum(nil), want) || !bytes.Equal(stderr.Sum(nil), want) {
			t.Error("the log does not hold what the container wrote")
		}
	})
}

func digest(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return h.Sum(nil)
}

// Lines up to the limit are one record, however they arrive.
func TestOneRecordALine(t *testing.T) {
	harness.NeedOurs(t)
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("yes "+strings.Repeat("0123456789", 10)+" | head -n 200000"))
	m := b.Run(t, harness.Launch{})
	m.Finish(t)
	records := harness.ReadLog(t, m.LogPath)
	if len(records) != 200_000 {
		t.Errorf("%d records", len(records))
	}
	for _, r := range records {
		if r.Partial {
			t.Fatalf("a piece: %v", r)
		}
	}
}

// What was in the pipe when pid 1 died is in the log before the exit file
// appears, and a background process that holds the pipe open delays nothing.
func TestNothingLostAtTheEnd(t *testing.T) {
	harness.EachRuntime(t, func(t *testing.T, r harness.Runtime) {
		for range harness.Count(20, 200) {
			b := harness.NewBundle(t, r, harness.Shell("sleep 100 & yes 0123456789 | head -c 60500; kill $! 2>/dev/null; (sleep 3; echo late) & exit 5"))
			m := b.Run(t, harness.Launch{})
			status := m.ExitFile(t)
			records := harness.ReadLog(t, m.LogPath)
			if status != 5 || len(records) != 5500 {
				t.Fatalf("exit status %d, %d records", status, len(records))
			}
			m.Gone(t)
			for _, pid := range b.Processes() { // the background process of the fake runtime's
				kill(pid)
			}
			if t.Failed() {
				return
			}
		}
	})
}
