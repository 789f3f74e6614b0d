package logging

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fakeJournal is a socket that entries are read from when the test says so.
type fakeJournal struct {
	t    testing.TB
	path string
	fd   int
}

func newFakeJournal(t testing.TB, path string) *fakeJournal {
	t.Helper()
	j := &fakeJournal{t: t, path: path}
	j.start()
	t.Cleanup(j.stop)
	return j
}

func (j *fakeJournal) start() {
	var err error
	if j.fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		j.t.Fatal(err)
	}
	_ = unix.Unlink(j.path)
	if err := unix.Bind(j.fd, &unix.SockaddrUnix{Name: j.path}); err != nil {
		j.t.Fatal(err)
	}
}

func (j *fakeJournal) stop() { unix.Close(j.fd) }

// entry is a journal entry's fields.
type entry map[string]string

// next reads an entry, nil if there is none now.
func (j *fakeJournal) next() entry {
	j.t.Helper()
	b, oob := make([]byte, 256<<10), make([]byte, 64)
	n, oobn, _, _, err := unix.Recvmsg(j.fd, b, oob, unix.MSG_CMSG_CLOEXEC)
	if err == unix.EAGAIN {
		return nil
	}
	if err != nil {
		j.t.Fatal(err)
	}
	b = b[:n]
	if oobn > 0 {
		b = j.sealed(oob[:oobn])
	}
	return j.parse(b)
}

// sealed reads an entry that came as a file, which must be one that nobody can
// change any more: the journal refuses others.
func (j *fakeJournal) sealed(oob []byte) []byte {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		j.t.Fatal(err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil {
		j.t.Fatal(err)
	}
	defer unix.Close(fds[0])
	const want = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL
	if seals, err := unix.FcntlInt(uintptr(fds[0]), unix.F_GET_SEALS, 0); seals != want || err != nil {
		j.t.Errorf("seals %x, %v", seals, err)
	}
	b := make([]byte, 4<<20)
	n, err := unix.Pread(fds[0], b, 0)
	if err != nil {
		j.t.Fatal(err)
	}
	return b[:n]
}

func (j *fakeJournal) parse(b []byte) entry {
	e := entry{}
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		name, value, short := strings.Cut(string(b[:i]), "=")
		if b = b[i+1:]; !short {
			n := binary.LittleEndian.Uint64(b)
			value, b = string(b[8:8+n]), b[8+n+1:]
		}
		if _, twice := e[name]; twice {
			j.t.Errorf("field %s twice", name)
		}
		e[name] = value
	}
	return e
}
