package oom

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"path/filepath"
	"strconv"

	"github.com/containerd/cgroups/v3"
	"golang.org/x/sys/unix"
)

// noFiles is the state of watching nothing.
func noFiles() files { return files{-1, -1, -1, -1, -1} }

// close closes what is open.
func (f files) close() {
	for _, fd := range [...]int{f.events, f.local, f.members, f.bell, f.dir} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// locate finds the cgroup of the process behind proc, a descriptor of its
// directory in /proc. Of a process that was reaped there is nothing to find.
func locate(proc int) (place, error) {
	fd, err := unix.Openat(proc, "cgroup", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return place{}, fmt.Errorf("open its cgroup file: %w", err)
	}
	text, err := io.ReadAll(reader(fd))
	_ = unix.Close(fd)
	if err != nil {
		return place{}, fmt.Errorf("read its cgroup file: %w", err)
	}
	version, path, err := memoryPath(string(text))
	if err != nil {
		return place{}, err
	}
	if cgroups.Mode() == cgroups.Unified && version == 2 {
		return place{version, filepath.Join("/sys/fs/cgroup", path)}, nil
	}
	mounts, err := open("/proc/self/mountinfo")
	if err != nil {
		return place{}, err
	}
	defer unix.Close(mounts)
	dir, err := mountedAt(reader(mounts), version, path)
	return place{version, dir}, err
}

// openV2 opens what is watched of a v2 cgroup. Only memory.events is needed:
// memory.events.local came with Linux 5.2.
func openV2(dir string) (files, error) {
	f := noFiles()
	var err error
	if f.events, err = open(filepath.Join(dir, "memory.events")); err != nil {
		return f, err
	}
	f.local, _ = open(filepath.Join(dir, "memory.events.local"))
	f.members, _ = open(filepath.Join(dir, "cgroup.events"))
	return f, nil
}

// openV1 opens a v1 cgroup's memory.oom_control and has the kernel ring an
// eventfd at every OOM of the cgroup and of any above it - and when the cgroup is
// removed, so that a ring alone means nothing.
func openV1(dir string) (f files, err error) {
	f = noFiles()
	defer func() {
		if err != nil {
			f.close()
			f = noFiles()
		}
	}()
	if f.events, err = open(filepath.Join(dir, "memory.oom_control")); err != nil {
		return f, err
	}
	f.dir, _ = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if f.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return f, fmt.Errorf("eventfd: %w", err)
	}
	path := filepath.Join(dir, "cgroup.event_control")
	control, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return f, fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(control)
	if _, err = unix.Write(control, []byte(strconv.Itoa(f.bell)+" "+strconv.Itoa(f.events))); err != nil {
		return f, fmt.Errorf("register for oom events in %s: %w", path, err)
	}
	return f, nil
}

// read reads a cgroup's counters; for v1, last are those of the previous look
// and rang says that the eventfd rang. ENODEV means that the cgroup was removed.
func read(at place, f files, last counts, rang bool) (counts, error) {
	if at.version == 1 {
		return readV1(at.dir, f, last, rang)
	}
	var events, local [512]byte
	n, err := unix.Pread(f.events, events[:], 0)
	if err != nil {
		return counts{}, err
	}
	m := 0
	if f.local >= 0 {
		// Without it, whose limit it was remains open; nothing else does.
		m, _ = unix.Pread(f.local, local[:], 0)
	}
	return parseEvents(events[:n], local[:max(m, 0)]), nil
}

// readV1 makes counts of a v1 cgroup's memory.oom_control. The kernel counts
// only kills there, each cgroup for itself, so those below are added up. An OOM
// without a kill is a ring while the cgroup is under_oom and its parent, asked
// before and after, is not: a parent's OOM puts all below it under_oom too.
// Kernels before 4.13 count nothing: there a ring must do.
func readV1(dir string, f files, last counts, rang bool) (counts, error) {
	above := rang && underOOM(readControl(filepath.Dir(dir)))
	var control [256]byte
	n, err := unix.Pread(f.events, control[:], 0)
	if err != nil {
		return counts{}, err
	}
	now := last
	kills, counted := value(control[:n], "oom_kill")
	if counted {
		now.kill = kills
		// By its descriptor, as finding the way to it takes as long as all else.
		var st unix.Stat_t
		if unix.Fstat(f.dir, &st) != nil || !childless(&st) {
			now.kill += killsBelow(dir)
		}
	}
	own := rang && underOOM(control[:n]) && !above && !underOOM(readControl(filepath.Dir(dir)))
	if own || rang && !counted {
		now.oom++
		now.local++
	}
	return now, nil
}

func underOOM(control []byte) bool {
	n, _ := value(control, "under_oom")
	return n > 0
}

// maxCgroups bounds a look at a v1 cgroup in which the container made others.
const maxCgroups = 1000

// killsBelow adds up the kills of the cgroups below a v1 cgroup.
func killsBelow(dir string) int {
	sum := 0
	dirs := appendChildren(nil, dir)
	for i := 0; i < len(dirs) && i < maxCgroups; i++ {
		kills, _ := value(readControl(dirs[i]), "oom_kill")
		sum += kills
		dirs = appendChildren(dirs, dirs[i])
	}
	return sum
}

// childless reports whether a cgroup has none below it, as most have: its links
// are then its name and its own dot.
func childless(st *unix.Stat_t) bool { return st.Nlink == 2 }

// appendChildren appends the directories in dir. One that vanishes meanwhile
// has none. It reads them by itself, as os.ReadDir allocates 12 kB each time,
// which a monitor keeps for good.
func appendChildren(dirs []string, dir string) []string {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil || childless(&st) {
		return dirs
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return dirs
	}
	defer unix.Close(fd)
	var buf [4096]byte
	for {
		n, err := unix.ReadDirent(fd, buf[:])
		if n <= 0 || err != nil {
			return dirs
		}
		for b := buf[:n]; len(b) > direntName; {
			size := int(binary.NativeEndian.Uint16(b[direntSize:]))
			name, _, _ := bytes.Cut(b[direntName:size], []byte{0})
			if b[direntType] == unix.DT_DIR && string(name) != "." && string(name) != ".." {
				dirs = append(dirs, dir+"/"+string(name))
			}
			b = b[size:]
		}
	}
}

// Where the parts of a linux_dirent64 are.
const (
	direntSize = 16
	direntType = 18
	direntName = 19
)

// readControl reads the memory.oom_control of dir, nothing if there is none: the
// directory above the hierarchy has none.
func readControl(dir string) []byte {
	fd, err := open(filepath.Join(dir, "memory.oom_control"))
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var b [256]byte
	n, _ := unix.Read(fd, b[:])
	return b[:max(n, 0)]
}

// open opens path for reading, close-on-exec. Reads of cgroup files never block.
func open(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", path, err)
	}
	return fd, nil
}

// reader makes an io.Reader of a descriptor without the runtime's poller, which
// an os.File would start.
type reader int

func (r reader) Read(p []byte) (int, error) {
	n, err := unix.Read(int(r), p)
	switch {
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}
