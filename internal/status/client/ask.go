// Package client is the asking side of a monitor's status socket, for the
// commands that people use. It is not part of the staying image.
package client

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// How long an answer may take. A status comes at once unless the monitor is
// stopped; an upgrade first tries the new program.
const (
	statusTime  = 5 * time.Second
	upgradeTime = 30 * time.Second
)

// maxAnswer is more than a socket's buffer holds, and so than any answer.
const maxAnswer = 1 << 20

// ErrNoMonitor says that nobody listens in a bundle.
var ErrNoMonitor = errors.New("no monitor is running")

// Status asks the monitor in bundle what it is doing. The answer is JSON as
// docs/status.json.md describes it.
func Status(bundle string) ([]byte, error) {
	answer, err := ask(bundle, "status", statusTime)
	if err != nil {
		return nil, err
	}
	if len(answer) == 0 || answer[0] != '{' {
		return nil, answerError(bundle, answer)
	}
	return answer, nil
}

// Upgrade asks the monitor in bundle to replace itself by the program at binary,
// which is absolute, or "" for the one now at the path that it was started from.
// It returns what the new monitor says about itself.
func Upgrade(bundle, binary string) (string, error) {
	request := "upgrade"
	if binary != "" {
		request += " " + binary
	}
	answer, err := ask(bundle, request, upgradeTime)
	if err != nil {
		return "", err
	}
	text, ok := strings.CutPrefix(string(answer), "ok ")
	if !ok {
		return "", answerError(bundle, answer)
	}
	return text, nil
}

// answerError makes an error of an answer that is not the one hoped for.
func answerError(bundle string, answer []byte) error {
	if text, ok := strings.CutPrefix(string(answer), "error "); ok {
		return fmt.Errorf("monitor in %s: %s", bundle, text)
	}
	return fmt.Errorf("monitor in %s: answer is not understood", bundle)
}

// ask sends one request and returns the answer.
func ask(bundle, request string, limit time.Duration) ([]byte, error) {
	fd, err := dial(bundle)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	timeout := unix.NsecToTimeval(int64(limit))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return nil, fmt.Errorf("set the time limit: %w", err)
	}
	// One that refuses may have closed the connection already; what it said is
	// still there to be read.
	sendErr := unix.Sendto(fd, []byte(request), unix.MSG_NOSIGNAL, nil)
	b := make([]byte, maxAnswer)
	n, err := readPacket(fd, b)
	switch {
	case err == unix.EAGAIN:
		return nil, fmt.Errorf("monitor in %s: no answer within %v", bundle, limit)
	case err == nil && n > 0:
		return b[:n], nil
	case err == nil && sendErr != nil:
		err = sendErr
	}
	if err != nil && err != unix.ECONNRESET && err != unix.EPIPE {
		return nil, fmt.Errorf("ask the monitor in %s: %w", bundle, err)
	}
	return nil, fmt.Errorf("monitor in %s: it ended without an answer", bundle)
}

// readPacket reads one packet. Go's own signals may interrupt it. A monitor that
// closes before it has read the request resets the connection; the kernel says
// so once, and then still gives what the monitor had answered.
func readPacket(fd int, b []byte) (int, error) {
	n, err := readOnce(fd, b)
	if err == unix.ECONNRESET {
		n, err = readOnce(fd, b)
	}
	return n, err
}

func readOnce(fd int, b []byte) (int, error) {
	for {
		if n, err := unix.Read(fd, b); err != unix.EINTR {
			return n, err
		}
	}
}

// dial connects to the status socket in bundle. The caller owns the descriptor.
func dial(bundle string) (int, error) {
	// By descriptor, because a bundle's path may be longer than a socket address,
	// and without following a link: only the socket that a monitor made counts.
	path, err := unix.Open(bundle+"/status", unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, dialError(bundle, err)
	}
	defer unix.Close(path)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	timeout := unix.NsecToTimeval(int64(statusTime))
	// A stopped monitor whose queue is full would block the connection itself.
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout)
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(path)})
	if err != nil {
		_ = unix.Close(fd)
		return -1, dialError(bundle, err)
	}
	return fd, nil
}

func dialError(bundle string, err error) error {
	switch err {
	case unix.ENOENT, unix.ENOTDIR, unix.ECONNREFUSED, unix.EPROTOTYPE:
		return fmt.Errorf("%w in %s", ErrNoMonitor, bundle)
	case unix.EAGAIN:
		return fmt.Errorf("monitor in %s: it accepts no connections", bundle)
	}
	return fmt.Errorf("connect to the monitor in %s: %w", bundle, err)
}
