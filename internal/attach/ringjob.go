package attach

import (
	"time"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/offload"
	"conmon/internal/poll"
)

// What a ringJob does.
type ringKind uint8

const (
	ringWrite ringKind = iota // and makes the file if there is none
	ringRead
	ringProbe // closes a duplicate, as a child does
	ringRelease
)

// ringJob is one operation on a ring's file. Whoever runs it owns it and its
// buffer.
type ringJob struct {
	kind   ringKind
	dirs   []string
	fd     int
	memory bool
	size   int64
	pos    int64
	buf    []byte
	done   int
}

// whole reports whether all of the buffer was read or written.
func (j *ringJob) whole() bool { return j.done == len(j.buf) }

// Run does it. Any of these calls may hang on a dead file system.
func (j *ringJob) Run() {
	switch j.kind {
	case ringWrite:
		if j.fd < 0 {
			j.fd, j.memory = makeBacklogFile(j.dirs)
		}
		if j.fd >= 0 {
			j.transfer(unix.Pwrite)
		}
	case ringRead:
		j.transfer(unix.Pread)
	case ringProbe:
		if fd, err := unix.FcntlInt(uintptr(j.fd), unix.F_DUPFD_CLOEXEC, 3); err == nil {
			_ = unix.Close(fd)
		}
	case ringRelease:
		_ = unix.Close(j.fd)
	}
}

// transfer moves the buffer to or from the file, as far as that works.
func (j *ringJob) transfer(call func(fd int, b []byte, offset int64) (int, error)) {
	for !j.whole() {
		offset := (j.pos + int64(j.done)) % j.size
		fits := int(min(int64(len(j.buf)-j.done), j.size-offset))
		n, err := call(j.fd, j.buf[j.done:j.done+fits], offset)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return
		}
		j.done += n
	}
}

const (
	// ringPatience is how long the loop waits for the file at a stretch.
	ringPatience = 100 * clock.Millisecond
	// patienceShare is the part of its time that the loop spends waiting for a
	// file that is slow all the time.
	patienceShare = 4
	// ringMoment is what an operation is given even so, for most need no more.
	ringMoment = clock.Millisecond
	// ringHope is how long a pending operation counts as slow, not dead.
	ringHope = clock.Second
)

// ringHelper is who works on the file beside the loop. It is hired when the file
// is first needed, because it costs each monitor memory.
type ringHelper struct {
	worker   *offload.Worker
	bell     poll.Bell // what was pending is over
	job      ringJob
	work     offload.Job // the job, or what a test puts in its place
	patience clock.Mono  // how long the loop may still wait
	last     clock.Mono  // when that was
}

// hire makes the helper, and reports whether that was possible.
func (r *ring) hire() bool {
	bell, err := poll.NewBell()
	if err != nil {
		return false
	}
	if r.w.Add(bell.FD(), r.tag, poll.In) != nil {
		bell.Close()
		return false
	}
	h := &ringHelper{worker: offload.New(bell.Ring), bell: bell, patience: ringPatience, last: clock.Now()}
	h.work = &h.job
	r.helper = h
	return true
}

// run does the job and reports whether it is over. Waiting uses up patience,
// which comes back with time, so that many operations on a slow file do not add
// up to a loop that does not notice the container's end.
func (h *ringHelper) run() bool {
	before := clock.Now()
	h.patience = min(h.patience+(before-h.last)/patienceShare, ringPatience)
	over := h.worker.Do(h.work, time.Duration(max(h.patience, ringMoment)))
	h.last = clock.Now()
	h.patience = max(h.patience-(h.last-before), 0)
	return over
}

// await waits for what is pending, and reports whether it is over.
func (h *ringHelper) await(limit clock.Mono) bool {
	for h.worker.Busy() {
		left := limit - clock.Now()
		if left <= 0 {
			return false
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(h.bell.FD()), Events: unix.POLLIN}}, int(left/clock.Millisecond)+1)
		h.bell.Hear()
	}
	return true
}

// dismiss ends the helper when its job is over. Until then the bell is kept: its
// number must not be another's when it rings.
func (h *ringHelper) dismiss() { h.worker.CloseWith(h.bell.Close) }

// release closes a descriptor whose closing may hang.
func release(fd int) {
	w := offload.New(func() {})
	w.Do(&ringJob{kind: ringRelease, fd: fd}, time.Duration(ringMoment))
	w.Close()
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
