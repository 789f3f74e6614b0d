package logging

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/config"
	"conmon/internal/stdio"
)

// Many megabytes through small files with all backups kept: read in order, the
// files are the stream, byte for byte, and no file is longer than allowed.
func TestRotationLosesNothing(t *testing.T) {
	const limit = 64 << 10
	size := 16 << 20
	if testing.Short() {
		size = 4 << 20
	}
	path := t.TempDir() + "/log"
	r := newRig(t, config.Log{Drivers: k8s(path), SizeMax: limit, Rotate: true, MaxFiles: 1})
	rnd := rand.New(rand.NewPCG(1, 2))
	check := checker{t: t, path: path}
	chunk := make([]byte, 0, 64<<10)
	for sent := 0; sent < size; sent += len(chunk) {
		chunk = chunk[:0]
		for n := rnd.IntN(60 << 10); len(chunk) < n; {
			chunk = append(chunk, lineOf(rnd)...)
		}
		for rest := chunk; len(rest) > 0; {
			// A chunk at a time that fits one file, so that the checker sees each backup.
			n := min(len(rest), 1+rnd.IntN(16<<10))
			put(r.Log, stdio.Stdout, string(rest[:n]))
			check.look(limit)
			rest = rest[n:]
		}
		check.sent.Write(chunk)
		check.compare(false)
	}
	eof(r.Log, stdio.Stdout)
	check.look(limit)
	check.compare(true)
	if s := r.Stats().Drivers[0]; s.Rotations != uint64(check.rotations) || s.Streams[0].Lost != (Count{}) {
		t.Errorf("stats %+v, saw %d rotations", s, check.rotations)
	}
}

// lineOf makes a binary line; mostly short.
func lineOf(rnd *rand.Rand) []byte {
	b := make([]byte, rnd.IntN(1<<rnd.IntN(12))+1)
	for i := range b {
		if b[i] = byte(rnd.Uint32()); b[i] == '\n' {
			b[i] = 0
		}
	}
	b[len(b)-1] = '\n'
	return b
}

// checker follows a log through its rotations.
type checker struct {
	t         *testing.T
	path      string
	inode     os.FileInfo
	done      int // bytes of the current file that were read
	sent, got bytes.Buffer
	rotations int
}

func (c *checker) look(limit int64) {
	c.t.Helper()
	now, err := os.Stat(c.path)
	if err != nil {
		c.t.Fatal(err)
	}
	if now.Size() > limit {
		c.t.Fatalf("%d bytes in a file", now.Size())
	}
	if c.inode != nil && !os.SameFile(c.inode, now) {
		old, err := os.Stat(c.path + ".1")
		if err != nil || !os.SameFile(old, c.inode) {
			c.t.Fatal("missed a backup")
		}
		c.rotations++
		c.take(c.path + ".1")
		c.done = 0
	}
	c.inode = now
	c.take(c.path)
}

// take reads what is new in a file.
func (c *checker) take(path string) {
	b := []byte(read(c.t, path))
	for rest := b[c.done:]; len(rest) > 0; {
		n := bytes.IndexByte(rest, '\n') + 1
		if n <= criPrefixLen {
			c.t.Fatalf("%s: torn record %q", path, rest)
		}
		text := rest[criPrefixLen:n]
		if rest[criTagAt] == tagPiece {
			text = text[:len(text)-1]
		}
		c.got.Write(text)
		rest = rest[n:]
	}
	c.done = len(b)
}

// compare compares what was sent with what is logged so far; at the end they
// are equal.
func (c *checker) compare(end bool) {
	c.t.Helper()
	n := c.got.Len()
	if n > c.sent.Len() || !bytes.Equal(c.got.Bytes(), c.sent.Bytes()[:n]) || end && n != c.sent.Len() {
		c.t.Fatalf("sent %d bytes, logged %d others", c.sent.Len(), n)
	}
	c.got.Next(n)
	c.sent.Next(n)
}

// Backups are shifted in whichever form they are, and compressed by a child;
// nothing waits for it but the next shift.
func TestCompress(t *testing.T) {
	for method, suffix := range map[string]string{"gzip": ".gz", "zstd": ".zst"} {
		t.Run(method, func(t *testing.T) {
			path := t.TempDir() + "/log"
			os.WriteFile(path+".1"+suffix+".tmp", []byte("stale"), 0o600)
			r := newRig(t, config.Log{Drivers: k8s(path), SizeMax: 4096, Rotate: true, MaxFiles: 50, Compress: method})
			var sent strings.Builder
			for i := range 400 {
				line := fmt.Sprintf("line %d\n", i)
				sent.WriteString(line)
				put(r.Log, stdio.Stdout, line)
				if i%50 == 0 {
					if i%100 == 0 {
						r.upgrade()
					}
					r.until("compressed", func() bool { return r.drivers[0].(*file).compressing == 0 })
				}
			}
			r.until("compressed", func() bool { return r.drivers[0].(*file).compressing == 0 })
			var got string
			for i := 50; i > 0; i-- {
				if name := fmt.Sprint(path, ".", i, suffix); exists(name) {
					got += unpacked(t, name)
				}
			}
			if got += plain(t, path); got != sent.String() {
				t.Errorf("sent %d bytes, have %d others", sent.Len(), len(got))
			}
			if s := r.Stats().Drivers[0]; s.Errors != 0 || s.Rotations < 3 || len(files(t, path)) != int(s.Rotations)+1 {
				t.Errorf("stats %+v, files %q", s, files(t, path))
			}
		})
	}
}

