package harness

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Message is a line from the sync or attach pipe.
type Message struct {
	Key   string // data, pid or exit_code
	Value int
	Text  string // "message", if there is one
	Raw   string // as it came, with the newline; "" at the end of the pipe
}

// syncPipe is the engine's end of a sync or attach pipe.
type syncPipe struct {
	file   *os.File
	reader *bufio.Reader
}

func newSyncPipe(f *os.File) *syncPipe {
	// Podman reads with a buffer of this size: of a longer packet the rest is lost.
	return &syncPipe{file: f, reader: bufio.NewReaderSize(f, 4096)}
}

func (p *syncPipe) close() { p.file.Close() }

func (p *syncPipe) next(t testing.TB, name string) Message {
	t.Helper()
	if err := p.file.SetReadDeadline(time.Now().Add(Patience)); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	line, err := p.reader.ReadString('\n')
	if errors.Is(err, io.EOF) && line == "" {
		return Message{}
	}
	if err != nil {
		t.Fatalf("%s: %v after %q", name, err, line)
	}
	return parseMessage(t, line)
}

func parseMessage(t testing.TB, line string) Message {
	t.Helper()
	var fields struct {
		Data    *int   `json:"data"`
		Pid     *int   `json:"pid"`
		Exit    *int   `json:"exit_code"`
		Message string `json:"message"`
	}
	if err := json.Unmarshal([]byte(line), &fields); err != nil {
		t.Fatalf("the message %q: %v", line, err)
	}
	msg := Message{Text: fields.Message, Raw: line}
	switch {
	case fields.Data != nil:
		msg.Key, msg.Value = "data", *fields.Data
	case fields.Pid != nil:
		msg.Key, msg.Value = "pid", *fields.Pid
	case fields.Exit != nil:
		msg.Key, msg.Value = "exit_code", *fields.Exit
	default:
		t.Fatalf("the message %q has no number", line)
	}
	return msg
}

// newPipe makes a pipe as the engine does. Ours can be waited for with a
// deadline.
func newPipe(t testing.TB, e Engine, theirWrites bool) (ours, theirs *os.File) {
	t.Helper()
	var fds [2]int
	var err error
	if e == Podman {
		fds, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	} else {
		err = unix.Pipe2(fds[:], unix.O_CLOEXEC)
		if !theirWrites {
			fds[0], fds[1] = fds[1], fds[0]
		}
	}
	if err == nil {
		err = unix.SetNonblock(fds[0], true)
	}
	if err != nil {
		t.Fatalf("making a pipe for the monitor: %v", err)
	}
	return os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
}
