package logging

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// rotation is a fileOp's part for giving a path a new file.
type rotation struct {
	rotate   bool   // keep the old file as PATH.1
	backups  int    // how many old files to keep
	compress string // "", "gzip" or "zstd"
	room     int64  // opRenew: no need if the file has shrunk to this

	// results
	renewed   bool // the path has a new file, or the old one starts over
	postponed bool // a backup is being compressed: not now
	source    int  // the backup to compress, locked; -1: none
	sourceDir int
}

// suffixes are what a backup's name may end in.
var suffixes = [...]string{"", ".gz", ".zst"}

// tempSuffix is for the file that takes a full one's place.
const tempSuffix = ".tmp"

// renew gives the path a new file: op.fd, op.size and op.torn describe it
// afterwards. On an error the old file stays in use.
func (op *fileOp) renew() error {
	op.renewed, op.postponed, op.source, op.sourceDir = false, false, -1, -1
	var st unix.Stat_t
	if err := unix.Fstat(op.fd, &st); err != nil {
		return fmt.Errorf("stat %s: %w", op.path, err)
	}
	if op.kind == opRenew && st.Size <= op.room {
		op.size = st.Size // logrotate's copytruncate came first
		return nil
	}
	dir, name, err := op.dir()
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	switch {
	case !isSame(&st, dir, name):
		// Somebody renamed the file away: what is at the path is not ours to move.
	case op.rotate:
		if err := op.shift(dir, name); err != nil {
			return err
		}
		op.renewed = !op.postponed
	case op.kind == opRenew:
		op.renewed = true
		if startOver(dir, name) != nil {
			// No room for another file, or not allowed to make one.
			return op.empty()
		}
	}
	return op.reopen(dir, name, &st)
}

// reopen opens the path and lets go of the old file if it is another one. It
// sees to it that inotify reports a create or write on the path, because CRI-O
// waits for one, without a time limit, after it asked for a reopen.
func (op *fileOp) reopen(dir int, name string, old *unix.Stat_t) error {
	fd, created, err := op.open(dir, name)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		_ = unix.Close(fd)
		return fmt.Errorf("open %s: not a regular file any more", op.path)
	}
	same := st.Ino == old.Ino && st.Dev == old.Dev
	if op.kind == opReopen && !created {
		// Shortening to the size it has changes nothing. If somebody else writes
		// to it, too, that might cut him off: allocating what is there does not.
		alone := st.Size == 0 || same && st.Size == op.size
		if alone || unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, 1) != nil {
			_ = unix.Ftruncate(fd, st.Size)
		}
	}
	if !same {
		op.torn = false
	}
	_ = unix.Close(op.fd)
	op.fd, op.size = fd, st.Size
	return nil
}

// startOver puts an empty file in the path's place, as conmon does; readers of
// the old one can finish it.
func startOver(dir int, name string) error {
	temp := name + tempSuffix
	_ = unix.Unlinkat(dir, temp, 0) // somebody who died here may have left one
	fd, err := unix.Openat(dir, temp, logFlags|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, logMode)
	if err != nil {
		return fmt.Errorf("create %s: %w", temp, err)
	}
	_ = unix.Close(fd)
	if err := unix.Renameat(dir, temp, dir, name); err != nil {
		_ = unix.Unlinkat(dir, temp, 0)
		return fmt.Errorf("rename %s: %w", temp, err)
	}
	return nil
}

// empty shortens the file to nothing.
func (op *fileOp) empty() error {
	if err := unix.Ftruncate(op.fd, 0); err != nil {
		return fmt.Errorf("empty %s: %w", op.path, err)
	}
	op.size, op.torn = 0, false
	return nil
}

// shift renames the file to .1, what was .1 to .2 and so on; the last one goes.
func (op *fileOp) shift(dir int, name string) error {
	if op.compress != "" {
		fd, busy := lockBackup(dir, backup(name, 1))
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		if op.postponed = busy; busy {
			return nil
		}
	}
	// Up to the first number that is free: the limit may be far beyond it.
	last := 1
	for last < op.backups && hasBackup(dir, backup(name, last)) {
		last++
	}
	for _, s := range suffixes {
		_ = unix.Unlinkat(dir, backup(name, last)+s, 0)
	}
	for i := last - 1; i >= 1; i-- {
		if err := shiftOne(dir, backup(name, i), backup(name, i+1)); err != nil {
			return err
		}
	}
	first := backup(name, 1)
	if err := unix.Renameat(dir, name, dir, first); err != nil {
		return fmt.Errorf("rename %s to %s: %w", name, first, err)
	}
	if op.compress != "" {
		op.source, _ = lockBackup(dir, first)
		if op.source >= 0 {
			op.sourceDir, _ = unix.FcntlInt(uintptr(dir), unix.F_DUPFD_CLOEXEC, 3)
		}
	}
	return nil
}

// hasBackup reports whether a backup is there in any form.
func hasBackup(dir int, name string) bool {
	var st unix.Stat_t
	for _, s := range suffixes {
		if unix.Fstatat(dir, name+s, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
			return true
		}
	}
	return false
}

// shiftOne renames a backup in whichever form it is there. If it is there twice,
// a compressing child died between its last two steps: the compressed one is
// whole, then, and the other one would be a duplicate.
func shiftOne(dir int, from, to string) error {
	var st unix.Stat_t
	for _, s := range suffixes[1:] {
		if unix.Fstatat(dir, from+s, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
			_ = unix.Unlinkat(dir, from, 0)
		}
	}
	for _, s := range suffixes {
		if err := unix.Renameat(dir, from+s, dir, to+s); err != nil && err != unix.ENOENT {
			return fmt.Errorf("rename %s to %s: %w", from+s, to+s, err)
		}
	}
	return nil
}

func backup(name string, i int) string { return name + "." + strconv.Itoa(i) }

// lockBackup opens a backup and locks it. The lock goes with the descriptor to
// the compressing child and tells whoever shifts the backups, also a later
// monitor of the same path, that the child is at work: busy is true then.
func lockBackup(dir int, name string) (fd int, busy bool) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, false
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err == unix.EWOULDBLOCK {
		_ = unix.Close(fd)
		return -1, true
	}
	return fd, false
}
