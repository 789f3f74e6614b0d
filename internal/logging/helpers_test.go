package logging

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/config"
	"conmon/internal/handoff"
	"conmon/internal/logging/compress"
	"conmon/internal/poll"
)

// The test binary plays the monitor's binary, which is its own compressor.
func TestMain(m *testing.M) {
	if method := os.Getenv(CompressEnv); method != "" {
		if err := compress.Run(method, os.Args[len(os.Args)-1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// rig is a Log and the part of the monitor that it needs: a loop, and children.
type rig struct {
	*Log
	t    testing.TB
	cfg  *config.Config
	p    *poll.Poller
	ends chan end
	wake chan struct{}
}

type end struct {
	pid    int
	status unix.WaitStatus
}

// newRig opens cfg's drivers as the launching image does, and loads them as the
// staying image does.
func newRig(t testing.TB, cfg config.Log) *rig {
	t.Helper()
	r := &rig{t: t, cfg: testConfig(cfg), ends: make(chan end, 100), wake: make(chan struct{}, 1)}
	var err error
	if r.p, err = poll.New(); err != nil {
		t.Fatal(err)
	}
	targets, err := Open(r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	st := new(handoff.State)
	targets.Save(st)
	r.load(st)
	t.Cleanup(func() { r.Close() })
	return r
}

func newLog(t testing.TB, cfg config.Log) *Log {
	t.Helper()
	return newRig(t, cfg).Log
}

func (r *rig) load(st *handoff.State) {
	r.t.Helper()
	var err error
	if r.Log, err = Load(r.cfg, st, r.p, 7, func() {}, r); err != nil {
		r.t.Fatal(err)
	}
}

// upgrade replaces the Log by one that has only what was saved. Descriptors stay
// open, as they do across an exec.
func (r *rig) upgrade() {
	r.t.Helper()
	st := new(handoff.State)
	r.Save(st)
	st, err := handoff.Decode(st.Encode(nil))
	if err != nil {
		r.t.Fatal(err)
	}
	if r.p, err = poll.New(); err != nil {
		r.t.Fatal(err)
	}
	r.load(st)
}

func testConfig(cfg config.Log) *config.Config {
	if cfg.MaxLine == 0 {
		cfg.MaxLine = 16384
	}
	if cfg.FlushInterval == 0 {
		cfg.FlushInterval = int64(100 * clock.Millisecond)
	}
	return &config.Config{CID: "0123456789abcdef", Name: "box", Log: cfg}
}

// turn is one turn of the monitor's loop; it waits for 10 ms at most.
func (r *rig) turn() {
	r.t.Helper()
	for {
		select {
		case e := <-r.ends:
			if !r.ChildExited(e.pid, e.status) {
				r.t.Errorf("child %d is unknown", e.pid)
			}
			continue
		default:
		}
		break
	}
	events, err := r.p.Wait(clock.Earlier(r.Deadline(), clock.Now()+10*clock.Millisecond))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, ev := range events {
		r.Ready(ev)
	}
	if now := clock.Now(); r.Deadline() != 0 && now >= r.Deadline() {
		r.Tick(now)
	}
}

// until turns the loop until cond holds.
func (r *rig) until(what string, cond func() bool) {
	r.t.Helper()
	for limit := clock.Now() + 5*clock.Second; !cond(); r.turn() {
		if clock.Now() > limit {
			r.t.Fatalf("%s: not within 5 s; %+v", what, r.Stats())
		}
	}
}

// Spawn implements Spawner.
func (r *rig) Spawn(path string, argv, env []string, fds []int, _ bool) (int, error) {
	cmd := exec.Command(path)
	cmd.Args = argv
	// The race detector would have each child sleep for a second at its end.
	cmd.Env = append(append(os.Environ(), "GORACE=atexit_sleep_ms=0"), env...)
	files := make([]*os.File, max(len(fds), 3))
	for i, fd := range fds {
		if fd >= 0 {
			dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
			if err != nil {
				return 0, err
			}
			files[i] = os.NewFile(uintptr(dup), "")
			defer files[i].Close()
		}
	}
	if files[0] != nil {
		cmd.Stdin = files[0]
	}
	if files[1] != nil {
		cmd.Stdout = files[1]
	}
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = files[3:]
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	go func() {
		_ = cmd.Wait()
		r.ends <- end{cmd.Process.Pid, unix.WaitStatus(cmd.ProcessState.Sys().(syscall.WaitStatus))}
	}()
	return cmd.Process.Pid, nil
}

// smallDisk mounts a tmpfs of so many bytes and returns where it is.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a tmpfs needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprint("size=", size)); err != nil {
		t.Skip("cannot mount a tmpfs: ", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// files returns the names of a log's files, which are path and what begins so.
func files(t testing.TB, path string) []string {
	t.Helper()
	list, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	return list
}
