// Package compress is the child that compresses a log's backup: a process of its
// own, so that the monitor's memory stays as it is, and one that finishes its
// work by itself if the monitor ends before it.
package compress

import (
	"compress/gzip"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// The descriptors that the child is started with. The backup is locked (flock)
// for as long as it is open: nobody shifts it to another name meanwhile.
const (
	source    = 0 // the backup, open for reading
	directory = 1 // where it is
)

// Run compresses the backup called name by method, "gzip" or "zstd", into
// name.gz or name.zst and removes it. The new name appears when it is whole and
// on the disk; after an error everything is as it was.
func Run(method, name string) error {
	suffix, ok := map[string]string{"gzip": ".gz", "zstd": ".zst"}[method]
	if !ok {
		return fmt.Errorf("compress %s: no method %q", name, method)
	}
	var st unix.Stat_t
	if err := unix.Fstat(source, &st); err != nil {
		return fmt.Errorf("stat %s: %w", name, err)
	}
	temp := name + suffix + ".tmp"
	_ = unix.Unlinkat(directory, temp, 0) // of a child that was killed
	fd, err := unix.Openat(directory, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, st.Mode&0o777)
	if err != nil {
		return fmt.Errorf("create %s: %w", temp, err)
	}
	out := os.NewFile(uintptr(fd), temp)
	err = fill(out, method)
	if err == nil {
		err = replace(&st, name, temp, name+suffix)
	}
	if err != nil {
		_ = unix.Unlinkat(directory, temp, 0)
	}
	return err
}

// fill writes the compressed backup to out and closes it.
func fill(out *os.File, method string) error {
	defer out.Close()
	w, err := compressor(out, method)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, os.NewFile(source, "backup")); err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	return out.Sync()
}

func compressor(out io.Writer, method string) (io.WriteCloser, error) {
	if method == "gzip" {
		return gzip.NewWriter(out), nil
	}
	// One block at a time: a backup is not worth the memory of several.
	return zstd.NewWriter(out, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
}

// replace gives temp its name and removes the backup, unless that name stands
// for another file by now.
func replace(backup *unix.Stat_t, name, temp, final string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(directory, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("stat %s: %w", name, err)
	}
	if st.Ino != backup.Ino || st.Dev != backup.Dev {
		return fmt.Errorf("%s is another file by now", name)
	}
	if err := unix.Renameat(directory, temp, directory, final); err != nil {
		return fmt.Errorf("rename %s: %w", temp, err)
	}
	if err := unix.Unlinkat(directory, name, 0); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}
