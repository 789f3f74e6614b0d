package config

import (
	"errors"
	"reflect"
	"testing"

	"conmon/internal/handoff"
)

// system is a machine on which /bin/runtime and /work/runtime can be executed.
func system(env map[string]string) System {
	return System{
		WorkDir: "/work",
		Executable: func(path string) error {
			if path == "/bin/runtime" || path == "/work/runtime" {
				return nil
			}
			return errors.New("no such file or directory")
		},
		Lookup: func(variable string) (string, bool) { v, ok := env[variable]; return v, ok },
		Root:   true,
	}
}

// valid returns a request that is accepted.
func valid() *Request {
	r := NewRequest()
	r.CID, r.CUUID, r.Runtime, r.LogPaths = "0123456789abc", "uuid", "/bin/runtime", []string{"none"}
	return r
}

func TestResolveRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		spoil  func(r *Request)
		want   string
		parser bool // a UsageError
	}{
		{"everything", func(r *Request) { *r = *NewRequest() }, "Container ID not provided. Use --cid", true},
		{"uuid", func(r *Request) { r.CUUID = "" }, "Container UUID not provided. Use --cuuid", false},
		{"uuid of exec", func(r *Request) { r.CUUID, r.Exec, r.API1 = "", true, true }, "Container UUID not provided. Use --cuuid", false},
		{"spec after uuid", func(r *Request) { r.CUUID, r.Exec = "", true }, "Exec process spec path not provided. Use --exec-process-spec", false},
		{"runtime", func(r *Request) { r.Runtime, r.LogPaths = "", nil }, "Runtime path not provided. Use --runtime", false},
		{"missing runtime", func(r *Request) { r.Runtime, r.Exec = "/bin/none", true }, "Runtime path /bin/none is not valid: no such file or directory", false},
		{"spec before log", func(r *Request) { r.Exec, r.LogPaths = true, nil }, "Exec process spec path not provided. Use --exec-process-spec", false},
		{"log", func(r *Request) { r.LogPaths = nil }, "Log driver not provided. Use --log-path", false},
		{"second log", func(r *Request) { r.LogPaths = []string{"none", ":"} }, "log-path must not be empty", false},
		{"short id", func(r *Request) { r.CID, r.LogPaths = "0123456789ab", []string{"journald"} }, "Container ID must be longer than 12 characters", false},
		{"tag", func(r *Request) { r.LogPaths, r.Log.Tag = []string{"/log"}, "t" }, "k8s-file doesn't support --log-tag", false},
		{"label", func(r *Request) { r.LogPaths, r.Log.Labels = []string{"/log"}, []string{"bad"} }, "k8s-file doesn't support --log-label", false},
		{"json tag", func(r *Request) { r.LogPaths, r.Log.Tag = []string{"json-file:/log"}, "t" }, "json-file doesn't support --log-tag", false},
		{"max-files", func(r *Request) { r.Log.MaxFiles = -1 }, "log-max-files must be non-negative", true},
		{"rotate", func(r *Request) { r.Log.Rotate, r.Log.MaxFiles = true, 0 }, "log-max-files must be at least 1 when log-rotate is enabled", true},
		{"level", func(r *Request) { r.LogLevel, r.CUUID = "loud", "" }, "No such log level loud", false},
		{"exec and restore", func(r *Request) { r.Exec, r.Restore = true, "/c" }, "Cannot use 'exec' and 'restore' at the same time", false},
		{"attach", func(r *Request) { r.ExecAttach, r.API1 = true, true }, "Attach can only be specified with exec", false},
		{"legacy attach", func(r *Request) { r.ExecAttach, r.Exec = true, true }, "Attach can only be specified for a non-legacy exec session", false},
		{"delay", func(r *Request) { r.ExitDelay = -1 }, "Delay before invoking exit command must be greater than or equal to 0", false},
		{"id with a slash", func(r *Request) { r.CID = "../0123456789abc" }, "Container ID must be a file name, it is '../0123456789abc'", false},
		{"uuid that is a path", func(r *Request) { r.CUUID = ".." }, "Container UUID must be a file name, it is '..'", false},
	} {
		r := valid()
		c.spoil(r)
		_, _, err := r.Resolve(system(nil))
		var usage UsageError
		if message(err) != c.want || errors.As(err, &usage) != c.parser {
			t.Errorf("%s: %q (of the parser: %t)", c.name, message(err), errors.As(err, &usage))
		}
	}
}

