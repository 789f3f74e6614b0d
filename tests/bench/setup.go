package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// side is one of the two monitors compared.
type side struct {
	Path    string `json:"path"`
	Version string `json:"version"`
}

// bench is one run: the two sides and the place where they work.
type bench struct {
	ctx        context.Context
	base, ours *side
	dir        string // on tmpfs
	mounted    bool   // dir is a tmpfs of our own
	tool       string // the program in tool/
	stderr     *os.File
	exits      *exitWatch
	lastID     int
	live       map[*monitor]bool
}

func newBench(ctx context.Context, o options) (*bench, error) {
	b := &bench{ctx: ctx, live: map[*monitor]bool{}}
	var err error
	if b.base, err = newSide(o.baseline); err != nil {
		return nil, fmt.Errorf("%w (apt-get install conmon, or -a)", err)
	}
	if b.ours, err = newSide(o.ours); err != nil {
		return nil, fmt.Errorf("%w (make build, or -b)", err)
	}
	// Monitors detach: without this their status and their processor time
	// would go to init.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become a subreaper: %w", err)
	}
	if err := b.makeDir(); err != nil {
		return nil, err
	}
	if err := b.fillDir(); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func newSide(path string) (*side, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	out, err := exec.Command(abs, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("ask %s for its version: %w", abs, err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return &side{Path: abs, Version: strings.TrimPrefix(line, "conmon version ")}, nil
}

// makeDir makes a directory on a tmpfs: one of our own where that is allowed,
// else in /dev/shm. The path is short, as attach sockets lie below it.
func (b *bench) makeDir() error {
	if os.Geteuid() == 0 {
		dir, err := os.MkdirTemp("/tmp", "bench")
		if err != nil {
			return err
		}
		if unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755,size=75%") == nil {
			b.dir, b.mounted = dir, true
			return nil
		}
		_ = os.Remove(dir)
	}
	dir, err := os.MkdirTemp("/dev/shm", "bench")
	b.dir = dir
	return err
}

func (b *bench) fillDir() error {
	var err error
	for _, sub := range []string{"exits", "registry"} {
		if err := os.Mkdir(filepath.Join(b.dir, sub), 0o755); err != nil {
			return err
		}
	}
	if b.stderr, err = os.Create(filepath.Join(b.dir, "stderr")); err != nil {
		return err
	}
	if b.tool, err = buildTool(b.dir); err != nil {
		return err
	}
	b.exits, err = newExitWatch(b.ctx, filepath.Join(b.dir, "exits"))
	return err
}

// close ends what still runs and removes what was made.
func (b *bench) close() {
	for m := range b.live {
		_ = unix.Kill(m.container, unix.SIGKILL)
	}
	for m := range b.live {
		m.end()
	}
	if b.exits != nil {
		b.exits.close()
	}
	if b.stderr != nil {
		_ = b.stderr.Close()
	}
	if b.mounted {
		_ = unix.Unmount(b.dir, unix.MNT_DETACH)
	}
	_ = os.RemoveAll(b.dir)
}

// complaints is what the monitors wrote on standard error so far.
func (b *bench) complaints() string {
	text, _ := os.ReadFile(b.stderr.Name())
	return strings.TrimSpace(string(text))
}

// warm touches and frees as much memory as size bytes of log will take. In a
// virtual machine the first use of a page costs several times the write into
// it, and would be counted to whoever comes first.
func (b *bench) warm(size int64) error {
	f, err := os.Create(filepath.Join(b.dir, "warm"))
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := make([]byte, 1<<20)
	for ; size > 0; size -= int64(len(block)) {
		if _, err := f.Write(block); err != nil {
			return err
		}
	}
	return nil
}

// pause lets d pass, or less if the run is to end. Only for what has no event:
// settling down, and the length of an idle period.
func (b *bench) pause(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-b.ctx.Done():
		return b.ctx.Err()
	}
}
