package ociruntime

import (
	"os"
	"slices"
	"strings"
	"testing"

	"conmon/internal/config"
)

func TestArgv(t *testing.T) {
	base := config.Config{CID: "ID", Runtime: "/r", Bundle: "/b", ContainerPidFile: "/p", RuntimeArgs: []string{"--root=/x"}, RuntimeOpts: []string{"--opt", ""}}
	with := func(change func(*config.Config)) *config.Config {
		c := base
		change(&c)
		return &c
	}
	for _, c := range []struct {
		cfg           *config.Config
		console, want string
	}{
		{&base, "", "/r --root=/x create --bundle /b --pid-file /p --opt  ID"},
		{&base, "/s", "/r --root=/x create --bundle /b --pid-file /p --opt  --console-socket /s ID"},
		{with(func(c *config.Config) { c.SystemdCgroup, c.NoPivot, c.NoNewKeyring = true, true, true }), "", "/r --systemd-cgroup --root=/x create --bundle /b --pid-file /p --no-pivot --no-new-keyring --opt  ID"},
		{with(func(c *config.Config) { c.Restore, c.NoPivot = "/i", true }), "", "/r --root=/x restore --bundle /b --pid-file /p --no-pivot --detach --image-path /i --work-path /b --opt  ID"},
		{with(func(c *config.Config) { c.Exec, c.ProcessSpec, c.SystemdCgroup, c.NoPivot = true, "/j", true, true }), "/s", "/r --root=/x exec --pid-file /p --process /j --detach --opt  --console-socket /s ID"},
	} {
		if got := Argv(c.cfg, c.console); !slices.Equal(got, strings.Split(c.want, " ")) {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestListenPid(t *testing.T) {
	for _, c := range []struct {
		env     string
		replace bool
		want    bool
	}{{"LISTEN_PID=7", false, true}, {"LISTEN_PID=8", false, false}, {"LISTEN_PID=8", true, true}, {"LISTEN_FDS=7", true, false}} {
		cfg := &config.Config{ReplaceListenPid: c.replace}
		if got := PassesListenPid(cfg, []string{"A=B", c.env}, 7); got != c.want {
			t.Errorf("%s, replace %v: %v", c.env, c.replace, got)
		}
	}
	if got := WithoutListenPid([]string{"A=", "LISTEN_PID=7", "LISTEN_FDS=1"}); !slices.Equal(got, []string{"A=", "LISTEN_FDS=1"}) {
		t.Errorf("%q is left", got)
	}
}

func TestForgetPid(t *testing.T) {
	for text, stays := range map[string]bool{"": true, "17": false} {
		path := t.TempDir() + "/pid"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		ForgetPid(path)
		if _, err := os.Stat(path); (err == nil) != stays {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestReadPid(t *testing.T) {
	for text, want := range map[string]int{"17": 17, "17\n": 17, "": 0, "12x": 0, "-1": 0, "0": 0} {
		path := t.TempDir() + "/pid"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if pid, err := ReadPid(path); pid != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d, %v", text, pid, err)
		}
	}
}
