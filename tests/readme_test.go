package tests

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"conmon/tests/harness"
)

// readme is the README, taken apart: every command and every file in it belongs
// to a test.
type readme struct {
	text    string
	scripts map[string]string // by the name in "<!-- run: NAME -->": its blocks, one after the other
	files   map[string]string // by the name in "<!-- file: NAME -->"
}

var fenced = regexp.MustCompile("(?ms)^(?:<!-- (run|file): ([a-z.-]+) -->\n)?```([a-z]*)\n(.*?)^```$")

func readReadme(t *testing.T) readme {
	t.Helper()
	text, err := os.ReadFile(harness.Repo() + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	r := readme{text: string(text), scripts: map[string]string{}, files: map[string]string{}}
	for _, m := range fenced.FindAllStringSubmatch(r.text, -1) {
		switch kind, name, body := m[1], m[2], m[4]; kind {
		case "run":
			r.scripts[name] += body
		case "file":
			r.files[name] += body
		default:
			t.Errorf("no test knows this block:\n%s", body)
		}
	}
	if opened := strings.Count("\n"+r.text, "\n```"); opened != 2*len(fenced.FindAllString(r.text, -1)) {
		t.Errorf("%d lines open or close a block, which is not twice the number of blocks", opened)
	}
	return r
}

// shell runs a script of the README in dir with the monitor under test as
// conmon, and returns what it printed.
func (r readme) shell(t *testing.T, dir, script string, env ...string) string {
	t.Helper()
	if script == "" {
		t.Fatal("the README has no such commands")
	}
	bin := t.TempDir()
	if err := os.Symlink(harness.MonitorPath(), bin+"/conmon"); err != nil {
		t.Fatal(err)
	}
	limit, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	cmd := exec.CommandContext(limit, "bash", "-euxo", "pipefail", "-c", script)
	cmd.WaitDelay = time.Second
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\nprinted:\n%s", err, script, out)
	}
	return string(out)
}

func TestReadme(t *testing.T) {
	harness.NeedOurs(t)
	r := readReadme(t)
	tests := map[string]func(*testing.T, readme){
		"make": testReadmeMake, "install": testReadmeInstall, "podman": testReadmePodman,
		"by-hand": testReadmeByHand, "node": testReadmeNode,
	}
	for name := range r.scripts {
		if tests[name] == nil {
			t.Errorf("no test runs the commands marked %q", name)
		}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { test(t, r) })
	}
	t.Run("crio.conf", func(t *testing.T) { testReadmeCRIO(t, r) })
	t.Run("links", func(t *testing.T) { testReadmeLinks(t, r) })
}

// The two commands: one is run, and this test is part of the other.
func testReadmeMake(t *testing.T, r readme) {
	harness.NeedRoot(t)
	for line := range strings.Lines(r.scripts["make"]) {
		target := strings.Fields(line)[1]
		mustRun(t, harness.Repo(), "make", "-n", target)
	}
	cmd := exec.Command("tests/demo.sh")
	cmd.Dir, cmd.Env = harness.Repo(), append(os.Environ(), "CONMON="+harness.MonitorPath())
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "all seen") {
		t.Errorf("make demo: %v\n%s", err, out)
	}
}

func testReadmeInstall(t *testing.T, r readme) {
	harness.NeedTool(t, "dpkg-deb")
	src, root := sources(t), t.TempDir()
	r.shell(t, src, r.scripts["install"], "DESTDIR="+root, "MAKEFLAGS=COMMIT=0123456789abcdef")
	wantAll(t, filesBelow(t, root), "/usr/local/bin/conmon", "/usr/libexec/podman/conmon", "/usr/local/share/man/man1/conmon.1")
	if found, _ := filepath.Glob(src + "/bin/conmon-go_*.deb"); len(found) != 1 {
		t.Errorf("packages: %q", found)
	}
}

