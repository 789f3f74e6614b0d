package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"conmon/internal/config"
	"conmon/internal/handoff"
)

// base is a command line that is accepted; parseWith adds to it.
const base = "-c 0123456789abc -u uuid -r /bin/sh -l none"

func parseWith(t *testing.T, line string, env ...string) *config.Config {
	t.Helper()
	p, err := parse(strings.Fields(base+" "+line), env)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return p.cfg
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		line string
		get  func(c *config.Config) any
		want any
	}{
		{"", func(c *config.Config) any { return c.APIVersion }, 0},
		{"--api-version 1", func(c *config.Config) any { return c.APIVersion }, 1},
		{"stray --api-version 1 words -i", func(c *config.Config) any { return c.Stdin }, true},
		{"-it", func(c *config.Config) any { return c.Stdin && c.Terminal }, true},
		{"-its", func(c *config.Config) any { return c.SystemdCgroup }, true},
		{"-iT5", func(c *config.Config) any { return c.Timeout }, 5},
		{"-T -1", func(c *config.Config) any { return c.Timeout }, 0},
		{"-0/p", func(c *config.Config) any { return c.PersistDir }, "/p"},
		{"-nNAME", func(c *config.Config) any { return c.Name }, "NAME"},
		{"--name -t", func(c *config.Config) any { return c.Name }, "-t"},
		{"-n --name", func(c *config.Config) any { return c.Name }, "--name"},
		{"--name=a --name=b", func(c *config.Config) any { return c.Name }, "b"},
		{"--runtime-arg --root=/r,/s --runtime-arg=--debug", func(c *config.Config) any { return c.RuntimeArgs }, []string{"--root=/r,/s", "--debug"}},
		{"--runtime-opt --preserve-fds --runtime-opt 2", func(c *config.Config) any { return c.RuntimeOpts }, []string{"--preserve-fds", "2"}},
		{"--restore /c --runtime-opt a --restore-arg b --runtime-opt c", func(c *config.Config) any { return c.RuntimeOpts }, []string{"a", "b", "c"}},
		{"--exit-command-arg= --exit-command-arg a,b", func(c *config.Config) any { return c.ExitCommandArgs }, []string{"", "a,b"}},
		{"--pidfile /old", func(c *config.Config) any { return c.ContainerPidFile }, "/old"},
		{"-p /new", func(c *config.Config) any { return c.ContainerPidFile }, "/new"},
		{"-P /m", func(c *config.Config) any { return c.MonitorPidFile }, "/m"},
		{"", func(c *config.Config) any { return c.SocketDir }, "/var/run/crio"},
		{"", func(c *config.Config) any { return c.LogLevel }, "warn"},
		{"--log-size-max 1234567890123", func(c *config.Config) any { return c.Log.SizeMax }, int64(1234567890123)},
		{"--log-size-max -1", func(c *config.Config) any { return c.Log.SizeMax }, int64(0)},
		{"--log-global-size-max 16777216", func(c *config.Config) any { return c.Log.GlobalSizeMax }, int64(16777216)},
		{"--log-rotate --log-max-files 3", func(c *config.Config) any { return c.Log.MaxFiles }, 3},
		{"", func(c *config.Config) any { return c.Log.MaxLine }, 16384},
		{"--log-max-line 1m", func(c *config.Config) any { return c.Log.MaxLine }, 1 << 20},
		{"", func(c *config.Config) any { return c.Log.FlushInterval }, int64(100_000_000)},
		{"--log-flush-interval 2s", func(c *config.Config) any { return c.Log.FlushInterval }, int64(2_000_000_000)},
		{"--log-on-full block", func(c *config.Config) any { return c.Log.Block }, true},
		{"--log-rate-limit 1k/2k", func(c *config.Config) any { return []int64{c.Log.RateLimit, c.Log.RateBurst} }, []int64{1 << 10, 2 << 10}},
		{"--log-rate-policy drop", func(c *config.Config) any { return c.Log.RateDrop }, true},
		{"--log-compress zstd", func(c *config.Config) any { return c.Log.Compress }, "zstd"},
		{"", func(c *config.Config) any { return c.AttachBacklog }, int64(64 << 20)},
		{"--attach-backlog 0", func(c *config.Config) any { return c.AttachBacklog }, int64(0)},
		{"--attach-on-full disconnect", func(c *config.Config) any { return c.AttachDisconnect }, true},
		{"-- --log-rotate", func(c *config.Config) any { return c.Log.Rotate }, false},
	} {
		if got := c.get(parseWith(t, c.line)); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %#v, want %#v", c.line, got, c.want)
		}
	}
}

