package status

import (
	"os"
	"path/filepath"
	"testing"
)

func TestRegister(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "registry")
	target := func() string {
		s, _ := os.Readlink(filepath.Join(dir, "u"))
		return s
	}
	for _, step := range []struct {
		name string
		do   func() error
		want string
	}{
		{"first", func() error { return Register(dir, "u", "/a") }, "/a"},
		{"same", func() error { return Register(dir, "u", "/a") }, "/a"},
		{"other", func() error { return Register(dir, "u", "/b") }, "/b"},
		{"left-over temporary", func() error { return os.Symlink("/x", filepath.Join(dir, ".u")) }, "/b"},
		{"beside it", func() error { return Register(dir, "u", "/c") }, "/c"},
		{"predecessor leaves", func() error { return Unregister(dir, "u", "/b") }, "/c"},
		{"leaves", func() error { return Unregister(dir, "u", "/c") }, ""},
		{"leaves again", func() error { return Unregister(dir, "u", "/c") }, ""},
	} {
		if err := step.do(); err != nil || target() != step.want {
			t.Fatalf("%s: %q, %v, want %q", step.name, target(), err, step.want)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the registry: %v, %v", info.Mode(), err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestRegisterRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, dir, uuid string }{
		{"no registry", "", "u"},
		{"no uuid", dir, ""},
		{"parent", dir, ".."},
		{"hidden", dir, ".u"},
		{"elsewhere", dir, "../u"},
		{"below", dir, "a/b"},
		{"not a directory", file, "u"},
	} {
		if err := Register(c.dir, c.uuid, "/b"); err == nil {
			t.Errorf("%s: registered", c.name)
		}
	}
}