// A container that writes faster than its backups are compressed does not fill
// the disk, and nothing of its output is lost.
func TestCompressionIsGivenUp(t *testing.T) {
	path := t.TempDir() + "/log"
	const limit = 4096
	r := newRig(t, config.Log{Drivers: k8s(path), SizeMax: limit, Rotate: true, MaxFiles: 50, Compress: "gzip"})
	var sent strings.Builder
	write := func() {
		line := fmt.Sprintf("line %d\n", sent.Len())
		sent.WriteString(line)
		put(r.Log, stdio.Stdout, line)
	}
	f := r.drivers[0].(*file)
	for f.compressing == 0 {
		write()
	}
	if err := unix.Kill(f.compressing, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for f.rotations < 2 {
		write()
		if f.op.size > 2*limit {
			r.until("the backup is free", func() bool { write(); return f.rotations > 1 })
		}
	}
	r.until("compressed", func() bool { return f.compressing == 0 })
	got := ""
	for i := 50; i > 0; i-- {
		if name := fmt.Sprint(path, ".", i); exists(name) {
			got += plain(t, name)
		} else if exists(name + ".gz") {
			got += unpacked(t, name+".gz")
		}
	}
	if got += plain(t, path); got != sent.String() {
		t.Errorf("sent %d bytes, have %d others", sent.Len(), len(got))
	}
	if !exists(path + ".2") {
		t.Errorf("files %q", files(t, path))
	}
}

func unpacked(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var in io.Reader
	if filepath.Ext(name) == ".gz" {
		in, err = gzip.NewReader(f)
	} else {
		in, err = zstd.NewReader(f)
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir() + "/plain"
	os.WriteFile(temp, b, 0o600)
	return plain(t, temp)
}

// While a backup is locked by a child of an earlier monitor, the log goes on.
func TestShiftWaitsForLock(t *testing.T) {
	path := t.TempDir() + "/log"
	os.WriteFile(path+".1", []byte("being compressed"), 0o640)
	fd, busy := lockBackup(unix.AT_FDCWD, path+".1")
	if fd < 0 || busy {
		t.Fatal("cannot lock")
	}
	defer unix.Close(fd)
	l := newLog(t, config.Log{Drivers: k8s(path), SizeMax: 100, Rotate: true, MaxFiles: 3, Compress: "gzip"})
	for range 5 {
		put(l, stdio.Stdout, "0123456789\n")
	}
	events := watchFor(t, path, unix.IN_MODIFY)
	if err := l.Reopen(clock.Now()); err != nil || !events() {
		t.Errorf("reopen: %v", err)
	}
	if got := len(entries(t, path)); got != 5 {
		t.Errorf("%d records", got)
	}
}

// If a child died after it had made the compressed backup, before it removed the
// other, the next shift does.
func TestShiftAfterDeadChild(t *testing.T) {
	path := t.TempDir() + "/log"
	os.WriteFile(path+".1", []byte("twice"), 0o640)
	os.WriteFile(path+".1.gz", []byte("once"), 0o640)
	l := newLog(t, config.Log{Drivers: k8s(path), Rotate: true, MaxFiles: 3})
	if err := l.Reopen(clock.Now()); err != nil {
		t.Fatal(err)
	}
	if exists(path+".2") || read(t, path+".2.gz") != "once" {
		t.Errorf("files %q", files(t, path))
	}
}

// A directory that is gone costs the records, not the monitor; when it is back,
// so is the log.
func TestRotationFails(t *testing.T) {
	dir := t.TempDir() + "/d"
	os.Mkdir(dir, 0o755)
	l := newLog(t, config.Log{Drivers: k8s(dir + "/log"), SizeMax: 100, Rotate: true, MaxFiles: 3})
	put(l, stdio.Stdout, "0123456789\n")
	os.Rename(dir, dir+"2")
	put(l, stdio.Stdout, strings.Repeat("0123456789\n", 5))
	s := l.Stats().Drivers[0]
	if s.Streams[0].Lost.Lines != 5 || !strings.Contains(s.LastError, "rotate") {
		t.Errorf("stats %+v", s)
	}
	os.Rename(dir+"2", dir)
	put(l, stdio.Stdout, "back\n")
	want(t, entries(t, dir+"/log"), "stdout F back")
}

// Where no other file can be made, the log starts over in its file.
func TestStartOverInPlace(t *testing.T) {
	dir := smallDisk(t, 1<<20)
	l := newLog(t, config.Log{Drivers: k8s(dir + "/log"), SizeMax: 100})
	put(l, stdio.Stdout, "0123456789\n")
	unix.Mount("", dir, "", unix.MS_REMOUNT, "nr_inodes=2") // the root and the log
	put(l, stdio.Stdout, "0123456789\nlast\n")
	want(t, entries(t, dir+"/log"), "stdout F last")
	if s := l.Stats().Drivers[0]; s.Errors != 0 || s.Rotations != 2 {
		t.Errorf("stats %+v", s)
	}
}
