package tests

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"conmon/tests/harness"
)

// deadDisk is a file system that can die as a network's does: what is asked of
// it then is never answered. There is one file in it, "log", whose contents are
// thrown away. It speaks FUSE 7.31 as far as a log file needs.
type deadDisk struct {
	dir  string
	fd   int
	size atomic.Int64
	made atomic.Bool
	dead atomic.Bool
}

// The requests that are answered, and sizes of their answers.
const (
	fuseLookup, fuseForget, fuseGetattr, fuseSetattr = 1, 2, 3, 4
	fuseUnlink, fuseStatfs                           = 10, 17
	fuseOpen, fuseWrite, fuseRelease, fuseFsync      = 14, 16, 18, 20
	fuseFlush, fuseInit, fuseOpendir, fuseReleasedir = 25, 26, 27, 29
	fuseAccess, fuseCreate, fuseInterrupt            = 34, 35, 36
	fuseBatchForget                                  = 42
)

func newDeadDisk(t *testing.T, b *harness.Bundle) *deadDisk {
	t.Helper()
	harness.NeedRoot(t)
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("/dev/fuse: %v", err) // not everywhere, user-mode Linux for one
	}
	d := &deadDisk{dir: b.Base + "/dead", fd: fd}
	if err := os.Mkdir(d.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("test", d.dir, "fuse.test", unix.MS_NODEV, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)); err != nil {
		t.Fatalf("mounting a FUSE: %v", err)
	}
	go d.serve()
	t.Cleanup(d.bury)
	return d
}

// bury unmounts the disk and ends everybody's waiting. It may be called twice.
func (d *deadDisk) bury() {
	// Force aborts the connection: what hangs gets an error.
	_ = unix.Unmount(d.dir, unix.MNT_FORCE)
	_ = unix.Unmount(d.dir, unix.MNT_DETACH)
}

// serve answers requests until the connection is gone.
func (d *deadDisk) serve() {
	buf := make([]byte, 1<<20)
	for {
		n, err := unix.Read(d.fd, buf)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil || n < 40 {
			_ = unix.Close(d.fd)
			return
		}
		op := binary.NativeEndian.Uint32(buf[4:])
		if d.dead.Load() || op == fuseForget || op == fuseBatchForget || op == fuseInterrupt {
			continue
		}
		body, errno := d.answer(op, buf[:n])
		reply := binary.NativeEndian.AppendUint32(nil, uint32(16+len(body)))
		reply = binary.NativeEndian.AppendUint32(reply, uint32(-int32(errno)))
		reply = append(reply, buf[8:16]...)
		_, _ = unix.Write(d.fd, append(reply, body...))
	}
}

// answer is what a living disk says to a request.
func (d *deadDisk) answer(op uint32, request []byte) (body []byte, errno unix.Errno) {
	node := binary.NativeEndian.Uint64(request[16:])
	switch op {
	case fuseInit:
		// Version, no read-ahead, no extras, writes of up to 128 KiB.
		return words(7, 31, 0, 0, 0, 128<<10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0
	case fuseLookup:
		if !d.made.Load() || string(request[40:]) != "log\x00" {
			return nil, unix.ENOENT
		}
		return d.entry(), 0
	case fuseGetattr, fuseSetattr:
		return append(words(0, 0, 0, 0), d.attributes(node)...), 0
	case fuseOpen, fuseOpendir:
		return words(1, 0, 0, 0), 0
	case fuseCreate:
		d.made.Store(true)
		return append(d.entry(), words(1, 0, 0, 0)...), 0
	case fuseWrite:
		n := binary.NativeEndian.Uint32(request[40+16:])
		d.size.Add(int64(n))
		return words(n, 0), 0
	case fuseStatfs:
		return make([]byte, 80), 0
	case fuseUnlink, fuseFlush, fuseFsync, fuseRelease, fuseReleasedir, fuseAccess:
		return nil, 0
	}
	return nil, unix.ENOSYS
}

// entry describes the file; nothing of it may be remembered.
func (d *deadDisk) entry() []byte {
	return append(words(2, 0, 1, 0, 0, 0, 0, 0, 0, 0), d.attributes(2)...)
}

func (d *deadDisk) attributes(node uint64) []byte {
	mode, size := uint32(unix.S_IFREG|0o640), uint32(d.size.Load())
	if node == 1 {
		mode, size = unix.S_IFDIR|0o755, 0
	}
	return words(uint32(node), 0, size, 0, size/512+1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)
}

func words(w ...uint32) (b []byte) {
	for _, x := range w {
		b = binary.NativeEndian.AppendUint32(b, x)
	}
	return b
}
