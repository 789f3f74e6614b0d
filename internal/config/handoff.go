package config

import (
	"fmt"
	"strings"

	"conmon/internal/handoff"
)

// field is one value of a Config and the name under which it is handed over.
type field struct {
	key string
	ptr any // *string, *bool, *int, *int64 or *[]string
}

// fields lists what is handed over. Saving and loading share the list, so that
// neither can forget a value. A name is never given another meaning.
func (c *Config) fields() []field {
	l := &c.Log
	return []field{
		{"api_version", &c.APIVersion},
		{"bundle", &c.Bundle},
		{"cid", &c.CID},
		{"cuuid", &c.CUUID},
		{"name", &c.Name},
		{"conmon_pidfile", &c.MonitorPidFile},
		{"container_pidfile", &c.ContainerPidFile},
		{"exec", &c.Exec},
		{"exec_attach", &c.ExecAttach},
		{"exec_process_spec", &c.ProcessSpec},
		{"exit_command", &c.ExitCommand},
		{"exit_command_arg", &c.ExitCommandArgs},
		{"exit_delay", &c.ExitDelay},
		{"exit_dir", &c.ExitDir},
		{"persist_dir", &c.PersistDir},
		{"leave_stdin_open", &c.LeaveStdinOpen},
		{"log_level", &c.LogLevel},
		{"no_new_keyring", &c.NoNewKeyring},
		{"no_pivot", &c.NoPivot},
		{"replace_listen_pid", &c.ReplaceListenPid},
		{"restore", &c.Restore},
		{"runtime", &c.Runtime},
		{"runtime_arg", &c.RuntimeArgs},
		{"runtime_opt", &c.RuntimeOpts},
		{"sdnotify_socket", &c.SdNotifySocket},
		{"socket_dir_path", &c.SocketDir},
		{"full_attach", &c.FullAttach},
		{"stdin", &c.Stdin},
		{"sync", &c.Sync},
		{"syslog", &c.Syslog},
		{"systemd_cgroup", &c.SystemdCgroup},
		{"terminal", &c.Terminal},
		{"timeout", &c.Timeout},
		{"attach_backlog", &c.AttachBacklog},
		{"attach_disconnect", &c.AttachDisconnect},
		{"registry_dir", &c.RegistryDir},

		{"log.size_max", &l.SizeMax},
		{"log.global_size_max", &l.GlobalSizeMax},
		{"log.rotate", &l.Rotate},
		{"log.max_files", &l.MaxFiles},
		{"log.allowlist_dir", &l.AllowlistDirs},
		{"log.tag", &l.Tag},
		{"log.label", &l.Labels},
		{"log.no_partial_message", &l.NoPartialMessage},
		{"log.no_sync", &l.NoSync},
		{"log.max_line", &l.MaxLine},
		{"log.flush_interval", &l.FlushInterval},
		{"log.block", &l.Block},
		{"log.compress", &l.Compress},
		{"log.rate_limit", &l.RateLimit},
		{"log.rate_burst", &l.RateBurst},
		{"log.rate_drop", &l.RateDrop},
	}
}

const (
	prefix    = "config."
	driverKey = prefix + "log.driver"
)

// Save puts the configuration into st, under names that begin with "config.".
func (c *Config) Save(st *handoff.State) {
	for _, f := range c.fields() {
		key := prefix + f.key
		switch p := f.ptr.(type) {
		case *string:
			st.PutString(key, *p)
		case *bool:
			st.PutBool(key, *p)
		case *int:
			st.PutInt(key, int64(*p))
		case *int64:
			st.PutInt(key, *p)
		case *[]string:
			st.PutStrings(key, *p)
		}
	}
	for _, d := range c.Log.Drivers {
		st.PutString(driverKey, string(d.Kind)+":"+d.Path)
	}
}

// Load returns the configuration that Save put into st. An error means that st
// is not a monitor's state, or a damaged one.
func Load(st *handoff.State) (*Config, error) {
	c := new(Config)
	for _, f := range c.fields() {
		key := prefix + f.key
		switch p := f.ptr.(type) {
		case *string:
			*p = st.String(key)
		case *bool:
			*p = st.Bool(key)
		case *int:
			*p = int(st.Int(key))
		case *int64:
			*p = st.Int(key)
		case *[]string:
			*p = st.Strings(key)
		}
	}
	for _, s := range st.Strings(driverKey) {
		kind, path, _ := strings.Cut(s, ":")
		c.Log.Drivers = append(c.Log.Drivers, Driver{DriverKind(kind), path})
	}
	if c.CID == "" || c.Runtime == "" || c.Log.MaxLine <= 0 {
		return nil, fmt.Errorf("load configuration: the state has no %scid, %sruntime or %slog.max_line", prefix, prefix, prefix)
	}
	return c, nil
}
