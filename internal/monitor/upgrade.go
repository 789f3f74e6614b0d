package monitor

import (
	"fmt"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/handoff"
	"conmon/internal/poll"
	"conmon/internal/proc"
)

// upgrade is a live upgrade on its way. First the new binary is tried: a child
// runs it on a copy of the state, and only if that says that it can take over
// is it executed in our place. Until then nothing has changed.
type upgrade struct {
	path  string
	child proc.Process
	reply int         // the child's standard output
	file  unix.Stat_t // the binary that was tried
	limit clock.Mono  // when the child must have answered
	ready bool        // the child was content
	last  string      // why the last attempt failed, "" if none did
	count int         // upgrades so far
}

// checkTime bounds how long a new binary may take to read the state.
const checkTime = 5 * clock.Second

// startUpgrade begins to replace the running program by the one at path, "" for
// the one that is now where ours was started from.
func (m *Monitor) startUpgrade(path string) {
	if path == "" {
		path = m.self.path
	}
	if m.up.child.Exists() {
		return // one is on its way, and answers for this one, too
	}
	if err := m.tryBinary(path); err != nil {
		m.upgradeFailed(err)
	}
}

func (m *Monitor) upgradeFailed(err error) {
	m.up.last = "upgrade to " + m.up.path + ": " + err.Error()
	m.diag.Error(m.up.last)
	m.status.UpgradeFailed(m.up.last)
}

func (m *Monitor) tryBinary(path string) error {
	m.up.path = path
	if m.phase != running {
		return fmt.Errorf("the container is not running")
	}
	if !filepath.IsAbs(path) {
		return fmt.Errorf("not an absolute path")
	}
	if err := unix.Stat(path, &m.up.file); err != nil {
		return err
	}
	st := m.save()
	state, err := st.File()
	if err != nil {
		return err
	}
	defer unix.Close(state)
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/null: %w", err)
	}
	defer unix.Close(null)
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return fmt.Errorf("pipe: %w", err)
	}
	defer unix.Close(p[1])
	// Only the state's copy goes to the child, not what it speaks of: a strange
	// program must not hold the container's pipes.
	_, _ = unix.FcntlInt(uintptr(state), unix.F_SETFD, 0)
	pid, pidfd, err := proc.Start(&proc.Command{
		// A program that is not this monitor must not act on the engine's
		// arguments: conmon itself would start a second container.
		Path: path, Argv: []string{path, "--version"}, Env: handoff.CheckEnv(syscall.Environ(), state),
		Files: []int{null, p[1], null}, ParentDeath: true, Setsid: true, OOMScoreAdj: m.self.oomScoreAdj,
	})
	if err != nil {
		_ = unix.Close(p[0])
		return err
	}
	m.up.child, m.up.reply, m.up.limit = proc.Adopt(pid, pidfd), p[0], deadlineIn(checkTime)
	return m.poller.Add(pidfd, poll.Tag{Owner: ownUpgrade}, poll.In)
}

// upgradeChecked notices the end of the child that tried the new binary, and
// carries the upgrade out if the child was content.
func (m *Monitor) upgradeChecked(pid int, ws unix.WaitStatus) bool {
	if !m.up.child.Exists() || pid != m.up.child.Pid {
		return false
	}
	m.poller.Remove(m.up.child.FD())
	m.up.child.Close()
	m.up.limit = 0
	var b [4096]byte
	n, _ := unix.Read(m.up.reply, b[:])
	_ = unix.Close(m.up.reply)
	if reply := string(b[:max(n, 0)]); ws != 0 || reply != handoff.CheckReply {
		m.upgradeFailed(fmt.Errorf("it %s and did not say that it can take over", describe(ws)))
		return true
	}
	m.up.ready = true
	return true
}

// carryOut executes the new binary. It returns only if that was not possible.
func (m *Monitor) carryOut() {
	m.up.ready = false
	if m.phase != running {
		m.upgradeFailed(fmt.Errorf("the container has ended"))
		return
	}
	var now unix.Stat_t
	if err := unix.Stat(m.up.path, &now); err != nil || now.Dev != m.up.file.Dev || now.Ino != m.up.file.Ino || now.Mtim != m.up.file.Mtim {
		m.upgradeFailed(fmt.Errorf("the file changed while it was being tried"))
		return
	}
	if m.log.Busy() {
		m.upgradeFailed(fmt.Errorf("a log file hangs, and what is being written cannot be handed over"))
		return
	}
	st := m.save()
	m.upgradeFailed(st.Exec(m.up.path, m.self.argv))
}
