package attach

import (
	"golang.org/x/sys/unix"
)

const (
	// ringSlack is what the file may hold beyond the backlog: the chunks that
	// cross the limit, before the policy takes effect.
	ringSlack = 1 << 20
	// tmpfsLimit is the largest backlog where the file would be in memory after
	// all.
	tmpfsLimit = 4 << 20
)

// ring is an unlinked file, used round and round so that it never takes more
// space than the backlog. Bytes are addressed by their position in the spool.
// The file is made when it is first needed.
type ring struct {
	dirs   []string
	fd     int   // -1: not made
	size   int64 // from where it starts over
	memory bool  // it is on a file system in memory
	none   bool  // no directory takes it, until the next reset
}

func newRing(backlog int64, dirs []string) ring {
	return ring{dirs: dirs, fd: -1, size: backlog + ringSlack}
}

// limit is how much a client may lag for the file's sake.
func (r *ring) limit() int64 {
	switch {
	case r.none:
		return spoolMemory
	case r.memory:
		return tmpfsLimit
	}
	return 1<<63 - 1
}

// write stores b at pos, and reports whether it could; what was stored between
// tail and pos stays as it is.
func (r *ring) write(tail, pos int64, b []byte) bool {
	if r.fd < 0 && !r.none {
		r.fd, r.memory = makeBacklogFile(r.dirs)
		r.none = r.fd < 0
	}
	if r.fd < 0 || pos-tail+int64(len(b)) > r.size {
		return false
	}
	for len(b) > 0 {
		offset, n := r.span(pos, len(b))
		n, err := unix.Pwrite(r.fd, b[:n], offset)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return false
		}
		b, pos = b[n:], pos+int64(n)
	}
	return true
}

// read fills b with what was stored at pos, and returns how much it could read.
func (r *ring) read(pos int64, b []byte) (done int) {
	for done < len(b) {
		offset, n := r.span(pos, len(b)-done)
		n, err := unix.Pread(r.fd, b[done:done+n], offset)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			break
		}
		done, pos = done+n, pos+int64(n)
	}
	return done
}

// span returns where pos lies in the file, and how many of n bytes fit there
// before the file starts over.
func (r *ring) span(pos int64, n int) (offset int64, fits int) {
	offset = pos % r.size
	return offset, int(min(int64(n), r.size-offset))
}

// reset is called when the contents are not needed any more. The file is kept
// until close, for it may soon be needed again.
func (r *ring) reset() { r.none = false }

// close frees the file.
func (r *ring) close() {
	if r.fd >= 0 {
		_ = unix.Close(r.fd)
	}
	r.fd, r.memory, r.none = -1, false, false
}

// makeBacklogFile makes an unlinked file in the first directory that is on a
// disk, else in the first that takes one, and returns it, or -1, and whether it
// is in memory.
func makeBacklogFile(dirs []string) (fd int, memory bool) {
	for _, wantDisk := range [...]bool{true, false} {
		for _, dir := range dirs {
			if dir == "" || onDisk(dir) != wantDisk {
				continue
			}
			if fd := unlinkedFile(dir); fd >= 0 {
				return fd, !wantDisk
			}
		}
	}
	return -1, false
}

// onDisk reports whether files in dir take up something else than memory.
func onDisk(dir string) bool {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return false
	}
	return st.Type != unix.TMPFS_MAGIC && st.Type != unix.RAMFS_MAGIC
}

// unlinkedFile makes a file without a name in dir, -1 if it cannot.
func unlinkedFile(dir string) int {
	const flags = unix.O_RDWR | unix.O_CLOEXEC
	fd, err := unix.Open(dir, flags|unix.O_TMPFILE, 0o600)
	if err == nil {
		return fd
	}
	// Not every file system knows O_TMPFILE. The name exists for a moment only,
	// and nobody can have prepared it.
	var r [8]byte
	if _, err := unix.Getrandom(r[:], 0); err != nil {
		return -1
	}
	name := append([]byte(dir), "/.conmon-backlog."...)
	for _, b := range r {
		name = append(name, 'a'+b&15, 'a'+b>>4)
	}
	if fd, err = unix.Open(string(name), flags|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o600); err != nil {
		return -1
	}
	_ = unix.Unlink(string(name))
	return fd
}
