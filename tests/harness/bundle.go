package harness

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Runtime is an OCI runtime.
type Runtime struct {
	Name string // runc, crun or fake
	Path string
}

// Fake reports whether r is tests/fakeruntime, whose containers are ordinary
// processes on the machine's own root directory.
func (r Runtime) Fake() bool { return r.Name == "fake" }

// FakeRuntime returns the fake runtime. Its knobs are variables, see
// Launch.Env and the program's own comment.
func FakeRuntime() Runtime { return Runtime{Name: "fake", Path: fakeRuntimePath()} }

// EachRuntime runs a test as a subtest with every runtime: the fake one, and as
// root runc and crun.
func EachRuntime(t *testing.T, test func(t *testing.T, r Runtime)) {
	t.Helper()
	t.Run("fake", func(t *testing.T) { test(t, FakeRuntime()) })
	EachRealRuntime(t, test)
}

// EachRealRuntime is EachRuntime without the fake one.
func EachRealRuntime(t *testing.T, test func(t *testing.T, r Runtime)) {
	t.Helper()
	for _, name := range []string{"runc", "crun"} {
		t.Run(name, func(t *testing.T) { test(t, RealRuntime(t, name)) })
	}
}

// RealRuntime returns runc or crun, and skips the test where that cannot be used.
func RealRuntime(t testing.TB, name string) Runtime {
	t.Helper()
	NeedRoot(t)
	return Runtime{Name: name, Path: NeedTool(t, name)}
}

// Spec is what a container is to be.
type Spec struct {
	Args     []string // the program; an applet of busybox inside, found in PATH
	Env      []string
	Terminal bool
	Mounts   []Mount        // bind mounts; the fake runtime has none
	Memory   int64          // memory limit in bytes, 0: none; needs a memory controller
	Linux    map[string]any // merged into the config's linux object
}

// Mount is a bind mount. Source and Target should be the same path where the
// test is to run with the fake runtime as well.
type Mount struct {
	Source, Target string
	ReadOnly       bool
}

// Shell is a container that runs a script.
func Shell(script string) Spec { return Spec{Args: []string{"/bin/sh", "-c", script}} }

// Bundle is a directory of its own for one container: the bundle proper and
// everything that an engine keeps beside it.
type Bundle struct {
	Runtime Runtime
	ID      string
	Base    string // holds all the others; short, so that socket paths fit
	Dir     string // the OCI bundle
	ExitDir string
	Persist string
	Sockets string // --socket-dir-path
	Temp    string // TMPDIR of the monitor
	LogPath string
	PidFile string // the container's
	MonPid  string // the monitor's

	spec     Spec
	launched []*Monitor
	execs    int
	untidy   bool
}

// NewBundle makes a bundle. When the test ends the container is killed, and it
// is an error if a process, socket or temporary file of it is left then.
func NewBundle(t testing.TB, r Runtime, spec Spec) *Bundle {
	t.Helper()
	base, err := os.MkdirTemp("", "cm")
	if err != nil {
		t.Fatal(err)
	}
	b := &Bundle{
		Runtime: r, ID: "c" + strings.TrimPrefix(filepath.Base(base), "cm") + "-0123456789ab", Base: base,
		Dir: base + "/bundle", ExitDir: base + "/exits", Persist: base + "/persist", Sockets: base + "/socks", Temp: base + "/tmp",
		LogPath: base + "/ctr.log", PidFile: base + "/container.pid", MonPid: base + "/monitor.pid", spec: spec,
	}
	for _, dir := range []string{b.Dir, b.ExitDir, b.Persist, b.Sockets, b.Temp, b.runtimeRoot(), b.registry()} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { b.dispose(t) })
	b.SetSpec(t, spec)
	return b
}

// SetSpec replaces the container's specification, for a second container in the
// same bundle.
func (b *Bundle) SetSpec(t testing.TB, spec Spec) {
	t.Helper()
	b.spec = spec
	writeJSON(t, b.Dir+"/config.json", b.config(t))
}

// Untidy says that the test leaves something behind on purpose, such as the
// socket of a monitor that it has killed. Processes are still looked for.
func (b *Bundle) Untidy() { b.untidy = true }

func (b *Bundle) runtimeRoot() string { return b.Base + "/rt" }
func (b *Bundle) registry() string    { return b.Base + "/reg" }

// runtimeArgs are the runtime's global arguments.
func (b *Bundle) runtimeArgs() []string { return []string{"--root=" + b.runtimeRoot()} }

