package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds every wait for a monitor.
const patience = 60 * time.Second

// job says what a monitor is started for.
type job struct {
	mode   []string // what the container does, see tool/tool.c
	driver string   // --log-path; empty: a CRI log file in the bundle
	tty    bool
}

// monitor is a monitor that was started, and its container.
type monitor struct {
	b         *bench
	id        string
	dir       string // the bundle
	log       string // the CRI log file
	pid       int
	container int
	startup   time.Duration // from before the exec to the pid on the sync pipe
	cpu       time.Duration // processor time of the dead monitor, set by end
}

// start starts a monitor as Podman would and waits for the container's pid.
func (b *bench) start(s *side, j job) (*monitor, error) {
	b.lastID++
	m := &monitor{b: b, id: fmt.Sprintf("benchmark%07d", b.lastID)}
	m.dir = filepath.Join(b.dir, strconv.Itoa(b.lastID))
	m.log = filepath.Join(m.dir, "log")
	if err := os.Mkdir(m.dir, 0o755); err != nil {
		return nil, err
	}
	if err := m.launch(s, j); err != nil {
		return nil, fmt.Errorf("start %s: %w; it said: %q", s.Path, err, b.complaints())
	}
	b.live[m] = true
	pid, err := os.ReadFile(filepath.Join(m.dir, "conmon.pid"))
	if err != nil {
		return nil, err
	}
	m.pid, err = strconv.Atoi(string(pid))
	return m, err
}

// launch runs the launching process and reads the sync pipe.
func (m *monitor) launch(s *side, j job) error {
	sync, start := [2]int{}, [2]int{}
	if err := unix.Pipe2(sync[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	defer unix.Close(sync[0])
	if err := unix.Pipe2(start[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	// The permission to start is there before it is asked for: how long an
	// engine takes to give it is not the monitor's doing.
	_, err := unix.Write(start[1], []byte{0})
	unix.Close(start[1])
	if err != nil {
		return err
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	attr := &syscall.ProcAttr{
		Dir: m.dir,
		Env: []string{
			"PATH=" + os.Getenv("PATH"), "_OCI_SYNCPIPE=3", "_OCI_STARTPIPE=4",
			// Where /run is not a tmpfs our side would pay for its disk.
			"CONMON_REGISTRY_DIR=" + filepath.Join(m.b.dir, "registry"),
		},
		Files: []uintptr{uintptr(null), uintptr(null), m.b.stderr.Fd(), uintptr(sync[1]), uintptr(start[0])},
	}
	argv := m.argv(s, j)
	begin := time.Now()
	launcher, err := syscall.ForkExec(s.Path, argv, attr)
	unix.Close(sync[1])
	unix.Close(start[0])
	unix.Close(null)
	if err != nil {
		return err
	}
	m.container, err = readPid(sync[0])
	m.startup = time.Since(begin)
	_, _ = wait4(launcher)
	return err
}

func (m *monitor) argv(s *side, j job) []string {
	file := func(name string) string { return filepath.Join(m.dir, name) }
	argv := []string{
		s.Path, "--api-version", "1", "-c", m.id, "-u", m.id, "-n", m.id, "-b", m.dir,
		"-r", m.b.tool, "-p", file("pidfile"), "-P", file("conmon.pid"), "--full-attach",
		"--exit-dir", m.b.exits.dir, "--persist-dir", m.dir, "--log-level", "error",
	}
	for _, word := range j.mode {
		argv = append(argv, "--runtime-arg", word)
	}
	if j.tty {
		argv = append(argv, "-t")
	}
	switch j.driver {
	case "":
		return append(argv, "-l", "k8s-file:"+m.log)
	case jsonFile:
		if s == m.b.base {
			return append(argv, "-l", "k8s-file:"+m.log) // conmon has nothing nearer
		}
		return append(argv, "-l", jsonFile+":"+m.log)
	}
	return append(argv, "-l", j.driver)
}

// Log drivers.
const (
	jsonFile = "json-file"
	journald = "journald"
)

// readPid reads the message with the container's pid, {"data": N} and a newline.
func readPid(fd int) (int, error) {
	var msg []byte
	buf := make([]byte, 4096)
	set := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for !bytes.HasSuffix(msg, []byte("\n")) {
		if n, _ := unix.Poll(set, int(patience.Milliseconds())); n == 0 {
			return 0, fmt.Errorf("no message on the sync pipe after %v", patience)
		}
		n, err := unix.Read(fd, buf)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return 0, err
		}
		if n == 0 {
			return 0, errors.New("the sync pipe was closed without a message")
		}
		msg = append(msg, buf[:max(n, 0)]...)
	}
	digits := strings.TrimSuffix(strings.TrimPrefix(string(msg), `{"data": `), "}\n")
	pid, err := strconv.Atoi(digits)
	if err != nil || pid <= 0 {
		return 0, fmt.Errorf("message %q on the sync pipe", msg)
	}
	return pid, nil
}

// begin tells the container to start its work.
func (m *monitor) begin() error {
	return unix.Kill(m.container, unix.SIGUSR1)
}

// kill ends the container.
func (m *monitor) kill() error {
	return unix.Kill(m.container, unix.SIGKILL)
}

// end waits for the monitor, whose container has ended, notes its processor
// time, and removes the bundle. A monitor that stays is killed.
func (m *monitor) end() {
	delete(m.b.live, m)
	deadline := time.AfterFunc(patience, func() { _ = unix.Kill(m.pid, unix.SIGKILL) })
	defer deadline.Stop()
	// The time is read while the monitor is a zombie: complete, and without
	// the container's, which wait4 would add.
	for unix.Waitid(unix.P_PID, m.pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	m.cpu, _ = cpuTime(m.pid)
	_, _ = wait4(m.pid)
	_ = os.RemoveAll(m.dir)
}

func wait4(pid int) (unix.WaitStatus, error) {
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &status, 0, nil)
		if err != unix.EINTR {
			return status, err
		}
	}
}
