package harness

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Eventually waits until the condition holds. It looks again every few
// milliseconds, so it is for what raises no event: prefer WaitFile, WaitProcess
// and reads with a deadline.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	if !eventually(Patience, condition) {
		t.Fatalf("in %v it did not come true that %s", Patience, what)
	}
}

func eventually(limit time.Duration, condition func() bool) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); ; <-tick.C {
		if condition() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// WaitFile waits until a file appears at path, as CRI-O does: by inotify.
func WaitFile(t testing.TB, path string) {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatalf("inotify: %v", err)
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), unix.IN_CREATE|unix.IN_MOVED_TO); err != nil {
		t.Fatalf("watching for %s: %v", path, err)
	}
	var events [4096]byte
	for end := time.Now().Add(Patience); !exists(path); {
		if !readable(fd, time.Until(end)) {
			t.Fatalf("in %v there was no %s", Patience, path)
		}
		_, _ = unix.Read(fd, events[:])
	}
}

// WaitProcess waits until the process has ended. One that is gone already is
// no error.
func WaitProcess(t testing.TB, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		t.Fatalf("pidfd of %d: %v", pid, err)
	}
	defer unix.Close(fd)
	if !readable(fd, Patience) {
		t.Fatalf("process %d has not ended in %v: %s", pid, Patience, describe(pid))
	}
}

// readable waits for a descriptor; false means that the time is over.
func readable(fd int, limit time.Duration) bool {
	end := time.Now().Add(limit)
	for {
		left := max(time.Until(end), 0)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left/time.Millisecond))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false
		}
		if n > 0 || left == 0 {
			return n > 0
		}
	}
}

// ReadNumber returns the decimal number that is all there is in a file.
func ReadNumber(t testing.TB, path string) int {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatalf("%s holds %q: a bare decimal is asked for", path, text)
	}
	return n
}

// Alive reports whether there is such a process and it has not ended.
func Alive(pid int) bool {
	state := Status(pid, "State")
	return state != "" && !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
}

// Status returns a field of /proc/PID/status, "" if there is none.
func Status(pid int, field string) string {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(line, ":"); name == field {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// StatField returns a field of /proc/PID/stat by its number in proc(5), from 3
// on, "" if there is none.
func StatField(pid, number int) string {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	// The name, field 2, may hold spaces and parentheses.
	fields := strings.Fields(string(text)[strings.LastIndexByte(string(text), ')')+1:])
	if number-3 >= len(fields) {
		return ""
	}
	return fields[number-3]
}

// describe names a process for an error message.
func describe(pid int) string {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	return strconv.Itoa(pid) + " (" + Status(pid, "State") + ") " + strings.TrimSpace(strings.ReplaceAll(string(text), "\x00", " "))
}
