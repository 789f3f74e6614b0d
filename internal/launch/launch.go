// Package launch is the short life of the process that the engine started: it
// checks what can be checked, waits for the engine, and starts the image that
// stays.
package launch

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"github.com/coreos/go-systemd/v22/journal"
	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/config"
	"conmon/internal/diag"
	"conmon/internal/handoff"
	"conmon/internal/logging"
	"conmon/internal/parent"
	"conmon/internal/proc"
)

// Run launches the monitor for cfg. It returns once the monitor runs on its own
// and its pid file is written; with --sync it returns only an error, because
// this process becomes the monitor.
func Run(cfg *config.Config, argv []string) error {
	unix.Umask(0o022) // the log and the pid file have the modes that engines expect
	pipes, err := parent.FromEnv(os.LookupEnv, cfg.ExecAttach)
	if err == nil {
		err = launch(cfg, pipes, argv)
	}
	if err != nil {
		report(cfg, pipes.Sync, err.Error())
	}
	return err
}

// Refuse tells the engine that its command line was refused. cfg is what was
// understood of it.
func Refuse(cfg *config.Config, reason error) {
	pipes, _ := parent.FromEnv(os.LookupEnv, false)
	report(cfg, pipes.Sync, reason.Error())
}

// report says why there is no monitor to those who do not read our standard
// error: an engine that only sees the end of the sync pipe shows "EOF".
func report(cfg *config.Config, fd int, reason string) {
	diag.New(diag.Error, cfg.CID, cfg.Syslog).Syslog(reason)
	proto := parent.Protocol{API: cfg.APIVersion, Exec: cfg.Exec}
	// The caller prints the reason in any case.
	_ = parent.Send(fd, proto.Failed(reason), clock.Now()+clock.Second)
}

func launch(cfg *config.Config, pipes parent.Pipes, argv []string) error {
	if cfg.ExecAttach && pipes.Attach < 0 {
		return fmt.Errorf("--attach specified but _OCI_ATTACHPIPE was not")
	}
	targets, err := logging.Open(cfg)
	if err != nil {
		return err
	}
	if cfg.Log.Has(config.Journald) && !journal.Enabled() {
		// Not an error: it may be restarting, and output waits for it, up to a point.
		fmt.Fprintln(os.Stderr, "[conmon:w]: no journald listens on this host")
	}
	// Before anything is spawned: the engine first moves this process to its
	// cgroup, and a child made earlier would stay behind.
	if err := parent.AwaitStart(pipes.Start); err != nil {
		return err
	}
	if !cfg.ExecAttach {
		// The second read is only for exec-attach.
		_ = unix.Close(pipes.Start)
		pipes.Start = -1
	}

	st := new(handoff.State)
	cfg.Save(st)
	pipes.Save(st)
	targets.Save(st)
	self := handoff.SelfPath(argv[0])
	st.PutString("self.path", self)
	st.PutStrings("self.argv", argv)
	st.PutInt("self.launcher", int64(os.Getpid()))
	st.PutString("self.oom_score_adj", proc.OOMScoreAdj())
	if cfg.Sync {
		return becomeMonitor(cfg, st, self, argv)
	}
	return detach(cfg, st, self, argv)
}

// becomeMonitor executes the staying image in this process.
func becomeMonitor(cfg *config.Config, st *handoff.State, self string, argv []string) error {
	if !cfg.Passthrough() {
		// Standard error stays: with --sync somebody is there to read it.
		if err := proc.ReleaseStdio(2); err != nil {
			return err
		}
	}
	// The mask is a thread's: the one that blocks must be the one that execs.
	runtime.LockOSThread()
	if err := proc.Block(proc.Handled()); err != nil {
		return err
	}
	return st.Exec(self, argv)
}

// detach starts the staying image as a process of its own.
func detach(cfg *config.Config, st *handoff.State, self string, argv []string) error {
	pidFile, err := createPidFile(cfg.MonitorPidFile)
	if err != nil {
		return err
	}
	defer pidFile.discard()

	// The monitor sees the other end close when we are gone, and tells the
	// engine nothing before: Podman reads the pid file right after.
	var gone [2]int
	if err := unix.Pipe2(gone[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("pipe: %w", err)
	}
	st.PutFD("launch.gone", gone[0])
	state, err := st.File()
	if err != nil {
		return err
	}
	c := proc.Command{
		Path: self, Argv: argv, Env: handoff.StayingEnv(syscall.Environ(), state),
		Blocked: proc.Handled(), Setsid: true,
	}
	if !cfg.Passthrough() {
		null, err := proc.OpenNull()
		if err != nil {
			return err
		}
		// All three are released: Podman waits for the end of our standard error.
		c.Files = []int{null, null, null}
	}
	st.Keep(state, true)
	pid, pidfd, err := proc.Start(&c)
	if err != nil {
		return fmt.Errorf("start the monitor: %w", err)
	}
	if err := pidFile.publish(pid); err != nil {
		_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
		return err
	}
	return nil
}

// pidFile is a pid file that is not visible yet. It is made before the monitor
// is started, so that an unwritable path or a full disk costs no monitor.
type pidFile struct {
	path string
	tmp  *os.File // nil: no pid file is wanted, or it is published
}

func createPidFile(path string) (*pidFile, error) {
	if path == "" {
		return &pidFile{}, nil
	}
	tmp, err := os.OpenFile(path+".tmp"+strconv.Itoa(os.Getpid()), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return nil, fmt.Errorf("create the monitor's pid file: %w", err)
	}
	f := &pidFile{path, tmp}
	// The room for the longest pid is taken now; publish only fills it.
	if _, err := tmp.Write(make([]byte, 10)); err != nil {
		f.discard()
		return nil, fmt.Errorf("create the monitor's pid file: %w", err)
	}
	return f, nil
}

// publish makes the file appear with the bare pid in it, whole.
func (f *pidFile) publish(pid int) error {
	if f.tmp == nil {
		return nil
	}
	text := strconv.Itoa(pid)
	_, err := f.tmp.WriteAt([]byte(text), 0)
	if err == nil {
		err = f.tmp.Truncate(int64(len(text)))
	}
	if err == nil {
		err = f.tmp.Close()
	}
	if err == nil {
		err = os.Rename(f.tmp.Name(), f.path)
	}
	if err != nil {
		return fmt.Errorf("write the monitor's pid file: %w", err)
	}
	f.tmp = nil
	return nil
}

func (f *pidFile) discard() {
	if f.tmp != nil {
		_ = os.Remove(f.tmp.Name())
	}
}
