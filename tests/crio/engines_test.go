package crio

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"

	"conmon/tests/harness"
)

// Without these two CRI-O wants C libraries for images' signatures and btrfs.
const engineTags = "containers_image_ostree_stub containers_image_openpgp exclude_graphdriver_btrfs"

// engineDir returns the directory for the built crio and crictl. Its name says
// which versions they are, so that a change of go.mod builds them anew.
func engineDir() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding a cache directory: %w", err)
	}
	sums, err := os.ReadFile(filepath.Join(harness.Repo(), "tests/crio/inside/go.sum"))
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "conmon-tests", fmt.Sprintf("crio-%x", sha256.Sum256(sums))[:21]), nil
}

// buildEngines builds into a directory beside dir and renames it, so that an
// interrupted build leaves nothing that looks finished.
func buildEngines(dir string, run func(args ...string) error) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), "building-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	if err := run("build", "-trimpath", "-ldflags", "-s -w", "-tags", engineTags, "-o", temp+"/",
		"github.com/cri-o/cri-o/cmd/crio", "sigs.k8s.io/cri-tools/cmd/crictl"); err != nil {
		return err
	}
	if err := os.Chmod(temp, 0o755); err != nil {
		return err
	}
	err = os.Rename(temp, dir)
	if _, missing := os.Stat(filepath.Join(dir, "crio")); missing == nil {
		return nil // also if somebody else has built them at the same time
	}
	return err
}
