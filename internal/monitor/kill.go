package monitor

import (
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/proc"
)

// killContainer kills the container's process group, as conmon does when the
// time is up, and of an exec session whatever else can be told to belong to it.
func (m *Monitor) killContainer() {
	if m.cfg.Exec {
		m.killSession()
		return
	}
	m.killGroup()
}

// killGroup kills the container's process and its group.
func (m *Monitor) killGroup() {
	// The group is only asked for while the pidfd says that the number is ours.
	if m.container.Signal(0) == nil {
		if group, err := unix.Getpgid(m.container.Pid); err == nil && group > 1 && group != unix.Getpgrp() {
			_ = unix.Kill(-group, unix.SIGKILL)
		}
	}
	_ = m.container.Signal(unix.SIGKILL)
}

const (
	// maxKillRounds bounds the race against a fork bomb.
	maxKillRounds = 10
	// lookTime bounds the first look at the machine's processes, before anybody
	// is killed.
	lookTime = clock.Second
	// killTime bounds all that follows: once an exec session's first process is
	// killed, its exit file is due, and endTime leaves this much.
	killTime = 250 * clock.Millisecond
)

// killSession kills an exec session's process tree, and members of its cgroup
// that hold our pipes: a descendant that made itself independent is known by
// them. Others cannot be told from the container's own processes.
func (m *Monitor) killSession() {
	s := session{census: newCensus(m.container.Pid), pipes: pipeNames(m.streams[:])}
	defer s.close()
	root, _ := s.look(int32(m.container.Pid))
	s.since = root.start
	s.cgroup = string(s.read(root.pid, "/cgroup"))
	// The tree is read before its root dies: then its branches have other parents.
	s.scan(deadlineIn(lookTime))
	m.killGroup()
	s.kill()
}

// killOrphans kills whatever descends from us: what a runtime has left behind
// that has made no container.
func killOrphans() {
	s := session{census: newCensus(os.Getpid())}
	defer s.close()
	s.scan(deadlineIn(lookTime))
	s.kill()
}

// session is what tells an exec session's processes from others.
type session struct {
	*census
	since  uint64 // when it began: who is older does not belong to it
	cgroup string
	pipes  []string
}

// scan finds the session's processes.
func (s *session) scan(limit clock.Mono) {
	s.take(limit)
	for i := range s.rows {
		p := &s.rows[i]
		if p.depth != outside || p.start < s.since || len(s.pipes) == 0 || clock.Now() >= limit {
			continue
		}
		if string(s.read(p.pid, "/cgroup")) == s.cgroup && s.holdsAny(p.pid, s.pipes) {
			p.depth = 1
		}
	}
	s.remember()
}

// kill kills who was found, and looks again until nobody is found: a process may
// fork while we look.
func (s *session) kill() {
	limit := deadlineIn(killTime)
	for range maxKillRounds {
		if !s.killAll(limit) || clock.Now() >= limit {
			return
		}
		s.scan(limit)
	}
}

// killAll kills those who were found, and reports whether there was somebody to
// kill. Parents go first: a shell comments on a child's death.
func (s *session) killAll(limit clock.Mono) (killed bool) {
	slices.SortFunc(s.rows, byDepth)
	self := int32(os.Getpid())
	for i := range s.rows {
		if p := &s.rows[i]; p.depth > 0 && p.pid != self && clock.Now() < limit {
			killed = s.killOne(p) || killed
		}
	}
	return killed
}

// killOne kills p if it still is the process that was looked at. It reports
// whether there was somebody to kill.
func (c *census) killOne(p *process) bool {
	handle, err := proc.Open(int(p.pid))
	if err != nil {
		return false
	}
	defer handle.Close()
	now, alive := c.look(p.pid)
	return alive && now.start == p.start && handle.Signal(unix.SIGKILL) == nil
}

// pipeNames returns the names under which /proc shows the pipes of streams.
func pipeNames(streams []stream) []string {
	var names []string
	for _, s := range streams {
		if s.fd >= 0 && s.master == nil {
			if name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(s.fd)); err == nil {
				names = append(names, name)
			}
		}
	}
	return names
}