func TestResolve(t *testing.T) {
	exec := func(r *Request) { r.Exec, r.ProcessSpec = true, "spec" }
	for _, c := range []struct {
		name string
		with func(r *Request)
		get  func(cfg *Config) any
		want any
	}{
		{"bundle", func(*Request) {}, func(c *Config) any { return c.Bundle }, "/work"},
		{"relative bundle", func(r *Request) { r.Bundle = "b" }, func(c *Config) any { return c.Bundle }, "/work/b"},
		{"absolute path kept", func(r *Request) { r.Bundle = "/b//c/../d" }, func(c *Config) any { return c.Bundle }, "/b//c/../d"},
		{"exec has none", exec, func(c *Config) any { return c.Bundle }, ""},
		{"spec", exec, func(c *Config) any { return c.ProcessSpec }, "/work/spec"},
		{"pid file", func(*Request) {}, func(c *Config) any { return c.ContainerPidFile }, "/work/pidfile-0123456789abc"},
		{"runtime", func(r *Request) { r.Runtime = "runtime" }, func(c *Config) any { return c.Runtime }, "/work/runtime"},
		{"no pid file", func(*Request) {}, func(c *Config) any { return c.MonitorPidFile }, ""},
		{"socket", func(r *Request) { r.SdNotifySocket = "@abstract" }, func(c *Config) any { return c.SdNotifySocket }, "@abstract"},
		{"legacy exec", func(r *Request) { exec(r); r.CUUID = "" }, func(c *Config) any { return c.APIVersion }, 0},
		{"api", func(r *Request) { r.API1 = true }, func(c *Config) any { return c.APIVersion }, 1},
		{"no limit", func(r *Request) { r.Log.SizeMax, r.Timeout = -1, -5 }, func(c *Config) any { return c.Log.SizeMax + int64(c.Timeout) }, int64(0)},
		{"level", func(r *Request) { r.LogLevel = "DEBUG" }, func(c *Config) any { return c.LogLevel }, "debug"},
		{"log", func(r *Request) { r.LogPaths = []string{"log"} }, func(c *Config) any { return c.Log.Drivers }, []Driver{{K8sFile, "/work/log"}}},
		{"same log twice", func(r *Request) { r.LogPaths = []string{"/log", "off", "none", "k8s-file:/log"} }, func(c *Config) any { return c.Log.Drivers }, []Driver{{K8sFile, "/log"}, {Kind: None}}},
		{"tag of journald", func(r *Request) { r.LogPaths, r.Log.Tag = []string{"/log", "journald"}, "t" }, func(c *Config) any { return c.Log.Tag }, "t"},
		{"allow-list", func(r *Request) { r.Log.AllowlistDirs = []string{"a", "/b"} }, func(c *Config) any { return c.Log.AllowlistDirs }, []string{"/work/a", "/b"}},
		{"passthrough", func(r *Request) { r.LogPaths = []string{"passthrough"} }, func(c *Config) any { return c.Passthrough() }, true},
	} {
		r := valid()
		c.with(r)
		cfg, warnings, err := r.Resolve(system(nil))
		if err != nil || warnings != nil {
			t.Errorf("%s: %v %q", c.name, err, warnings)
			continue
		}
		if got := c.get(cfg); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestPartialMessageWarning(t *testing.T) {
	for _, c := range []struct {
		driver string
		want   int
	}{{"none", 1}, {"journald", 0}} {
		r := valid()
		r.LogPaths, r.Log.NoPartialMessage = []string{c.driver}, true
		if _, warnings, err := r.Resolve(system(nil)); err != nil || len(warnings) != c.want {
			t.Errorf("%s: %q, %v", c.driver, warnings, err)
		}
	}
}

func TestRegistryDir(t *testing.T) {
	for _, c := range []struct {
		own, runtime string
		root         bool
		want         string
	}{
		{"", "", true, "/run/conmon"},
		{"", "/run/user/1", true, "/run/conmon"},
		{"", "/run/user/1", false, "/run/user/1/conmon"},
		{"", "", false, ""},
		{"/own", "/run/user/1", false, "/own"},
	} {
		env := map[string]string{"CONMON_REGISTRY_DIR": c.own, "XDG_RUNTIME_DIR": c.runtime}
		if got := RegistryDir(system(env).Lookup, c.root); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

// Every field of a Config is handed over: a new one that is left out of the
// list makes this fail.
func TestHandoffCoversEveryField(t *testing.T) {
	c := new(Config)
	fill(reflect.ValueOf(c).Elem())
	st := new(handoff.State)
	c.Save(st)
	st, err := handoff.Decode(st.Encode(nil))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Load(st)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, c) {
		t.Errorf("saved  %+v\nloaded %+v", c, got)
	}
}

// fill gives every field a value that is not its zero.
func fill(v reflect.Value) {
	for i := range v.NumField() {
		switch f := v.Field(i); f.Interface().(type) {
		case string:
			f.SetString(v.Type().Field(i).Name)
		case bool:
			f.SetBool(true)
		case int, int64:
			f.SetInt(int64(i) + 1)
		case []string:
			f.Set(reflect.ValueOf([]string{"", v.Type().Field(i).Name}))
		case []Driver:
			f.Set(reflect.ValueOf([]Driver{{ExecLogger, "/a:b?arg=c"}, {Kind: None}}))
		default:
			fill(f)
		}
	}
}

func TestLoadRefusesForeignState(t *testing.T) {
	if _, err := Load(new(handoff.State)); err == nil {
		t.Error("an empty state was loaded")
	}
}
