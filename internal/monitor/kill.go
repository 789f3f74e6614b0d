package monitor

import (
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

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

// maxKillRounds bounds the race against a fork bomb.
const maxKillRounds = 10

// killSession kills an exec session's process tree, and members of its cgroup
// that hold our pipes: a descendant that made itself independent is known by
// them. Others cannot be told from the container's own processes.
func (m *Monitor) killSession() {
	s := session{
		tree:   map[int]bool{m.container.Pid: true},
		cgroup: readFile(m.container.Pid, "cgroup"),
		pipes:  pipeNames(m.streams[:]),
	}
	// The tree is read before its root dies: then its branches have other parents.
	found := s.scan()
	m.killGroup()
	for range maxKillRounds {
		// Again until nobody is found: a process may fork while we look.
		if !killAll(found) {
			return
		}
		found = s.scan()
	}
}

// killOrphans kills whatever descends from us: what a runtime has left behind
// that has made no container.
func killOrphans() {
	s := session{tree: map[int]bool{os.Getpid(): true}}
	for range maxKillRounds {
		if !killAll(s.scan()) {
			return
		}
	}
}

// session is what tells an exec session's processes from others.
type session struct {
	tree   map[int]bool // every process of it that was ever seen
	cgroup string
	pipes  []string
}

// scan returns the session's processes and their parents.
func (s *session) scan() map[int]int {
	parents := map[int]int{}
	for pid := range processes() {
		parents[pid] = parentOf(pid)
	}
	found := map[int]int{}
	for pid, parent := range parents {
		if pid == os.Getpid() {
			continue
		}
		if s.descends(pid, parents) || s.cgroup != "" && readFile(pid, "cgroup") == s.cgroup && holdsAny(pid, s.pipes) {
			found[pid] = parent
		}
	}
	for pid := range found {
		s.tree[pid] = true
	}
	return found
}

// killAll kills processes, given with their parents, and reports whether there
// was somebody to kill. Parents go first: a shell comments on a child's death.
func killAll(found map[int]int) (killed bool) {
	depth := func(pid int) (n int) {
		for range len(found) {
			parent, ok := found[pid]
			if !ok {
				break
			}
			pid = parent
			n++
		}
		return n
	}
	pids := slices.SortedFunc(maps.Keys(found), func(a, b int) int { return depth(a) - depth(b) })
	for _, pid := range pids {
		killed = killOne(pid, found[pid]) || killed
	}
	return killed
}

// killOne kills pid if it still is the process that was looked at: one with the
// same parent, or one whose parent has died meanwhile. It reports whether there
// was somebody to kill.
func killOne(pid, parent int) bool {
	p, err := proc.Open(pid)
	if err != nil {
		return false
	}
	defer p.Close()
	if now := parentOf(pid); now != parent && !hasEnded(parent) {
		return false
	}
	if hasEnded(pid) {
		return false
	}
	return p.Signal(unix.SIGKILL) == nil
}

// hasEnded reports whether a process is gone, or only waits to be reaped: then
// its children have another parent already.
func hasEnded(pid int) bool {
	stat := readFile(pid, "stat")
	_, rest, _ := strings.Cut(stat[strings.LastIndexByte(stat, ')')+1:], " ")
	return rest == "" || rest[0] == 'Z' || rest[0] == 'X'
}

// descends reports whether pid is of the tree or below it.
func (s *session) descends(pid int, parents map[int]int) bool {
	for range len(parents) {
		if s.tree[pid] {
			return true
		}
		if pid = parents[pid]; pid <= 1 {
			return false
		}
	}
	return false
}

// processes yields every process's number.
func processes() func(func(int) bool) {
	return func(yield func(int) bool) {
		entries, _ := os.ReadDir("/proc")
		for _, e := range entries {
			if pid, err := strconv.Atoi(e.Name()); err == nil && !yield(pid) {
				return
			}
		}
	}
}

func readFile(pid int, name string) string {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/" + name)
	return string(b)
}

// parentOf returns a process's parent, 0 if it is gone. The name in the second
// field may contain anything, so the fields are counted from its end.
func parentOf(pid int) int {
	stat := readFile(pid, "stat")
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
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

// holdsAny reports whether a process has one of the pipes open.
func holdsAny(pid int, pipes []string) bool {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd/"
	fds, _ := os.ReadDir(dir)
	for _, fd := range fds {
		name, err := os.Readlink(dir + fd.Name())
		if err != nil {
			continue
		}
		for _, p := range pipes {
			if name == p {
				return true
			}
		}
	}
	return false
}
