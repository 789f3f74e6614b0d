package logging

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// place is where a log file lives.
type place struct {
	path  string
	allow []string // if any: the file must be below one of these
}

const (
	logFlags = unix.O_WRONLY | unix.O_APPEND | unix.O_CLOEXEC | unix.O_NOCTTY | unix.O_NONBLOCK
	logMode  = 0o640
)

// dir opens the directory that the log file is in, and returns the file's name
// there. With an allow-list, the directory it really is must be on the list; as
// everything else is done by this descriptor, replacing a part of the path with
// a symlink afterwards gains nothing. The caller owns the descriptor.
func (p place) dir() (fd int, name string, err error) {
	dir, name := ".", p.path
	if i := strings.LastIndexByte(p.path, '/'); i >= 0 {
		dir, name = p.path[:i+1], p.path[i+1:]
	}
	if name == "" || name == "." || name == ".." {
		return -1, "", fmt.Errorf("%q does not name a file", p.path)
	}
	fd, err = unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, "", fmt.Errorf("open directory %s: %w", dir, err)
	}
	if err := p.allowed(fd); err != nil {
		_ = unix.Close(fd)
		return -1, "", err
	}
	return fd, name, nil
}

// allowed checks an open directory against the allow-list.
func (p place) allowed(dir int) error {
	if len(p.allow) == 0 {
		return nil
	}
	real, err := realPath(dir)
	if err != nil {
		return err
	}
	for _, a := range p.allow {
		fd, err := unix.Open(a, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue // nothing can be below it
		}
		root, err := realPath(fd)
		_ = unix.Close(fd)
		if err == nil && below(real, root) {
			return nil
		}
	}
	return fmt.Errorf("directory %s is not below a --log-allowlist-dir", real)
}

// realPath returns an open directory's path without symlinks.
func realPath(fd int) (string, error) {
	var buf [unix.PathMax]byte
	n, err := unix.Readlink("/proc/self/fd/"+strconv.Itoa(fd), buf[:])
	if err != nil {
		return "", fmt.Errorf("read the path of a log directory: %w", err)
	}
	return string(buf[:n]), nil
}

// below reports whether the clean absolute path is root or inside it.
func below(path, root string) bool {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(root, "/"))
	return ok && (rest == "" || rest[0] == '/')
}

// open opens the log file in its directory for appending. It never waits: a
// fifo without a reader is an error. created is false if the file was there.
// The caller owns the descriptor.
func (p place) open(dir int, name string) (fd int, created bool, err error) {
	fd, err = unix.Openat(dir, name, logFlags|unix.O_CREAT|unix.O_EXCL, logMode)
	if err == nil {
		return fd, true, nil
	}
	flags := logFlags | unix.O_CREAT
	if len(p.allow) > 0 {
		flags |= unix.O_NOFOLLOW // it might lead out of the allowed directories
	}
	if err == unix.EEXIST {
		fd, err = unix.Openat(dir, name, flags, logMode)
	}
	if err != nil {
		return -1, false, fmt.Errorf("open %s: %w", p.path, err)
	}
	return fd, false, nil
}

// isSame reports whether the open file is the one that name stands for.
func isSame(file *unix.Stat_t, dir int, name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(dir, name, &st, 0) == nil && st.Ino == file.Ino && st.Dev == file.Dev
}

// inDevices reports whether path is one through which /dev/stdout and the like
// lead to a pipe; anywhere else a fifo in a log's place is a mistake or a trap.
func inDevices(path string) bool {
	return strings.HasPrefix(path, "/dev/") || strings.HasPrefix(path, "/proc/")
}
