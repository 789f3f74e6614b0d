package oom

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// markFile is the name that engines look for: CRI-O in the bundle, Podman in the
// persist dir.
const markFile = "oom"

// Mark leaves an empty file "oom" in the bundle and the persist dir; "" stands
// for none, as in an exec session. Both are tried, one that is there already is
// fine. A file system that hangs makes Mark hang: use Marking.
func Mark(bundle, persistDir string) []error {
	var errs []error
	for _, dir := range [...]string{bundle, persistDir} {
		if dir == "" {
			continue
		}
		path := filepath.Join(dir, markFile)
		// Never through a symlink, and never waiting for somebody's fifo.
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o644)
		if err != nil {
			errs = append(errs, fmt.Errorf("create oom marker %s: %w", path, err))
			continue
		}
		_ = unix.Close(fd)
	}
	return errs
}

// Marking is Mark as a job for an offload.Worker. Errs may be read once it is
// over.
type Marking struct {
	Bundle, PersistDir string
	Errs               []error
}

// Run does the job.
func (m *Marking) Run() { m.Errs = Mark(m.Bundle, m.PersistDir) }
