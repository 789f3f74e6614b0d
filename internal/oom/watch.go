// Package oom notices that the kernel killed a container, or a part of it, for
// lack of memory. It watches the container's cgroup, version 2 or 1, and costs
// nothing while nothing happens there.
package oom

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/poll"
)

// The watcher's numbering of its descriptors in the poll set.
const (
	idEvents  = iota + 1 // v2: memory.events changed
	idMembers            // v2: cgroup.events changed, the cgroup may be empty
	idBell               // v1: the eventfd
)

// secondLook is how long after a v1 event another look is taken: the kernel
// rings before it has chosen its victim, and does not ring again.
const secondLook = 100 * clock.Millisecond

// Watcher watches the cgroup of one container. It is used by the goroutine that
// owns the loop. A nil Watcher watches nothing and may be used as such.
type Watcher struct {
	loop   poll.Watcher
	owner  poll.Owner
	proc   int // /proc/PID: it keeps meaning this process when the number is reused
	at     place
	files  files
	last   counts // as of the last look
	report Report
	again  clock.Mono // when to look once more, 0: never
}

// files are the descriptors of one cgroup, -1 where there is none. All are -1
// once the cgroup is gone.
type files struct {
	events  int // memory.events, v1: memory.oom_control
	local   int // memory.events.local
	members int // cgroup.events
	bell    int // the eventfd that v1 rings
	dir     int // the cgroup's directory in v1, O_PATH
}

// Watch begins to watch the cgroup of process pid, which must be there, best
// between create and start: what was counted before is none of the container's,
// nothing after it is missed. An error says why there is nothing to watch (no
// memory controller, say); the container does well without.
func Watch(pid int, loop poll.Watcher, owner poll.Owner) (*Watcher, error) {
	path := "/proc/" + strconv.Itoa(pid)
	proc, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	w := &Watcher{loop: loop, owner: owner, proc: proc, files: noFiles()}
	at, err := locate(proc)
	if err == nil {
		err = w.enter(at)
	}
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("watch the memory of process %d: %w", pid, err)
	}
	return w, nil
}

// enter opens the files of the cgroup at, takes the baseline and leaves the
// cgroup watched before, if any. After an error all is as it was.
func (w *Watcher) enter(at place) error {
	open := openV2
	if at.version == 1 {
		open = openV1
	}
	f, err := open(at.dir)
	if err != nil {
		return err
	}
	// Watched first and read then: what changes between the two is an event.
	if err := w.register(f); err != nil {
		f.close()
		return err
	}
	base, err := read(at, f, counts{}, false)
	if err != nil {
		w.unregister(f)
		f.close()
		return err
	}
	w.unregister(w.files)
	w.files.close()
	w.at, w.files, w.last = at, f, base
	return nil
}

// Ready deals with an event of one of the watcher's descriptors.
func (w *Watcher) Ready(ev poll.Event) (Report, error) {
	if w == nil {
		return Report{}, nil
	}
	switch ev.Tag.ID {
	case idBell:
		var n [8]byte
		_, _ = unix.Read(w.files.bell, n[:])
		w.again = clock.Now() + secondLook
		return w.look(true)
	case idMembers:
		// Reading is what makes the kernel tell of the next change.
		var buf [256]byte
		n, err := unix.Pread(w.files.members, buf[:], 0)
		populated, _ := value(buf[:max(n, 0)], "populated")
		if err == nil && populated == 0 {
			return w.Look()
		}
	}
	return w.look(false)
}

// Deadline returns when Tick is due, 0 if it is not.
func (w *Watcher) Deadline() clock.Mono {
	if w == nil {
		return 0
	}
	return w.again
}

// Tick takes the look that is due at now.
func (w *Watcher) Tick(now clock.Mono) (Report, error) {
	if w == nil || w.again == 0 || now < w.again {
		return w.Report(), nil
	}
	w.again = 0
	return w.look(false)
}

// Report returns what was known at the last look, none of it new.
func (w *Watcher) Report() Report {
	if w == nil {
		return Report{}
	}
	r := w.report
	r.New, r.Gone = false, false
	return r
}

// Look looks now, and follows the container if it was moved out of the cgroup
// (a move to a cgroup below changes nothing: events count upwards). On v2 the
// kernel tells of a move; on v1 the monitor may call Look when it suspects one.
func (w *Watcher) Look() (Report, error) {
	if w == nil {
		return Report{}, nil
	}
	r, err := w.look(false)
	if err == nil && w.files.events >= 0 {
		w.follow()
	}
	return r, err
}

// LastLook looks for the last time. It belongs right behind the news that the
// container has ended, before anything that takes time: systemd removes an empty
// cgroup at once, and the counters with it. Close can wait until nobody does.
func (w *Watcher) LastLook() (Report, error) {
	if w == nil {
		return Report{}, nil
	}
	return w.look(false)
}

// look reads the counters and adds up what is new. rang says that a v1 event is
// the reason. A cgroup that cannot be read any more is not watched further:
// epoll would report its descriptors for ever.
func (w *Watcher) look(rang bool) (Report, error) {
	w.report.New, w.report.Gone = false, false
	if w.files.events < 0 {
		return w.report, nil
	}
	now, err := read(w.at, w.files, w.last, rang)
	if err == nil {
		w.report.add(grown(w.last, now))
		w.last = now
		return w.report, nil
	}
	if w.follow() {
		return w.report, nil
	}
	w.leave()
	if err == unix.ENODEV {
		w.report.Gone, err = true, nil
	} else {
		err = fmt.Errorf("read the memory events of %s: %w", w.at.dir, err)
	}
	return w.report, err
}

// follow watches the cgroup that the container is in now, if it is neither the
// one watched nor below it. Its counters begin at what they are now: what it
// counted before may have been about somebody else.
func (w *Watcher) follow() bool {
	at, err := locate(w.proc)
	return err == nil && !at.below(w.at) && w.enter(at) == nil
}

// leave stops watching the cgroup and closes its files.
func (w *Watcher) leave() {
	w.unregister(w.files)
	w.files.close()
	w.files, w.again = noFiles(), 0
}

// Close stops watching and closes every descriptor. What was reported stays in
// Report.
func (w *Watcher) Close() {
	if w == nil {
		return
	}
	w.leave()
	if w.proc >= 0 {
		_ = unix.Close(w.proc)
		w.proc = -1
	}
}

// register puts the descriptors that tell of events into the loop.
func (w *Watcher) register(f files) error {
	for _, x := range f.watched() {
		if x.fd < 0 {
			continue
		}
		if err := w.loop.Add(x.fd, poll.Tag{Owner: w.owner, ID: x.id}, x.mask); err != nil {
			w.unregister(f)
			return err
		}
	}
	return nil
}

// unregister takes them out again.
func (w *Watcher) unregister(f files) {
	for _, x := range f.watched() {
		if x.fd >= 0 {
			w.loop.Remove(x.fd)
		}
	}
}

// watched lists the descriptors that tell of events, and what to watch each for.
// A file of the cgroup file system is always readable; news is EPOLLPRI, until
// the file is read.
func (f files) watched() [3]struct {
	fd   int
	id   uint32
	mask uint32
} {
	return [...]struct {
		fd   int
		id   uint32
		mask uint32
	}{{f.events, idEvents, poll.Pri}, {f.members, idMembers, poll.Pri}, {f.bell, idBell, poll.In}}
}
