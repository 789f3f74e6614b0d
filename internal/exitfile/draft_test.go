package exitfile

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestMain turns the test binary into a writer that is there to be killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("EXITFILE_WRITE_FOR_EVER"); dir != "" {
		for i := 0; ; i++ {
			if err := Write(dir, "exit", []byte(strings.Repeat(strconv.Itoa(i%10), 5000))); err != nil {
				os.Exit(3)
			}
			if i == 0 {
				os.Stdout.Close() // the reader knows that the writing has begun
			}
		}
	}
	os.Exit(m.Run())
}

// content returns the file's content, and names what else is in the directory.
func content(t *testing.T, dir, name string) (got string, others []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != name {
			others = append(others, e.Name())
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got = string(b)
	}
	return got, others
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"exit", "exit.json", strings.Repeat("c", 255), ".hidden", "-"} {
		for _, want := range []string{"137", "0"} { // the second replaces the first
			if err := Write(dir, name, []byte(want)); err != nil {
				t.Fatal(err)
			}
			if got, others := content(t, dir, name); got != want || len(others) != 0 {
				t.Errorf("%s: %q, want %q; beside it %q", name, got, want, others)
			}
		}
		if fi, err := os.Stat(filepath.Join(dir, name)); err != nil || fi.Mode() != 0o644 {
			t.Errorf("%s: %v, %v", name, fi.Mode(), err)
		}
		os.Remove(filepath.Join(dir, name))
	}
}

func TestWriteErrors(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, dir, file string
		want            error
	}{
		{"missing directory", dir + "/missing", "exit", unix.ENOENT},
		{"a file for a directory", dir + "/file", "exit", unix.ENOTDIR},
		{"a directory for a file", dir, "taken", unix.EISDIR},
		{"name too long", dir, strings.Repeat("c", 256), unix.ENAMETOOLONG},
		{"a path for a name", dir, "../exit", unix.EINVAL},
		{"no name", dir, "", unix.EINVAL},
	} {
		if err := Write(c.dir, c.file, []byte("1")); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if _, others := content(t, dir, ""); len(others) != 2 {
			t.Errorf("%s: there are %q", c.name, others)
		}
	}
}

// smallTmpfs mounts a tmpfs of one page's worth of data and fills it.
func smallTmpfs(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a tmpfs needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+strconv.Itoa(os.Getpagesize())); err != nil {
		t.Skipf("no tmpfs: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	if err := os.WriteFile(dir+"/filler", make([]byte, os.Getpagesize()), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestWriteToFullDevice(t *testing.T) {
	dir := smallTmpfs(t)
	if err := Write(dir, "exit", []byte("1")); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("error %v", err)
	}
	if got, others := content(t, dir, "exit"); got != "" || len(others) != 1 {
		t.Errorf("%q, beside it %q", got, others)
	}
	os.Remove(dir + "/filler")
	if err := Write(dir, "exit", []byte("1")); err != nil {
		t.Error(err)
	}
}

// What a killed writer has left is replaced; what is no file stays.
func TestLeftOver(t *testing.T) {
	dir := t.TempDir()
	stay := []string{".exit.1", "xexit.0", "other"}
	for _, name := range append(stay, ".exit.0") {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write := func() {
		t.Helper()
		if err := Write(dir, "exit", []byte("0")); err != nil {
			t.Fatal(err)
		}
		if got, others := content(t, dir, "exit"); got != "0" || len(others) != len(stay) {
			t.Errorf("%q, left %q, want %q", got, others, stay)
		}
	}
	write()
	if err := os.Mkdir(filepath.Join(dir, ".exit.0"), 0o755); err != nil {
		t.Fatal(err)
	}
	stay = []string{".exit.0", "xexit.0", "other"} // .exit.1 was used and is gone
	write()
}

// TestKilledWriter kills writers at moments spread over a few milliseconds: what
// is there is whole, and the next writer cleans up.
func TestKilledWriter(t *testing.T) {
	dir := t.TempDir()
	for i := range 40 {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "EXITFILE_WRITE_FOR_EVER="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var b [1]byte
		out.Read(b[:]) // end of file: it writes
		time.Sleep(time.Duration(i) * 97 * time.Microsecond)
		cmd.Process.Kill()
		cmd.Wait()
		if cmd.ProcessState.ExitCode() == 3 {
			t.Fatal("the writer met an error")
		}
		got, others := content(t, dir, "exit")
		if len(got) != 5000 || strings.Trim(got, got[:1]) != "" || len(others) > 1 {
			t.Fatalf("%d bytes, beside them %q", len(got), others)
		}
	}
	if err := Write(dir, "exit", []byte("0")); err != nil {
		t.Fatal(err)
	}
	if got, others := content(t, dir, "exit"); got != "0" || len(others) != 0 {
		t.Errorf("%q, beside it %q", got, others)
	}
}

// TestInotify holds what CRI-O's watch of the exit dir sees: under the final name
// a rename into the directory and nothing else.
func TestInotify(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_MODIFY|unix.IN_DELETE); err != nil {
		t.Fatal(err)
	}
	if err := Write(dir, "cid", []byte("0")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := unix.Read(fd, buf)
	if err != nil {
		t.Fatal(err)
	}
	var masks []uint32
	for buf = buf[:n]; len(buf) > 0; {
		ev := (*unix.InotifyEvent)(unsafe.Pointer(&buf[0]))
		end := unix.SizeofInotifyEvent + int(ev.Len)
		if name := bytes.TrimRight(buf[unix.SizeofInotifyEvent:end], "\x00"); string(name) == "cid" {
			masks = append(masks, ev.Mask)
		}
		buf = buf[end:]
	}
	if len(masks) != 1 || masks[0] != unix.IN_MOVED_TO {
		t.Errorf("events %#x", masks)
	}
}
