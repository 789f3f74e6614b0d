package tests

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"conmon/tests/harness"
)

// tmpfs mounts a small file system on a new directory.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	harness.NeedRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("mounting a tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// fill leaves no room on the file system of dir.
func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(dir + "/filler")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	for {
		if _, err := f.Write(block); err != nil {
			return
		}
	}
}

// With no room in the one place the status is in the other.
func TestFullDiskAtExit(t *testing.T) {
	harness.NeedOurs(t)
	for _, full := range []string{"exit", "persist"} {
		t.Run(full, func(t *testing.T) {
			dir := tmpfs(t, "64k,nr_inodes=3")
			fill(t, dir)
			// The last inode: not even an empty file can be made.
			if err := os.WriteFile(dir+"/last", nil, 0o600); err != nil {
				t.Fatal(err)
			}
			b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("exit 6"))
			args := []string{"--exit-dir", dir}
			left := b.Persist + "/exit"
			if full == "persist" {
				args = []string{"--persist-dir", dir}
				left = b.ExitDir + "/" + b.ID
			}
			m := b.Run(t, harness.Launch{Args: args})
			harness.WaitFile(t, left)
			if status := harness.ReadNumber(t, left); status != 6 {
				t.Errorf("exit status %d", status)
			}
			m.Gone(t)
		})
	}
}

// A full log device stops neither the container nor its end.
func TestFullDiskLog(t *testing.T) {
	harness.NeedOurs(t)
	dir := tmpfs(t, "64k")
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("yes 0123456789 | head -c 1000000; exit 7"))
	m := b.Run(t, harness.Launch{Log: []string{"k8s-file:" + dir + "/log"}})
	if status := m.Finish(t); status != 7 {
		t.Errorf("exit status %d", status)
	}
	for _, r := range harness.ReadLog(t, dir+"/log") { // whole records only
		if r.Text != "0123456789" {
			t.Fatalf("record %v", r)
		}
	}
}