// RuntimeCommand runs the runtime as an engine does and returns what it printed.
func (b *Bundle) RuntimeCommand(args ...string) (string, error) {
	cmd := exec.Command(b.Runtime.Path, append(b.runtimeArgs(), args...)...)
	cmd.Env = append(os.Environ(), b.marker())
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Start starts the created container.
func (b *Bundle) Start(t testing.TB) {
	t.Helper()
	if out, err := b.RuntimeCommand("start", b.ID); err != nil {
		t.Fatalf("%s start: %v\n%s", b.Runtime.Name, err, out)
	}
}

// Kill sends a signal, by its name or number, to the container.
func (b *Bundle) Kill(t testing.TB, signal string) {
	t.Helper()
	if out, err := b.RuntimeCommand("kill", b.ID, signal); err != nil {
		t.Fatalf("%s kill: %v\n%s", b.Runtime.Name, err, out)
	}
}

// Delete removes what the runtime knows of the container, killing it.
func (b *Bundle) Delete() { _, _ = b.RuntimeCommand("delete", "--force", b.ID) }

func (b *Bundle) processSpec(s Spec) map[string]any {
	env := append([]string{"PATH=/bin:/usr/bin:/usr/sbin:/sbin", "HOME=/tmp", "TERM=xterm", b.marker()}, s.Env...)
	return map[string]any{
		"terminal": s.Terminal, "user": map[string]any{"uid": 0, "gid": 0}, "args": s.Args, "env": env, "cwd": "/",
	}
}

func (b *Bundle) config(t testing.TB) map[string]any {
	t.Helper()
	root := "/"
	if !b.Runtime.Fake() {
		root = rootfs(t)
	}
	mounts := []any{
		map[string]any{"destination": "/proc", "type": "proc", "source": "proc"},
		map[string]any{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "mode=755"}},
		map[string]any{"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": []string{"newinstance", "ptmxmode=0666"}},
		map[string]any{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": []string{"mode=1777"}},
	}
	for _, m := range b.spec.Mounts {
		mode := "rw"
		if m.ReadOnly {
			mode = "ro"
		}
		mounts = append(mounts, map[string]any{"destination": m.Target, "type": "bind", "source": m.Source, "options": []string{"rbind", mode}})
	}
	linux := map[string]any{
		"cgroupsPath": "/" + filepath.Base(b.Base),
		"namespaces":  []any{ns("pid"), ns("mount"), ns("ipc"), ns("uts")},
	}
	if b.spec.Memory > 0 {
		linux["resources"] = map[string]any{"memory": map[string]any{"limit": b.spec.Memory, "swap": b.spec.Memory}}
	}
	for k, v := range b.spec.Linux {
		linux[k] = v
	}
	return map[string]any{
		// What runc 1.1 and crun 1.8 both accept.
		"ociVersion": "1.0.2", "hostname": "test", "process": b.processSpec(b.spec), "mounts": mounts, "linux": linux,
		"root": map[string]any{"path": root, "readonly": true},
	}
}

func ns(kind string) map[string]any { return map[string]any{"type": kind} }

func writeJSON(t testing.TB, path string, v any) {
	t.Helper()
	data, err := json.Marshal(v)
	if err == nil {
		err = os.WriteFile(path, data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// sharedRootfs is one read-only busybox root for all containers of a test run.
var sharedRootfs struct {
	mu  sync.Mutex
	dir string
}

// rootfs returns the busybox root, making it at the first call.
func rootfs(t testing.TB) string {
	t.Helper()
	sharedRootfs.mu.Lock()
	defer sharedRootfs.mu.Unlock()
	if sharedRootfs.dir == "" {
		dir, err := makeRootfs()
		if err != nil {
			t.Fatalf("making a busybox root: %v", err)
		}
		sharedRootfs.dir = dir
	}
	return sharedRootfs.dir
}

func removeRootfs() {
	if sharedRootfs.dir != "" {
		_ = os.RemoveAll(sharedRootfs.dir)
	}
}

func makeRootfs() (string, error) {
	const busybox = "/bin/busybox"
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return "", fmt.Errorf("%s --list: %w", busybox, err)
	}
	dir, err := os.MkdirTemp("", "cmroot")
	if err != nil {
		return "", err
	}
	for _, d := range []string{"bin", "dev", "proc", "sys", "tmp", "etc", "run"} {
		if err := os.Mkdir(dir+"/"+d, 0o755); err != nil {
			return "", err
		}
	}
	program, err := os.ReadFile(busybox)
	if err == nil {
		err = os.WriteFile(dir+"/bin/busybox", program, 0o755)
	}
	if err != nil {
		return "", err
	}
	for _, applet := range strings.Fields(string(applets)) {
		if applet == "busybox" {
			continue
		}
		if err := os.Symlink("busybox", dir+"/bin/"+applet); err != nil {
			return "", err
		}
	}
	// Room for the programs and data that tests mount.
	return dir, os.Chmod(dir, 0o755)
}
