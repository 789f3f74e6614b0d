package handoff

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The environment variables of this mechanism; neither reaches a runtime.
const (
	stateVar = "_CONMON_STATE" // descriptor of the state to take over
	checkVar = "_CONMON_CHECK" // descriptor of a state to try: reply, do not take over
	savedVar = "_CONMON_ENV_"  // prefix: the caller's own value of a variable below
)

// tuning is what the staying image's Go runtime is told. It has to come from
// the environment: the calls that do the same start threads first, or do not
// exist. One P is all that one event loop can use. Watching the cgroup's CPU
// quota would take two descriptors and a wake-up each second.
//
// sbrk=1 makes the heap a pile on which nothing is ever freed. A heap proper
// puts each size of object, with and without pointers, on pages of its own: that
// was 330 kB for the 90 kB that a monitor allocates in its life. It allocates
// next to nothing after its start, and what adds up is dealt with by
// monitor.renewal. The collector is off, as there is nothing to collect.
//
// It is for a Go runtime that was built for it (tools/overlay tells why): the
// Makefile sets pile, and a plain "go build" has an ordinary heap.
var tuning = [...]string{
	"GOMAXPROCS=1", "GOGC=off", "GODEBUG=containermaxprocs=0,updatemaxprocs=0,asyncpreemptoff=1",
}

// pile is set by the linker to what GODEBUG also needs: ",sbrk=1".
var pile string

// godebug is the variable that pile belongs to.
const godebug = "GODEBUG="

// Mode says why this image was started.
type Mode int

const (
	// Launching: by an engine or a person.
	Launching Mode = iota
	// Staying: to be the monitor, with the state of a predecessor.
	Staying
	// Checking: by a running monitor, to see whether this image could take over.
	Checking
)

// CheckReply is what a Checking image prints on its standard output when it can
// read the state.
const CheckReply = "conmon can take over\n"

// Launched reports whether this image is the Launching one.
func Launched() bool {
	_, staying := syscall.Getenv(stateVar)
	_, checking := syscall.Getenv(checkVar)
	return !staying && !checking
}

// Inherited returns the state that this image was started with, and why.
func Inherited() (*State, Mode, error) {
	mode, value := Launching, ""
	if v, ok := syscall.Getenv(stateVar); ok {
		mode, value = Staying, v
	} else if v, ok := syscall.Getenv(checkVar); ok {
		mode, value = Checking, v
	} else {
		return nil, Launching, nil
	}
	fd, err := strconv.Atoi(value)
	if err != nil || fd < 3 {
		return nil, mode, fmt.Errorf("state descriptor %q is not a descriptor", value)
	}
	b, err := readAll(fd)
	_ = unix.Close(fd)
	if err != nil {
		return nil, mode, fmt.Errorf("read state: %w", err)
	}
	st, err := Decode(b)
	if err == nil && mode == Staying {
		// They came through the exec without it; the runtime must not have them.
		for _, fd := range st.Strings(fdKey) {
			if fd, err := strconv.Atoi(fd); err == nil {
				unix.CloseOnExec(fd)
			}
		}
	}
	return st, mode, err
}

func readAll(fd int) ([]byte, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, err
	}
	b := make([]byte, stat.Size)
	n, err := unix.Pread(fd, b, 0)
	return b[:max(n, 0)], err
}

// File writes the state to a memfd, close-on-exec, that the caller owns.
func (s *State) File() (int, error) {
	fd, err := unix.MemfdCreate("conmon-state", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	for b := s.Encode(nil); len(b) > 0; {
		n, err := unix.Write(fd, b)
		if err != nil {
			_ = unix.Close(fd)
			return -1, fmt.Errorf("write state: %w", err)
		}
		b = b[n:]
	}
	return fd, nil
}

// Keep lets the state's descriptors and fd survive the next exec, or not.
func (s *State) Keep(fd int, keep bool) {
	flags := unix.FD_CLOEXEC
	if keep {
		flags = 0
	}
	for _, fd := range append([]int{fd}, s.fds...) {
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFD, flags)
	}
}

// Exec replaces this image by path's, which takes the state over. It returns
// only if that fails, with everything as it was. Signals that the new image is
// to receive must be blocked on all threads.
func (s *State) Exec(path string, argv []string) error {
	fd, err := s.File()
	if err != nil {
		return err
	}
	s.Keep(fd, true)
	err = syscall.Exec(path, argv, StayingEnv(syscall.Environ(), fd))
	s.Keep(fd, false)
	_ = unix.Close(fd)
	return fmt.Errorf("exec %s: %w", path, err)
}

// StayingEnv returns env with what a staying image needs: the state's
// descriptor and the tuning, the caller's own settings put aside.
func StayingEnv(env []string, fd int) []string { return prepareEnv(env, stateVar, fd) }

// CheckEnv is StayingEnv for an image that is only to try the state.
func CheckEnv(env []string, fd int) []string { return prepareEnv(env, checkVar, fd) }

func prepareEnv(env []string, variable string, fd int) []string {
	out := make([]string, 0, len(env)+len(tuning)+1)
	for _, kv := range CallerEnv(env) {
		if tuned(kv) {
			kv = savedVar + kv
		}
		out = append(out, kv)
	}
	for _, kv := range tuning {
		if strings.HasPrefix(kv, godebug) {
			kv += pile
		}
		out = append(out, kv)
	}
	return append(out, variable+"="+strconv.Itoa(fd))
}

// CallerEnv undoes StayingEnv: the environment as the engine gave it to us.
func CallerEnv(env []string) []string {
	staying := false
	for _, kv := range env {
		staying = staying || strings.HasPrefix(kv, stateVar+"=") || strings.HasPrefix(kv, checkVar+"=")
	}
	if !staying {
		return env
	}
	out := make([]string, 0, len(env))
	for _, kv := range env {
		switch {
		case strings.HasPrefix(kv, stateVar+"="), strings.HasPrefix(kv, checkVar+"="), tuned(kv):
		default:
			if saved, ok := strings.CutPrefix(kv, savedVar); ok && tuned(saved) {
				kv = saved
			}
			out = append(out, kv)
		}
	}
	return out
}

// tuned reports whether kv is one of the variables that tuning sets.
func tuned(kv string) bool {
	name, _, _ := strings.Cut(kv, "=")
	for _, t := range tuning {
		if strings.HasPrefix(t, name+"=") {
			return true
		}
	}
	return false
}

// SelfPath returns the path that this program was started by, which is also
// where a later version of it will be found: an administrator knows the monitor
// by that path, symbolic link or not. argv0 tells it unless that names another
// file; then the kernel's idea of our executable counts.
func SelfPath(argv0 string) string {
	const self = "/proc/self/exe"
	if strings.Contains(argv0, "/") && sameFile(argv0, self) {
		if abs, err := filepath.Abs(argv0); err == nil {
			return abs
		}
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if p := filepath.Join(dir, argv0); filepath.IsAbs(p) && sameFile(p, self) {
			return p
		}
	}
	if target, err := os.Readlink(self); err == nil && sameFile(target, self) {
		return target
	}
	return self
}

func sameFile(a, b string) bool {
	var x, y unix.Stat_t
	return unix.Stat(a, &x) == nil && unix.Stat(b, &y) == nil && x.Dev == y.Dev && x.Ino == y.Ino
}
