package tests

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"conmon/internal/status/client"
	"conmon/tests/harness"
	"conmon/tests/sample"
)

// payloadPath returns the program of tests/payload, built at the first call.
var payloadPath = sync.OnceValues(func() (string, error) {
	path := filepath.Join(harness.Repo(), "bin", "payload")
	if _, err := exec.LookPath("go"); err != nil {
		return path, nil // the one that is there has to do
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, "./tests/payload")
	cmd.Dir, cmd.Env = harness.Repo(), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the payload: %w\n%s", err, out)
	}
	return path, nil
})

// payload is a container that runs tests/payload with these arguments.
func payload(t *testing.T, r harness.Runtime, args ...any) harness.Spec {
	t.Helper()
	path, err := payloadPath()
	if err != nil {
		t.Fatal(err)
	}
	spec := harness.Spec{Args: []string{path}}
	if !r.Fake() {
		spec = harness.Spec{Args: []string{"/bin/payload"}, Mounts: []harness.Mount{{Source: path, Target: "/bin/payload", ReadOnly: true}}}
	}
	for _, a := range args {
		spec.Args = append(spec.Args, fmt.Sprint(a))
	}
	return spec
}

// volumeRuntime is what tests run in that are about the monitor and not about
// the runtime: runc where it can be used.
func volumeRuntime() harness.Runtime {
	if path, err := exec.LookPath("runc"); err == nil && os.Geteuid() == 0 {
		return harness.Runtime{Name: "runc", Path: path}
	}
	return harness.FakeRuntime()
}

// create launches the monitor of a container that is created and not started.
func create(t *testing.T, b *harness.Bundle, l harness.Launch) *harness.Monitor {
	t.Helper()
	l.Bundle = b
	m := l.Run(t)
	m.Created(t)
	m.Launched(t)
	return m
}

// checksum is the length and the checksum of a stream.
type checksum struct {
	n   int64
	sum string
}

func (d checksum) String() string { return fmt.Sprintf("%d bytes, %.12s", d.n, d.sum) }

// sampleSum is the checksum of the first n bytes of the sample.
func sampleSum(seed uint64, n int64) checksum {
	h := sha256.New()
	_, _ = io.CopyN(h, sample.New(seed), n)
	return checksum{n, fmt.Sprintf("%x", h.Sum(nil))}
}

// compare fails the test if a stream is not what it should be.
func compare(t *testing.T, name string, got, want checksum) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", name, got, want)
	}
}

// told finds "NAME LENGTH SUM" in what the payload printed.
func told(t *testing.T, text, name string) (d checksum) {
	t.Helper()
	_, rest, _ := strings.Cut("\n"+text, "\n"+name+" ")
	if _, err := fmt.Sscanf(rest, "%d %s", &d.n, &d.sum); err != nil {
		t.Fatalf("the container did not tell about %s: %q", name, text)
	}
	return d
}

// logSum is the checksum of the standard output in log files, given in the
// order of their records, and the standard error itself.
func logSum(t *testing.T, paths ...string) (stdout checksum, stderr string) {
	t.Helper()
	h, errs := sha256.New(), new(strings.Builder)
	n := new(counter)
	if err := harness.Reassemble(io.MultiWriter(h, n), errs, paths...); err != nil {
		t.Fatal(err)
	}
	return checksum{int64(*n), fmt.Sprintf("%x", h.Sum(nil))}, errs.String()
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// tap receives everything that an attach client gets, until the end.
type tap struct {
	client *harness.Client
	got    atomic.Int64 // bytes of standard output so far
	done   chan struct{}
	stdout checksum // and what follows: once done is closed
	stderr strings.Builder
	err    error
}

func newTap(t *testing.T, m *harness.Monitor) *tap {
	t.Helper()
	return tapOf(m.Attach(t))
}

func tapOf(c *harness.Client) *tap {
	p := &tap{client: c, done: make(chan struct{})}
	go p.receive()
	return p
}

func (p *tap) receive() {
	defer close(p.done)
	h := sha256.New()
	for {
		packet, err := p.client.Receive()
		if errors.Is(err, io.EOF) {
			p.stdout = checksum{p.got.Load(), fmt.Sprintf("%x", h.Sum(nil))}
			return
		}
		if err != nil {
			p.err = err
			return
		}
		if packet.Stream == 3 {
			p.stderr.Write(packet.Data)
			continue
		}
		h.Write(packet.Data)
		p.got.Add(int64(len(packet.Data)))
	}
}

// wait waits for the end of the output.
func (p *tap) wait(t *testing.T) {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(harness.Patience):
		t.Fatal("the attach client did not get to the end of the output")
	}
	if p.err != nil {
		t.Fatalf("attach client: %v", p.err)
	}
}

// status asks the monitor.
func status(t *testing.T, m *harness.Monitor) *client.Report {
	t.Helper()
	text, err := client.Status(m.Dir)
	if err != nil {
		t.Fatal(err)
	}
	report, err := client.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// waitStatus waits until the monitor's answer is as wanted.
func waitStatus(t *testing.T, m *harness.Monitor, what string, ok func(*client.Report) bool) {
	t.Helper()
	harness.Eventually(t, what, func() bool { return ok(status(t, m)) })
}

// exitRecord is exit.json, as far as it is looked at here.
type exitRecord struct {
	Status      int    `json:"status"`
	Signal      int    `json:"signal"`
	TimedOut    bool   `json:"timed_out"`
	Reason      string `json:"reason"`
	BytesLogged int64  `json:"bytes_logged"`
	LinesLogged int64  `json:"lines_logged"`
	BytesLost   int64  `json:"bytes_lost"`
	LinesLost   int64  `json:"lines_lost"`
}

func exitJSON(t *testing.T, m *harness.Monitor) (e exitRecord) {
	t.Helper()
	text, err := os.ReadFile(m.Bundle.Persist + "/exit.json")
	if err == nil {
		err = json.Unmarshal(text, &e)
	}
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// ctl writes a line to the control fifo.
func ctl(t *testing.T, m *harness.Monitor, line string) {
	t.Helper()
	f, err := os.OpenFile(m.Dir+"/ctl", os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(line); err != nil {
		t.Fatal(err)
	}
}

// smallDisk mounts a tmpfs of that size on a new directory of the bundle.
func smallDisk(t *testing.T, b *harness.Bundle, size string) string {
	t.Helper()
	harness.NeedRoot(t)
	dir := b.Base + "/disk"
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("mounting a tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// backups returns a rotated log's files in the order of their records.
func backups(path string) []string {
	var files []string
	for i := 1; ; i++ {
		name := ""
		for _, suffix := range []string{"", ".gz", ".zst"} {
			if _, err := os.Stat(path + "." + strconv.Itoa(i) + suffix); err == nil {
				name = path + "." + strconv.Itoa(i) + suffix
			}
		}
		if name == "" {
			return append(files, path)
		}
		files = append([]string{name}, files...)
	}
}

// descriptors names the descriptors of a process.
func descriptors(pid int) (names []string) {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd/"
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		target, _ := os.Readlink(dir + e.Name())
		names = append(names, e.Name()+" "+target)
	}
	return names
}
