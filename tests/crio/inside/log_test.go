package inside

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"conmon/tests/harness"
)

// testLog checks the records, and what crictl makes of them.
func testLog(t *testing.T, e *engine) {
	p := e.newPod(t)
	c := p.shell(t, "echo one; echo two >&2; echo; sleep 0.5; printf abc; sleep 0.5; printf 'def\\nxyz'")
	c.wantEnd(t, 0, "Completed")
	got := c.records(t)
	want := []string{"stdout F one", "stderr F two", "stdout F ", "stdout P abc", "stdout F def", "stdout P xyz"}
	// The order of different streams is anybody's guess.
	if slices.Sort(got[:min(3, len(got))]); !slices.Equal(got[min(3, len(got)):], want[3:]) {
		t.Errorf("log is %q, want %q", got, want)
	}
	if got := e.crictl(t, "logs", c.id); got != "one\n\nabcdef\nxyz" {
		t.Errorf("crictl logs printed %q on standard output", got)
	}
	if got := e.crictl(t, "logs", "--tail", "1", c.id); got != "xyz" {
		t.Errorf("crictl logs --tail 1 printed %q", got)
	}
	follow := p.shell(t, "for i in 1 2 3 4 5; do echo line $i; sleep 0.3; done; exit 2")
	if got := e.crictl(t, "logs", "-f", follow.id); got != "line 1\nline 2\nline 3\nline 4\nline 5" {
		t.Errorf("crictl logs -f printed %q", got)
	}
	follow.wantEnd(t, 2, "Error")
}

// testRotate rotates the log as the kubelet does, under a container that writes
// as fast as it can: compress what was rotated before, rename the log, have it
// reopened. Every line has to be in exactly one of the files.
func testRotate(t *testing.T, e *engine) {
	needOurs(t) // the peer divides a line among two files
	const size, rotations, batch = 4 << 20, 8, 100_000
	// It goes on until it is told to stop, and then says how much it was.
	c := e.newPod(t).shell(t, fmt.Sprintf("n=0; until [ -e /tmp/stop ]; do seq $((n+1)) $((n+%d)); n=$((n+%[1]d)); done; echo all $n", batch))
	var rotated []string                          // compressed, but for the last one
	tick := time.NewTicker(10 * time.Millisecond) // the kubelet looks every ten seconds
	defer tick.Stop()
	for end := time.Now().Add(harness.Patience); len(rotated) < rotations; <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("in %v the log reached its size only %d times", harness.Patience, len(rotated))
		}
		if info, err := os.Stat(c.log); err == nil && info.Size() >= size {
			rotated = c.rotate(t, rotated)
		}
	}
	_, _ = c.exec(limited(t), 0, "touch /tmp/stop") // the container's end may overtake its own
	c.wantEnd(t, 0, "Completed")
	seen, all := 0, ""
	for _, path := range append(rotated, c.log) {
		before, line := seen, ""
		eachRecord(t, path, func(r harness.Record) error {
			// A writer that was held up in the midst of a line gets it logged in pieces.
			if line += r.Text; r.Partial {
				return nil
			}
			if strings.HasPrefix(line, "all ") {
				all = line
			} else if seen++; line != strconv.Itoa(seen) {
				return fmt.Errorf("line %d is %q", seen, line)
			}
			line = ""
			return nil
		})
		if line != "" {
			t.Errorf("%s ends with a piece of a line, %q", path, line)
		}
		t.Logf("%s: %d lines", filepath.Base(path), seen-before)
	}
	if want := fmt.Sprintf("all %d", seen); all != want || seen%batch != 0 {
		t.Errorf("%d lines in the logs; the container said %q", seen, all)
	}
}

// rotate is one round of the kubelet.
func (c *container) rotate(t *testing.T, rotated []string) []string {
	t.Helper()
	if n := len(rotated) - 1; n >= 0 {
		rotated[n] = compress(t, rotated[n])
	}
	to := fmt.Sprintf("%s.%s", c.log, time.Now().Format("20060102-150405.000000"))
	if err := os.Rename(c.log, to); err != nil {
		t.Fatal(err)
	}
	c.reopen(t)
	return append(rotated, to)
}

// reopen makes CRI-O have the log reopened. CRI-O itself would wait for ever for
// a sign that it was.
func (c *container) reopen(t *testing.T) {
	t.Helper()
	if _, err := c.p.e.runtime().ReopenContainerLog(limited(t), &cri.ReopenContainerLogRequest{ContainerId: c.id}); err != nil {
		t.Fatalf("reopening the log: %v", err)
	}
}

// compress replaces a file by FILE.gz.
func compress(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	// Fast, to be on time for the next rotation on a slow machine.
	w, _ := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	_, err = w.Write(data)
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = os.WriteFile(path+".gz", buf.Bytes(), 0o640)
	}
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path + ".gz"
}

// eachRecord reads a log, compressed or not.
func eachRecord(t *testing.T, path string, f func(harness.Record) error) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var r io.Reader = file
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(file); err != nil {
			t.Fatal(err)
		}
	}
	if err := harness.EachRecord(r, f); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// testReopenInPlace: a reopen without a rename must come back, in an idle
// container too, and lose nothing.
func testReopenInPlace(t *testing.T, e *engine) {
	needOurs(t)
	c := e.newPod(t).run(t, spec{script: "echo before; read line; echo after; sleep 1000", stdin: true})
	c.waitLog(t, "stdout F before")
	c.reopen(t)
	c.reopen(t)
	s := c.attach(t, "-i")
	s.send(t, "go\n")
	c.waitLog(t, "stdout F after")
	if got, want := c.records(t), []string{"stdout F before", "stdout F after"}; !slices.Equal(got, want) {
		t.Errorf("log is %q, want %q", got, want)
	}
}
