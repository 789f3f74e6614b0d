package client

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Bundles returns the bundles that the registry in dir leads to, sorted by
// uuid. Some of their monitors may have died without saying good-bye. A registry
// that does not exist is empty.
func Bundles(dir string) ([]Entry, error) {
	if dir == "" {
		return nil, errors.New("no registry: neither CONMON_REGISTRY_DIR nor XDG_RUNTIME_DIR is set")
	}
	names, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the registry: %w", err)
	}
	var entries []Entry
	for _, d := range names {
		// Hidden ones are on their way in or out.
		if d.Name()[0] == '.' || d.Type() != os.ModeSymlink {
			continue
		}
		bundle, err := os.Readlink(filepath.Join(dir, d.Name()))
		if err != nil || !filepath.IsAbs(bundle) {
			continue // gone, or not made by a monitor
		}
		entries = append(entries, Entry{dir, d.Name(), bundle})
	}
	return entries, nil
}

// Entry is one link of a registry.
type Entry struct {
	dir    string
	UUID   string
	Bundle string
}

// Forget removes the entry of a monitor that was not there. A monitor may
// register under the same uuid at any moment, as engines restart containers in
// the same bundle: so the link is taken aside first, looked at again, and put
// back if it leads somewhere now. Nothing depends on it, so nothing is reported.
func (e Entry) Forget() {
	path := filepath.Join(e.dir, e.UUID)
	aside := filepath.Join(e.dir, fmt.Sprintf(".%s.%d", e.UUID, os.Getpid()))
	if unix.Rename(path, aside) != nil {
		return
	}
	bundle, err := os.Readlink(aside)
	if err == nil {
		var fd int
		if fd, err = dial(bundle); err == nil {
			_ = unix.Close(fd)
		}
	}
	if !errors.Is(err, ErrNoMonitor) &&
		unix.Renameat2(unix.AT_FDCWD, aside, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE) == nil {
		return
	}
	_ = unix.Unlink(aside)
}