// Podman reads the file, finds the monitor by it, and understands its version.
func testReadmePodman(t *testing.T, r readme) {
	harness.NeedRoot(t)
	harness.NeedTool(t, "podman")
	dir := t.TempDir()
	conf := strings.Replace(r.files["containers.conf"], "/usr/local/bin/conmon", harness.MonitorPath(), 1)
	storage := "[storage]\ndriver = \"vfs\"\ngraphroot = \"" + dir + "/graph\"\nrunroot = \"" + dir + "/run\"\n"
	for name, text := range map[string]string{"containers.conf": conf, "storage.conf": storage} {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out := r.shell(t, dir, r.scripts["podman"], "CONTAINERS_CONF="+dir+"/containers.conf", "CONTAINERS_STORAGE_CONF="+dir+"/storage.conf")
	if !strings.Contains(out, harness.MonitorPath()+": conmon version 2.") {
		t.Errorf("podman info prints %q", out)
	}
}

// The keys of CRI-O's file are those that CRI-O knows; the values are tried by
// its own suite.
func testReadmeCRIO(t *testing.T, r readme) {
	keys := regexp.MustCompile(`(?m)^([a-z_]+) = (?:"/[^"]*"|\["[^"]*"(?:, "[^"]*")*\])$`)
	var found []string
	for _, m := range keys.FindAllStringSubmatch(r.files["crio.conf"], -1) {
		found = append(found, m[1])
	}
	if got := strings.Join(found, " "); got != "runtime_path runtime_root monitor_path monitor_env" {
		t.Errorf("keys: %s", got)
	}
	if !strings.Contains(r.files["crio.conf"], "\n[crio.runtime.runtimes.crun]\n") {
		t.Error("no table of a runtime")
	}
}

// The session with a runtime alone, with either of them.
func testReadmeByHand(t *testing.T, r readme) {
	for _, name := range []string{"runc", "crun"} {
		t.Run(name, func(t *testing.T) {
			runtime := harness.RealRuntime(t, name)
			harness.NeedTool(t, "runc") // its spec command
			privateRun(t, "/run/"+name)
			t.Cleanup(func() { _ = exec.Command(runtime.Path, "delete", "--force", "tick").Run() })
			dir := t.TempDir()
			registry := dir + "/registry"
			script := strings.Replace(r.scripts["by-hand"], "runtime=$(command -v runc)", "runtime=$(command -v "+name+")", 1)
			if name == "crun" && !mayRaiseLimits(t) {
				// It raises a limit for the filter of devices that the bundle asks for.
				harness.NeedTool(t, "jq")
				script = strings.Replace(script, "\nruntime=", "\njq 'del(.linux.resources)' config.json >new.json && mv new.json config.json\nruntime=", 1)
			}
			out := r.shell(t, dir, script, "CONMON_REGISTRY_DIR="+registry)

			for _, want := range []string{"state      running", "upgraded", `137{"schema":1,"id":"tick","status":137,"signal":9`} {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in what was printed:\n%s", want, out)
				}
			}
			// What the attach client showed, and the log.
			if n := strings.Count(out, " UTC "); n < 4 {
				t.Errorf("the time was told %d times:\n%s", n, out)
			}
			if records := harness.ReadLog(t, dir+"/tick/ctr.log.old"); len(records) == 0 {
				t.Error("the rotated log is empty")
			}
			if _, err := os.Stat(dir + "/tick/ctr.log"); err != nil {
				t.Error("there is no new log")
			}
			for _, name := range filesBelow(t, dir+"/tick") {
				if filepath.Base(name) == "attach" || filepath.Base(name) == "status" {
					t.Errorf("left over: %s", name)
				}
			}
			if left := filesBelow(t, registry); len(left) > 0 {
				t.Errorf("left over in the registry: %q", left)
			}
		})
	}
}

// mayRaiseLimits reports whether we have CAP_SYS_RESOURCE.
func mayRaiseLimits(t *testing.T) bool {
	t.Helper()
	set, err := strconv.ParseUint(harness.Status(os.Getpid(), "CapEff"), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return set&(1<<unix.CAP_SYS_RESOURCE) != 0
}

// privateRun hides a runtime's own list of containers behind an empty one.
func privateRun(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
		t.Fatalf("mounting a tmpfs on %s: %v", dir, err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// What one does on a node, with one container on it.
func testReadmeNode(t *testing.T, r readme) {
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done"))
	m := b.Run(t, harness.Launch{Env: []string{"CONMON_REGISTRY_DIR=" + b.Base + "/reg"}})
	m.WaitLog(t, "up")
	out := r.shell(t, b.Base, r.scripts["node"], "CONMON_REGISTRY_DIR="+b.Base+"/reg")
	for _, want := range []string{b.ID[:12], "bundle     " + b.Dir, `"schema":1`, "# TYPE conmon_", "upgraded"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in what was printed:\n%s", want, out)
		}
	}
	if n := status(t, m).Monitor.Upgrades; n != 1 {
		t.Errorf("%d upgrades", n)
	}
	b.Kill(t, "TERM")
	m.Finish(t)
}

// What the documents point to is there.
func testReadmeLinks(t *testing.T, _ readme) {
	link := regexp.MustCompile(`\]\(([^)#:]+)\)`)
	documents, err := filepath.Glob(harness.Repo() + "/*.md")
	if err != nil {
		t.Fatal(err)
	}
	inDocs, _ := filepath.Glob(harness.Repo() + "/docs/*.md")
	for _, path := range append(documents, inDocs...) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s points to %s: %v", filepath.Base(path), m[1], err)
			}
		}
	}
}
