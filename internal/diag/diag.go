// Package diag writes the monitor's own messages: to standard error, as conmon
// does, and to syslog if asked.
package diag

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Level is a message's importance, the most important first.
type Level uint8

// The levels of --log-level.
const (
	Error Level = iota
	Warn
	Info
	Debug
)

// letters stand for the levels in a message.
const letters = "ewid"

// ParseLevel understands the words of --log-level; a word it does not know,
// which the command line refuses, is the default.
func ParseLevel(s string) Level {
	switch s {
	case "error", "fatal", "panic":
		return Error
	case "info":
		return Info
	case "debug", "trace":
		return Debug
	}
	return Warn
}

// Logger writes messages up to a level. It never blocks: a message that has no
// way out is dropped.
type Logger struct {
	level  Level
	ident  string // the container's short id
	syslog int    // datagram socket, -1: none
}

// New returns a logger for a container. With syslog, messages also go to the
// local syslog, if there is one.
func New(level Level, cid string, syslog bool) *Logger {
	l := &Logger{level: level, ident: cid[:min(len(cid), 20)], syslog: -1}
	if !syslog {
		return l
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return l
	}
	l.syslog = fd
	return l
}

// Enabled reports whether a message of this level would be written.
func (l *Logger) Enabled(level Level) bool { return level <= l.level }

// Error writes a message that explains an abnormal end or a loss.
func (l *Logger) Error(msg string) { l.write(Error, msg) }

// Warn writes a message about something that was worked around.
func (l *Logger) Warn(msg string) { l.write(Warn, msg) }

// Info writes a message about an expected change.
func (l *Logger) Info(msg string) { l.write(Info, msg) }

// Debug writes a detail.
func (l *Logger) Debug(msg string) { l.write(Debug, msg) }

func (l *Logger) write(level Level, msg string) {
	if !l.Enabled(level) {
		return
	}
	line := append(make([]byte, 0, 64+len(msg)), "[conmon:"...)
	line = append(line, letters[level], ']', ':', ' ')
	line = append(append(line, msg...), '\n')
	// A pipe takes a short line whole if it takes anything.
	if n, _ := unix.Poll([]unix.PollFd{{Fd: 2, Events: unix.POLLOUT}}, 0); n == 1 {
		_, _ = unix.Write(2, line)
	}
	l.send(level, msg)
}

// Syslog writes the message of an error that somebody else prints, to syslog
// alone.
func (l *Logger) Syslog(msg string) { l.send(Error, msg) }

func (l *Logger) send(level Level, msg string) {
	if l.syslog < 0 {
		return
	}
	const daemon = 3 << 3
	priority := [...]int{3, 4, 6, 7}
	b := append(make([]byte, 0, 64+len(msg)), '<')
	b = strconv.AppendInt(b, int64(daemon|priority[level]), 10)
	b = append(b, ">conmon["...)
	b = strconv.AppendInt(b, int64(os.Getpid()), 10)
	b = append(append(b, "]: conmon "...), l.ident...)
	b = append(append(b, " <"...), letters[level])
	b = append(append(b, ">: "...), msg...)
	// Addressed each time: syslog may start, or restart, after us.
	_ = unix.Sendto(l.syslog, b, unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: "/dev/log"})
}
