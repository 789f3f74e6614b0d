package podman

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"conmon/tests/harness"
)

const (
	envHelper = "CONMON_TEST_HELPER" // path of the built helper

	// monitorPath is the first place where Podman looks.
	monitorPath = "/usr/libexec/podman/conmon"
	runtimeDir  = "/usr/local/libexec/conmon-test"
	image       = "bb"

	// raceDir is where monitors with the race detector report: their standard
	// error leads nowhere.
	raceDir     = "/var/tmp/race"
	raceOptions = "atexit_sleep_ms=0 log_path=" + raceDir + "/report"

	// user has its own Podman.
	user     = "rootless"
	userID   = 1234
	userHome = "/home/" + user
)

// prepare makes this private system one with Podman and the monitor installed.
func prepare() error {
	for _, step := range []func() error{mountStorage, installMonitor, configurePodman, importImage} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// mountStorage makes Podman's storage a file system that overlays can use: the
// root directory itself is one.
func mountStorage() error {
	// Rootless Podman wants to see the mounts of the system.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("making / shared: %w", err)
	}
	for _, dir := range []string{"/var/lib/containers", userHome} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mounting a tmpfs on %s: %w", dir, err)
		}
	}
	return nil
}

func installMonitor() error {
	for _, dir := range []string{filepath.Dir(monitorPath), runtimeDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := copyFile(harness.MonitorPath(), monitorPath); err != nil {
		return err
	}
	for _, name := range []string{"crun", "runc"} {
		if err := copyFile(os.Getenv(envHelper), filepath.Join(runtimeDir, name)); err != nil {
			return err
		}
	}
	return nil
}

func configurePodman() error {
	// Podman asks for the most that the kernel allows, which a machine with
	// fewer capabilities refuses.
	ulimits := make([]string, 0, 2)
	for _, limit := range []struct {
		name     string
		resource int
		most     uint64
	}{{"nofile", unix.RLIMIT_NOFILE, 20000}, {"nproc", unix.RLIMIT_NPROC, 32768}} {
		var have unix.Rlimit
		if err := unix.Getrlimit(limit.resource, &have); err != nil {
			return err
		}
		n := min(have.Max, limit.most)
		ulimits = append(ulimits, fmt.Sprintf("%q", fmt.Sprintf("%s=%d:%d", limit.name, n, n)))
	}
	if err := os.Mkdir(raceDir, 0o777); err != nil {
		return err
	}
	// For every user, whatever our umask.
	if err := os.Chmod(raceDir, 0o1777); err != nil {
		return err
	}
	if err := os.Setenv("GORACE", raceOptions); err != nil {
		return err
	}
	conf := fmt.Sprintf(`[containers]
default_ulimits = [%s]
netns = "none"
[engine]
events_logger = "journald"
runtime = "crun"
conmon_env_vars = ["PATH=%s", "GORACE=%s"]
[engine.runtimes]
crun = ["%s/crun"]
runc = ["%s/runc"]
`, strings.Join(ulimits, ", "), os.Getenv("PATH"), raceOptions, runtimeDir, runtimeDir)
	if err := os.MkdirAll("/etc/containers", 0o755); err != nil {
		return err
	}
	return os.WriteFile("/etc/containers/containers.conf", []byte(conf), 0o644)
}

// imageTar returns the root directory of the containers: busybox, the helper,
// and /refused, which is not executable.
func imageTar() ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	add := func(name, text string, mode int64) error {
		err := w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(text)), Typeflag: tar.TypeReg})
		if err == nil {
			_, err = w.Write([]byte(text))
		}
		return err
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return nil, err
	}
	for name, from := range map[string]string{"bin/busybox": busybox, "bin/helper": os.Getenv(envHelper)} {
		text, err := os.ReadFile(from)
		if err != nil {
			return nil, err
		}
		if err := add(name, string(text), 0o755); err != nil {
			return nil, err
		}
	}
	if err := add("refused", "#!/bin/sh\n", 0o644); err != nil {
		return nil, err
	}
	if err := add("etc/passwd", "root:x:0:0:root:/:/bin/sh\nguest:x:1000:1000:guest:/:/bin/sh\n", 0o644); err != nil {
		return nil, err
	}
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("listing busybox's applets: %w", err)
	}
	for applet := range strings.FieldsSeq(string(applets)) {
		if applet == "busybox" {
			continue
		}
		if err := w.WriteHeader(&tar.Header{Name: "bin/" + applet, Linkname: "busybox", Typeflag: tar.TypeSymlink, Mode: 0o777}); err != nil {
			return nil, err
		}
	}
	for _, dir := range []string{"proc", "sys", "dev", "run", "tmp", "data"} {
		if err := w.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o1777}); err != nil {
			return nil, err
		}
	}
	err = w.Close()
	return buf.Bytes(), err
}

func importImage() error { return root().importImage() }

func (p podman) importImage() error {
	text, err := imageTar()
	if err != nil {
		return fmt.Errorf("making an image: %w", err)
	}
	cmd := p.command("import", "-q", "-", image)
	cmd.Stdin = bytes.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("importing the image: %w\n%s", err, out)
	}
	return nil
}