// The lines that engines and scripts see, with the prefix that says who refused.
func TestComplaints(t *testing.T) {
	const rejected = "conmon: option parsing failed: "
	for _, c := range []struct{ line, want string }{
		{"", "conmon: Container ID not provided. Use --cid"},
		{"-c x", "[conmon:e]: Container UUID not provided. Use --cuuid"},
		{"-c x -u y", "[conmon:e]: Runtime path not provided. Use --runtime"},
		{"-c x -u y -r /nowhere", "[conmon:e]: Runtime path /nowhere is not valid: no such file or directory"},
		{"-c x -u y -r /etc/passwd", "[conmon:e]: Runtime path /etc/passwd is not valid: permission denied"},
		{"-c x -u y -r /bin", "[conmon:e]: Log driver not provided. Use --log-path"},
		{"-c x -u y -r /bin/sh -l bad:/log", "[conmon:e]: No such log driver bad"},
		{"-c x --log-max-files -1", "conmon: log-max-files must be non-negative"},
		{"--bogus", rejected + "unknown flag: --bogus"},
		{"-ix", rejected + "unknown shorthand flag: 'x' in -x"},
		{"-i --cid", rejected + "flag needs an argument: --cid"},
		{"-T x", rejected + `invalid argument "x" for "-T, --timeout" flag: not a number`},
		{"-T 2147483648", rejected + `invalid argument "2147483648" for "-T, --timeout" flag: value out of range`},
		{"--log-max-files 2147483648", rejected + `invalid argument "2147483648" for "--log-max-files" flag: value out of range`},
		{"--log-size-max 9223372036854775808", rejected + `invalid argument "9223372036854775808" for "--log-size-max" flag: value out of range`},
		{"--exit-delay 1s", rejected + `invalid argument "1s" for "--exit-delay" flag: not a number`},
		{"--log-max-line 1x", rejected + `invalid argument "1x" for "--log-max-line" flag: not a size: bytes, with k, m, g or t for their 1024-fold`},
		{"--log-on-full wait", rejected + `invalid argument "wait" for "--log-on-full" flag: neither drop nor block`},
		{"--log-compress xz", rejected + `invalid argument "xz" for "--log-compress" flag: neither gzip, zstd nor none`},
		{"--log-rate-limit 1k/", rejected + `invalid argument "1k/" for "--log-rate-limit" flag: not a rate: BYTES[/BURST], neither of them 0`},
	} {
		_, err := parse(strings.Fields(c.line), nil)
		if err == nil || complaint(err) != c.want {
			t.Errorf("%q: %v, want %q", c.line, err, c.want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	for _, c := range []struct {
		env, line string
		get       func(c *config.Config) any
		want      any
	}{
		{"CONMON_LOG_MAX_LINE=1k", "", func(c *config.Config) any { return c.Log.MaxLine }, 1024},
		{"CONMON_LOG_MAX_LINE=1k", "--log-max-line 2k", func(c *config.Config) any { return c.Log.MaxLine }, 2048},
		{"CONMON_LOG_MAX_LINE=bad", "--log-max-line 2k", func(c *config.Config) any { return c.Log.MaxLine }, 2048},
		{"CONMON_LOG_MAX_LINE=", "", func(c *config.Config) any { return c.Log.MaxLine }, 16384},
		{"CONMON_LOG_FLUSH_INTERVAL=1s", "", func(c *config.Config) any { return c.Log.FlushInterval }, int64(1_000_000_000)},
		{"CONMON_LOG_ON_FULL=block", "", func(c *config.Config) any { return c.Log.Block }, true},
		{"CONMON_LOG_RATE_LIMIT=1m", "", func(c *config.Config) any { return c.Log.RateBurst }, int64(1 << 20)},
		{"CONMON_LOG_RATE_POLICY=drop", "", func(c *config.Config) any { return c.Log.RateDrop }, true},
		{"CONMON_LOG_COMPRESS=gzip", "--log-compress none", func(c *config.Config) any { return c.Log.Compress }, ""},
		{"CONMON_ATTACH_BACKLOG=1g", "", func(c *config.Config) any { return c.AttachBacklog }, int64(1 << 30)},
		{"CONMON_ATTACH_ON_FULL=disconnect", "", func(c *config.Config) any { return c.AttachDisconnect }, true},
		{"CONMON_REGISTRY_DIR=/r", "", func(c *config.Config) any { return c.RegistryDir }, "/r"},
		{"CONMON_LOG_ROTATE=true", "", func(c *config.Config) any { return c.Log.Rotate }, false},
		{"CONMON_TIMEOUT=5", "", func(c *config.Config) any { return c.Timeout }, 0},
	} {
		if got := c.get(parseWith(t, c.line, "PATH=/bin", c.env)); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s %s: %v, want %v", c.env, c.line, got, c.want)
		}
	}
	for _, flag := range envFlags {
		_, err := parse(strings.Fields(base), []string{envName(flag) + "=-bad-"})
		if err == nil || !strings.HasPrefix(complaint(err), "[conmon:e]: ") || !strings.Contains(err.Error(), envName(flag)) {
			t.Errorf("%s: %v", envName(flag), err)
		}
	}
}

func TestWorkingDirectory(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	if got := parseWith(t, "").Bundle; got != dir {
		t.Errorf("bundle %q, want %q", got, dir)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	_, err = parse(strings.Fields(base), nil)
	if err == nil || !strings.HasPrefix(complaint(err), "[conmon:e]: Failed to get working directory: ") {
		t.Errorf("removed directory: %v", err)
	}
}

func TestOrders(t *testing.T) {
	for _, c := range []struct {
		line string
		want order
	}{{base, launchMonitor}, {"--version", showVersion}, {"--help", showHelp}, {"-h", showHelp}, {"-i --version x", showVersion}} {
		if p, err := parse(strings.Fields(c.line), nil); err != nil || p.order != c.want {
			t.Errorf("%s: %v, %v", c.line, p.order, err)
		}
	}
	for line, want := range map[string]bool{
		"": false, "status": true, "man": true, "-i status": false, "--cid status": false, "unknown": false,
	} {
		if got := isSubcommand(strings.Fields(line)); got != want {
			t.Errorf("%q is a subcommand: %t", line, got)
		}
	}
}

// No command line makes the parser panic, and what it accepts arrives in the
// staying image exactly.
func FuzzCommandLine(f *testing.F) {
	for _, line := range []string{
		base, base + " --api-version 1 -it --log-rotate", "--version", "-0", "--=", "-c", base + " --exit-command-arg= -l :a",
		base + " -l journald --log-label A=b --log-tag t -e --exec-process-spec s --exec-attach --api-version",
		base + " --log-rate-limit 1k/2k --log-max-line 9 --log-flush-interval 1h --timeout 0x7 -b b --restore -",
	} {
		f.Add(strings.ReplaceAll(line, " ", "\x00"), "CONMON_LOG_COMPRESS=gzip")
	}
	f.Fuzz(func(t *testing.T, line, env string) {
		p, err := parse(strings.Split(line, "\x00"), []string{env})
		if err != nil {
			if complaint(err) == "" || p.cfg == nil {
				t.Fatalf("refused without a word: %v", p)
			}
			return
		}
		if p.order != launchMonitor {
			return
		}
		st := new(handoff.State)
		p.cfg.Save(st)
		st, err = handoff.Decode(st.Encode(nil))
		if err != nil {
			t.Fatal(err)
		}
		got, err := config.Load(st)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, p.cfg) {
			t.Fatalf("saved  %+v\nloaded %+v", p.cfg, got)
		}
	})
}

// The launching process lives for about 1.5 ms; this is its share.
func BenchmarkParse(b *testing.B) {
	args := strings.Fields(base + " --api-version 1 -n name --exit-dir /e --persist-dir /p --full-attach --syslog" +
		" --runtime-arg a --runtime-arg b --exit-command c --exit-command-arg d --exit-command-arg e")
	env := os.Environ()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parse(args, env); err != nil {
			b.Fatal(err)
		}
	}
}
