package podman

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"conmon/tests/harness"
)

// bytesThrough is how much goes through the big pipes.
func bytesThrough() int64 { return int64(harness.Count(64<<20, 1<<30)) }

// noise returns a reader of n reproducible bytes, zero bytes among them, and the
// hash of what has been read from it.
func noise(n int64) (io.Reader, hash.Hash) {
	sum := sha256.New()
	return io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{'n'}), n), sum), sum
}

func sumOf(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// testStdin sends a big input into a container and compares what it got and what
// comes back.
func testStdin(t *testing.T) {
	p := root()
	n := bytesThrough()
	there := func(args ...string) {
		t.Helper()
		input, sum := noise(n)
		cmd := p.command(args...)
		cmd.Stdin = input
		r := finish(t, cmd)
		if want := sumOf(sum) + "  -\n"; r.code != 0 || r.stdout != want {
			t.Errorf("podman %s: %+v, want %q", args, r, want)
		}
	}
	thereAndBack := func(args ...string) {
		t.Helper()
		input, sum := noise(n)
		cmd, back := p.command(args...), sha256.New()
		cmd.Stdin, cmd.Stdout = input, back
		if r := finish(t, cmd); r.code != 0 || sumOf(back) != sumOf(sum) {
			t.Errorf("podman %s: status %d, %s; what came back differs: %v", args, r.code, r.stderr, sumOf(back) != sumOf(sum))
		}
	}
	there("run", "--rm", "-i", "--name", p.name(t), image, "sha256sum")
	thereAndBack("run", "--rm", "-i", "--log-driver", "none", "--name", p.name(t), image, "cat")
	thereAndBack("run", "--rm", "-i", "--log-driver", "k8s-file", "--log-opt", "max-size=10m", "--name", p.name(t), image, "cat")
	name := p.name(t)
	p.ok(t, "run", "-d", "--name", name, image, "sleep", "1000")
	there("exec", "-i", name, "sha256sum")
	thereAndBack("exec", "-i", name, "cat")
	// Input of nothing at all, and a container that does not read its own.
	for command, want := range map[string]string{"wc -c": "0\n", "true": ""} {
		cmd := p.command("run", "--rm", "-i", "--name", p.name(t), image, "sh", "-c", command)
		cmd.Stdin = bytes.NewReader(nil)
		if r := finish(t, cmd); r.stdout != want {
			t.Errorf("%s: %+v", command, r)
		}
	}
}

// testSlowReader reads the output of podman run as a pager does: a bit now and
// then. Nothing of it may be lost.
func testSlowReader(t *testing.T) {
	p := root()
	lines := harness.Count(2_000_000, 20_000_000)
	for _, driver := range []string{"none", "k8s-file"} {
		out, theirs, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		cmd := p.command("run", "--rm", "--log-driver", driver, "--log-opt", "max-size=1m", "--name", p.name(t), image,
			"seq", strconv.Itoa(lines))
		cmd.Stdout = theirs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		theirs.Close()
		got := sha256.New()
		for range 5 {
			// The container is to run into a full pipe meanwhile.
			pause(300 * time.Millisecond)
			if _, err := io.CopyN(got, out, 1000); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := io.Copy(got, out); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		want := sha256.New()
		for i := range lines {
			fmt.Fprintln(want, i+1)
		}
		if sumOf(got) != sumOf(want) {
			t.Errorf("with %s, a slow reader does not get what the container printed", driver)
		}
	}
}

// pause lets time pass that is part of the scenario.
func pause(d time.Duration) { <-time.After(d) }
