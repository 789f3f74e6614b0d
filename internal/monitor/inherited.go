package monitor

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// inherited are the descriptors that the engine parked in us for the container's
// life, published ports above all.
type inherited struct {
	fds   []int
	known bool
}

// find lists everything that is not ours; ours is close-on-exec. Nothing is ever
// added, so this may be done at leisure and not when the exit file is waited for.
func (i *inherited) find() {
	dir, err := unix.Open("/proc/self/fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(dir)
	var names []string
	for {
		var b [2048]byte
		n, err := unix.ReadDirent(dir, b[:])
		if n <= 0 || err != nil {
			break
		}
		_, _, names = unix.ParseDirent(b[:n], -1, names)
	}
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil || fd < 3 {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			i.fds = append(i.fds, fd)
		}
	}
	i.known = true
}

// closeInherited closes them.
func (m *Monitor) closeInherited() {
	if !m.parked.known {
		m.parked.find()
	}
	for _, fd := range m.parked.fds {
		_ = unix.Close(fd)
	}
	m.parked.fds = nil
}
