package inside

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"conmon/tests/harness"
)

// engine is a CRI-O with everything it needs, on tmpfs.
type engine struct {
	programs string // directory of crio, crictl, pinns and the monitor
	dir      string // everything below is in here
	sockets  string // the monitors' symlinks
	exits    string // where monitors announce an exit
	bundles  string // storage's run directory
	logs     string // containers' logs
	monitor  string // path of the monitor under test; a copy that may be replaced
	temp     string // CRI-O's own TMPDIR

	daemon    *exec.Cmd
	daemonEnd chan struct{} // closed when it has ended
	daemonLog *os.File
	conn      *grpc.ClientConn
	before    map[int]bool // processes that were there before CRI-O
	pods      int          // to number them
}

// newEngine starts the registry and CRI-O and pulls the image.
func newEngine(t *testing.T) *engine {
	t.Helper()
	dir := "/run/w"
	e := &engine{
		programs: os.Getenv(envPrograms),
		dir:      dir, sockets: dir + "/socks", exits: dir + "/exits", bundles: dir + "/runroot/overlay-containers", logs: dir + "/logs",
		monitor: dir + "/bin/conmon", temp: dir + "/tmp", before: processes(),
	}
	for _, d := range []string{e.sockets, e.exits, e.logs, dir + "/bin", dir + "/etc", dir + "/big"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	e.installMonitor(t)
	t.Setenv("CONMON_UNDER_TEST", e.monitor)
	loadModules(t)
	serveImages(t)
	e.configure(t)
	var err error
	if e.daemonLog, err = os.Create(dir + "/crio.log"); err != nil {
		t.Fatal(err)
	}
	e.startDaemon(t)
	t.Cleanup(func() { e.killDaemon(t) })
	ctx, stop := context.WithTimeout(t.Context(), harness.Patience)
	defer stop()
	if _, err := cri.NewImageServiceClient(e.conn).PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: image}}); err != nil {
		t.Fatalf("pulling the image: %v\n%s", err, e.daemonTail())
	}
	return e
}

// installMonitor puts a fresh copy of the monitor at its path, in one step as a
// package manager does: running monitors keep the old file.
func (e *engine) installMonitor(t *testing.T) {
	t.Helper()
	program, err := os.ReadFile(e.programs + "/conmon")
	if err == nil {
		err = os.WriteFile(e.monitor+".new", program, 0o755)
	}
	if err == nil {
		err = os.Rename(e.monitor+".new", e.monitor)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// loadModules loads what CRI-O's storage needs. User-mode Linux has its modules
// where modprobe does not look.
func loadModules(t *testing.T) {
	t.Helper()
	if text, _ := os.ReadFile("/proc/filesystems"); bytes.Contains(text, []byte("\toverlay\n")) {
		return
	}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("/usr/lib/uml/modules", strings.TrimSpace(string(release)), "kernel/fs/overlayfs/overlay.ko")
	if out, err := exec.Command("insmod", path).CombinedOutput(); err != nil {
		t.Fatalf("insmod %s: %v\n%s", path, err, out)
	}
}

func (e *engine) endpoint() string { return "unix://" + e.dir + "/crio.sock" }

// startDaemon starts CRI-O and waits until it answers.
func (e *engine) startDaemon(t *testing.T) {
	t.Helper()
	// A CRI-O that was killed leaves files of the sessions that it waited for.
	if err := os.RemoveAll(e.temp); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(e.temp, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(e.programs+"/crio", "--config", e.dir+"/etc/crio.conf", "--config-dir", "")
	cmd.Stdout, cmd.Stderr = e.daemonLog, e.daemonLog
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/root", "TMPDIR=" + e.temp,
		"CONTAINER_REGISTRIES_CONF=" + e.dir + "/etc/registries.conf", "CONTAINER_REGISTRIES_CONF_DIR=" + e.dir + "/etc/none",
		"CONTAINERS_STORAGE_CONF=" + e.dir + "/etc/storage.conf",
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	e.daemon, e.daemonEnd = cmd, ended
	conn, err := grpc.NewClient(e.endpoint(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20), grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	e.conn = conn
	ctx, stop := context.WithTimeout(t.Context(), harness.Patience)
	defer stop()
	go func() {
		select {
		case <-ended: // no use in waiting any longer
			stop()
		case <-ctx.Done():
		}
	}()
	if _, err := e.runtime().Version(ctx, &cri.VersionRequest{}); err != nil {
		t.Fatalf("CRI-O does not answer: %v\n%s", err, e.daemonTail())
	}
}

// killDaemon kills CRI-O as a crash would.
func (e *engine) killDaemon(t *testing.T) {
	t.Helper()
	if err := e.daemon.Process.Kill(); err != nil {
		t.Errorf("killing CRI-O: %v\n%s", err, e.daemonTail())
	}
	<-e.daemonEnd
	e.conn.Close()
}

func (e *engine) runtime() cri.RuntimeServiceClient { return cri.NewRuntimeServiceClient(e.conn) }

// daemonTail returns the last lines of CRI-O's log.
func (e *engine) daemonTail() string {
	text, _ := os.ReadFile(e.daemonLog.Name())
	// What came before the scenario is not about it.
	lines := strings.Split(string(text[max(0, bytes.LastIndex(text, []byte(scenarioMark))):]), "\n")
	return "CRI-O's log ends:\n" + strings.Join(lines[max(0, len(lines)-40):], "\n")
}

// scenarioMark begins a line of CRI-O's log that names a scenario.
const scenarioMark = "=== "

// beginScenario marks CRI-O's log, and looks at the scenario's end for failures
// and left-overs.
func (e *engine) beginScenario(t *testing.T) {
	t.Helper()
	fmt.Fprintf(e.daemonLog, "%s%s\n", scenarioMark, t.Name())
	begin := time.Now()
	t.Cleanup(func() {
		e.nothingLeft(t)
		if t.Failed() {
			t.Logf("after %v. %s", time.Since(begin), e.daemonTail())
		}
	})
}
