package monitor

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
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
	reply int         // the child's standard output and error
	file  unix.Stat_t // the binary that was tried
	limit clock.Mono  // when the child must have answered, or the log must be ready
	asked bool        // to begin as soon as the log's disk answers
	ready bool        // the child was content
	last  string      // why the last attempt failed, "" if none did
	count int         // upgrades so far
}

// checkTime bounds how long a new binary may take to read the state.
const checkTime = 5 * clock.Second

// logTime bounds how long each step of an upgrade waits for a disk that is slow.
const logTime = 5 * clock.Second

// What a disk that hangs has in hand cannot be handed over: an exec would wait for
// the thread that waits for the disk.
var (
	errLogHangs    = errors.New("a log file hangs, and what is being written cannot be handed over")
	errMarkerHangs = errors.New("the disk of the OOM marker hangs")
	errClientHangs = errors.New("the disk of the attach backlog hangs")
)

// hanging says which disk hangs, if one does.
func (m *Monitor) hanging() error {
	switch {
	case m.log.Busy():
		return errLogHangs
	case m.marker != nil && m.marker.Busy():
		return errMarkerHangs
	case m.attach != nil && m.attach.Busy():
		return errClientHangs
	}
	return nil
}

// pending reports whether an upgrade is on its way.
func (u *upgrade) pending() bool { return u.child.Exists() || u.asked || u.ready }

// startUpgrade begins to replace the running program by the one at path, "" for
// the one that is now where ours was started from.
func (m *Monitor) startUpgrade(path string) {
	if path == "" {
		path = m.self.path
	}
	if m.up.pending() {
		return // one is on its way, and answers for this one, too
	}
	m.up.path, m.up.asked, m.up.limit = path, true, deadlineIn(logTime)
	m.advanceUpgrade()
}

// advanceUpgrade takes an upgrade's next step if the log is ready for it: a
// write that is on its way cannot be handed over, and a child that closes a file
// on a dead server never gets to run. The log's worker rings when it is done,
// and the limit is a deadline of the loop.
func (m *Monitor) advanceUpgrade() {
	if m.up.limit != 0 && m.phase == running && m.hanging() != nil {
		return
	}
	switch {
	case m.up.asked:
		m.up.asked, m.up.limit = false, 0
		if err := m.tryBinary(m.up.path); err != nil {
			m.upgradeFailed(err)
		}
	case m.up.ready:
		m.carryOut()
	}
}

func (m *Monitor) upgradeFailed(err error) {
	m.up.last = "upgrade to " + m.up.path + ": " + err.Error()
	m.diag.Error(m.up.last)
	m.status.UpgradeFailed(m.up.last)
}

func (m *Monitor) tryBinary(path string) error {
	if m.phase != running {
		return fmt.Errorf("the container is not running")
	}
	if err := m.hanging(); err != nil {
		return err
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
	null, err := proc.OpenNull()
	if err != nil {
		return err
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
		Files: []int{null, p[1], p[1]}, ParentDeath: true, Setsid: true, OOMScoreAdj: m.self.oomScoreAdj,
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
		m.upgradeFailed(fmt.Errorf("it %s and did not say that it can take over%s", describe(ws), quote(reply)))
		return true
	}
	m.up.ready, m.up.limit = true, deadlineIn(logTime)
	return true
}

// maxQuote bounds how much of a strange program's words is repeated.
const maxQuote = 200

// quote returns the first line of what a program said, fit for a message.
func quote(words string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(words), "\n")
	line = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, line[:min(len(line), maxQuote)])
	if line == "" {
		return ""
	}
	return ", but: " + line
}

// carryOut executes the new binary. It returns only if that was not possible.
func (m *Monitor) carryOut() {
	m.up.ready, m.up.limit = false, 0
	if m.phase != running {
		m.upgradeFailed(fmt.Errorf("the container has ended"))
		return
	}
	var now unix.Stat_t
	if err := unix.Stat(m.up.path, &now); err != nil || now.Dev != m.up.file.Dev || now.Ino != m.up.file.Ino || now.Mtim != m.up.file.Mtim {
		m.upgradeFailed(fmt.Errorf("the file changed while it was being tried"))
		return
	}
	if err := m.hanging(); err != nil {
		m.upgradeFailed(err)
		return
	}
	st := m.save()
	m.upgradeFailed(st.Exec(m.up.path, m.self.argv))
}
