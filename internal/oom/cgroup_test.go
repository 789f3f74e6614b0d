package oom

import (
	"strings"
	"testing"
)

func TestMemoryPath(t *testing.T) {
	for _, c := range []struct {
		name, text string
		version    int
		path       string
	}{
		{"v2", "0::/user.slice/c\n", 2, "/user.slice/c"},
		{"v2 behind others", "1:name=systemd:/s\n0::/c\n", 2, "/c"},
		{"v2 before others", "0::/c\n1:net_cls:/n\n", 2, "/c"},
		{"v1", "4:memory:/m\n3:cpu,cpuacct:/u\n", 1, "/m"},
		{"v1 with company", "4:hugetlb,memory:/m\n", 1, "/m"},
		{"hybrid", "4:memory:/m\n0::/c\n", 1, "/m"},
		{"hybrid, memory in v2", "4:cpu:/m\n0::/c\n", 2, "/c"},
		{"colons in the path", "0::/a:b/c\n", 2, "/a:b/c"},
		{"no newline", "0::/c", 2, "/c"},
		{"root", "0::/\n", 2, "/"},
		{"removed", "0::/c (deleted)\n", 0, ""},
		{"outside of our namespace", "0::/../c\n", 0, ""},
		{"no memory at all", "3:cpu:/u\n", 0, ""},
		{"no colons", "garbage\n", 0, ""},
		{"empty", "", 0, ""},
	} {
		version, path, err := memoryPath(c.text)
		if version != c.version || path != c.path || (err != nil) != (c.version == 0) {
			t.Errorf("%s: v%d %q, %v, want v%d %q", c.name, version, path, err, c.version, c.path)
		}
	}
}

func FuzzMemoryPath(f *testing.F) {
	f.Add("0::/user.slice/c\n4:memory:/m\n")
	f.Add("1:name=systemd:/s\n::\n")
	f.Fuzz(func(t *testing.T, text string) {
		version, path, err := memoryPath(text)
		if err == nil && (version < 1 || version > 2 || !strings.HasPrefix(path, "/")) {
			t.Errorf("v%d at %q", version, path)
		}
	})
}

const mounts = `31 23 0:28 / /sys/fs/cgroup rw,relatime shared:5 - tmpfs tmpfs rw,mode=755
34 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:6 master:2 - cgroup cgroup rw,cpu,cpuacct
35 31 0:31 / /sys/fs/cgroup/memory rw shared:7 - cgroup cgroup rw,memory
36 23 0:31 /pods/one /mnt/one rw - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
`

func TestMountedAt(t *testing.T) {
	long := "9 8 0:7 / /over rw - overlay overlay rw,lowerdir=" + strings.Repeat("/layer:", 2000) + "\n"
	for _, c := range []struct {
		name, mountinfo string
		version         int
		path, want      string
	}{
		{"v2", mounts, 2, "/c", "/sys/fs/cgroup/unified/c"},
		{"v1", mounts, 1, "/c/d", "/sys/fs/cgroup/memory/c/d"},
		{"the root itself", mounts, 1, "/", "/sys/fs/cgroup/memory"},
		{"shown by a part too", mounts, 1, "/pods/one/c", "/sys/fs/cgroup/memory/pods/one/c"},
		{"only a part", "36 23 0:31 /pods/one /m rw - cgroup c rw,memory\n", 1, "/pods/one/c", "/m/c"},
		{"exactly the part", "36 23 0:31 /pods/one /m rw - cgroup c rw,memory\n", 1, "/pods/one", "/m"},
		{"another part", "36 23 0:31 /pods/one /m rw - cgroup c rw,memory\n", 1, "/pods/one2", ""},
		{"behind a long line", long + mounts, 2, "/c", "/sys/fs/cgroup/unified/c"},
		{"mounted over", "1 0 0:9 / /a rw - cgroup2 c rw\n2 0 0:9 / /b rw - cgroup2 c rw\n", 2, "/c", "/b/c"},
		{"blank in the mount point", `1 0 0:9 / /a\040b rw - cgroup2 c rw` + "\n", 2, "/c", "/a b/c"},
		{"not escaped after all", `1 0 0:9 / /a\04 rw - cgroup2 c rw` + "\n", 2, "/c", `/a\04/c`},
		{"controller of another name", "1 0 0:9 / /a rw - cgroup c rw,memory2\n", 1, "/c", ""},
		{"cut off", "1 0 0:9 / /a rw - cgroup2", 2, "/c", ""},
		{"empty", "", 2, "/c", ""},
	} {
		got, err := mountedAt(strings.NewReader(c.mountinfo), c.version, c.path)
		if got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%s: %q, %v, want %q", c.name, got, err, c.want)
		}
	}
}

func FuzzMountedAt(f *testing.F) {
	f.Add(mounts, 1, "/pods/one")
	f.Add(`1 0 0:9 /\777 /a\04 rw - cgroup2 c rw`+"\n", 2, "/")
	f.Fuzz(func(t *testing.T, mountinfo string, version int, path string) {
		if dir, err := mountedAt(strings.NewReader(mountinfo), version, path); err == nil && dir == "" {
			t.Error("neither a directory nor an error")
		}
	})
}

func TestBelow(t *testing.T) {
	for _, c := range []struct {
		p, q place
		want bool
	}{
		{place{2, "/g/a"}, place{2, "/g/a"}, true},
		{place{2, "/g/a/b"}, place{2, "/g/a"}, true},
		{place{2, "/g/ab"}, place{2, "/g/a"}, false},
		{place{2, "/g"}, place{2, "/g/a"}, false},
		{place{1, "/g/a"}, place{2, "/g/a"}, false},
	} {
		if got := c.p.below(c.q); got != c.want {
			t.Errorf("%v below %v: %v", c.p, c.q, got)
		}
	}
}
