package tests

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"conmon/tests/harness"
)

// testCommit is what the binaries built here say that they are built from: their
// sources are a copy without a repository.
const testCommit = "COMMIT=0123456789abcdef"

// sources returns a copy of the sources, to be built in without disturbing the
// binaries under test.
func sources(t *testing.T) string {
	t.Helper()
	harness.NeedTool(t, "go")
	dir := t.TempDir()
	mustRun(t, harness.Repo(), "sh", "-c", `tar -c --exclude=./bin --exclude=./.build --exclude=./.git . | tar -x -C "$1"`, "sh", dir)
	return dir
}

// mustRun runs a command that has to succeed and returns what it printed.
func mustRun(t *testing.T, dir string, argv ...string) string {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", argv, err, out)
	}
	return string(out)
}

// filesBelow returns the paths of what lies below dir, without directories, as seen
// from there.
func filesBelow(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found = append(found, strings.TrimPrefix(path, dir))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func wantAll(t *testing.T, have []string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !slices.Contains(have, w) {
			t.Errorf("no %s in %q", w, have)
		}
	}
}

func TestInstall(t *testing.T) {
	harness.NeedOurs(t)
	src, root := sources(t), t.TempDir()
	mustRun(t, src, "make", "install", "podman", "crio", testCommit, "DESTDIR="+root, "PREFIX=/opt/it")
	wantAll(t, filesBelow(t, root),
		"/opt/it/bin/conmon", "/opt/it/share/man/man1/conmon.1", "/opt/it/share/bash-completion/completions/conmon",
		"/opt/it/share/zsh/site-functions/_conmon", "/opt/it/share/fish/vendor_completions.d/conmon.fish",
		"/opt/it/share/doc/conmon/README.md", "/opt/it/share/doc/conmon/LICENSE", "/opt/it/share/doc/conmon/docs/exit.json.md",
		"/usr/libexec/podman/conmon", "/usr/local/bin/conmon")
	version := mustRun(t, root, root+"/opt/it/bin/conmon", "--version")
	if !strings.HasPrefix(version, "conmon version 2.") || !strings.Contains(version, "commit: 0123456789abcdef") {
		t.Errorf("version %q", version)
	}
	mustRun(t, src, "bash", "-n", root+"/opt/it/share/bash-completion/completions/conmon")
	mustRun(t, src, "make", "uninstall", "DESTDIR="+root, "PREFIX=/opt/it")
	if left := filesBelow(t, root+"/opt"); len(left) > 0 {
		t.Errorf("uninstall leaves %q", left)
	}
}

// The manual page is for man, and has every option of the help.
func TestManualPage(t *testing.T) {
	harness.NeedOurs(t)
	harness.NeedTool(t, "man")
	_, page, _ := harness.Command(t, "/", nil, "man")
	path := t.TempDir() + "/conmon.1"
	if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("man", "--warnings", "-E", "UTF-8", "-l", path)
	cmd.Env = append(os.Environ(), "MANWIDTH=100", "LC_ALL=C.UTF-8")
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil || complaints.Len() > 0 {
		t.Fatalf("man: %v\n%s", err, complaints.String())
	}
	for _, want := range []string{"--log-path DRIVER", "--exit-command-arg", "conmon upgrade", "CONMON_ATTACH_ON_FULL", "EXIT STATUS"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in the manual page", want)
		}
	}
}

// Two builds of one commit are the same, byte by byte, and there is one for each
// architecture that we care for.
func TestReproducible(t *testing.T) {
	harness.NeedOurs(t)
	src := sources(t)
	mustRun(t, src, "make", "repro", testCommit)
	mustRun(t, src, "make", "cross", testCommit)
	same := func(a, b string) bool {
		x, errX := os.ReadFile(a)
		y, errY := os.ReadFile(b)
		return errX == nil && errY == nil && string(x) == string(y)
	}
	for arch, machine := range map[string]byte{"amd64": 62, "arm64": 183, "riscv64": 243} { // e_machine of ELF
		program, err := os.ReadFile(src + "/bin/conmon-" + arch)
		if err != nil || program[18] != machine {
			t.Errorf("%s: not a program for it (%v)", arch, err)
		}
	}
	if goarch := strings.TrimSpace(mustRun(t, src, "go", "env", "GOARCH")); !same(src+"/bin/conmon", src+"/bin/conmon-"+goarch) {
		t.Error("make cross and make build differ")
	}
}

// The package takes the place of Debian's conmon, satisfies those who depend on
// it, and leaves nothing behind.
func TestDebianPackage(t *testing.T) {
	harness.NeedOurs(t)
	harness.NeedRoot(t)
	harness.NeedTool(t, "dpkg-deb")
	src := sources(t)
	build := func() (path, text string) {
		out := strings.Fields(mustRun(t, src, "make", "--no-print-directory", "deb", testCommit))
		path = src + "/" + out[len(out)-1]
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return path, string(data)
	}
	ours, once := build()
	if _, again := build(); once != again {
		t.Error("two packages of one commit differ")
	}
	root := dpkgRoot(t)
	dpkg := func(args ...string) string {
		return mustRun(t, "/", append([]string{"dpkg", "--root=" + root, "--no-triggers", "--log=/dev/null"}, args...)...)
	}
	dpkg("-i", fakePackage(t, "conmon", "2.1.6+ds1-1", ""), fakePackage(t, "podman", "4.3.1", "Depends: conmon (>= 2.0.18~)\n"))
	before := filesBelow(t, root+"/usr")

	dpkg("-i", ours)
	status := dpkg("-l")
	if !strings.Contains(status, "ii  conmon-go") || strings.Contains(status, "ii  conmon ") || !strings.Contains(status, "ii  podman") {
		t.Errorf("after the installation:\n%s", status)
	}
	wantAll(t, filesBelow(t, root+"/usr"), "/bin/conmon", "/share/man/man1/conmon.1.gz", "/share/doc/conmon-go/copyright")
	if version := mustRun(t, "/", root+"/usr/bin/conmon", "--version"); !strings.Contains(version, "0123456789abcdef") {
		t.Errorf("the installed program says %q", version)
	}
	if out := dpkg("--verify", "conmon-go"); out != "" {
		t.Errorf("what is installed is not what the package has:\n%s", out)
	}
	// Back: Debian's own takes our place.
	dpkg("--force-depends", "--purge", "conmon-go")
	dpkg("-i", fakePackage(t, "conmon", "2.1.6+ds1-1", ""))
	if after := filesBelow(t, root+"/usr"); !slices.Equal(before, after) {
		t.Errorf("before there was %q, now there is %q", before, after)
	}
}

// dpkgRoot makes an empty root directory for dpkg --root.
func dpkgRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"usr", "var/lib/dpkg/info", "var/lib/dpkg/updates"} {
		if err := os.MkdirAll(root+"/"+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(root+"/var/lib/dpkg/status", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return root
}

// fakePackage builds a package with one file, /usr/bin/NAME.
func fakePackage(t *testing.T, name, version, fields string) string {
	t.Helper()
	dir := t.TempDir()
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\n%sDescription: for a test\n", name, version, fields)
	for path, text := range map[string]string{"DEBIAN/control": control, "usr/bin/" + name: "#!/bin/sh\n"} {
		path = dir + "/stage/" + path
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mustRun(t, dir, "dpkg-deb", "--root-owner-group", "--build", "stage", name+".deb")
	return dir + "/" + name + ".deb"
}
