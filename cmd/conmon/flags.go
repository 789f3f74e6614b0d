package main

import (
	"github.com/spf13/pflag"

	"conmon/internal/config"
)

// options is the command line of a launch: what the flags are bound to.
type options struct {
	*config.Request
	help, version bool
}

// flagGroup is a part of the flags under one heading of the help.
type flagGroup struct {
	title  string
	define func(fs *pflag.FlagSet, o *options)
}

// flagGroups is every flag of a launch, in the order of the help. The help
// defines each group by itself, so that no flag has to carry its heading.
var flagGroups = [...]flagGroup{
	{"The container", containerFlags},
	{"The runtime", runtimeFlags},
	{"An exec session", execFlags},
	{"Streams and attaching", streamFlags},
	{"The container's log", logFlags},
	{"Limits of the log", logLimitFlags},
	{"The end", exitFlags},
	{"The monitor itself", monitorFlags},
}

// Repeatable flags are string arrays, never slices: an argument may contain
// commas, and may be empty.

func containerFlags(fs *pflag.FlagSet, o *options) {
	fs.StringVarP(&o.CID, "cid", "c", "", "`ID` of the container; required")
	fs.StringVarP(&o.CUUID, "cuuid", "u", "", "`UUID` of the container or exec session; required, but for exec in API version 0")
	fs.StringVarP(&o.Name, "name", "n", "", "`NAME` of the container, for journald")
	fs.StringVarP(&o.Bundle, "bundle", "b", "", "`DIR` of the OCI bundle, where attach, ctl, winsz and oom are made, too (default: the working directory; none for an exec session)")
	fs.StringVarP(&o.ContainerPidFile, "container-pidfile", "p", "", "`FILE` in which the runtime leaves the container's pid (default: pidfile-CID in the working directory)")
	alias(fs, "pidfile", "container-pidfile")
	fs.StringVar(&o.SdNotifySocket, "sdnotify-socket", "", "relay the container's sd_notify messages to the host's `SOCKET`")
}

func runtimeFlags(fs *pflag.FlagSet, o *options) {
	fs.StringVarP(&o.Runtime, "runtime", "r", "", "`PATH` of the OCI runtime; required, executable")
	fs.StringArrayVar(&o.RuntimeArgs, "runtime-arg", nil, "global argument `ARG` for the runtime, before its subcommand; repeatable")
	fs.StringArrayVar(&o.RuntimeOpts, "runtime-opt", nil, "option `OPT` for the runtime's subcommand; repeatable")
	alias(fs, "restore-arg", "runtime-opt")
	fs.BoolVarP(&o.SystemdCgroup, "systemd-cgroup", "s", false, "let the runtime use the systemd cgroup manager")
	fs.BoolVar(&o.NoPivot, "no-pivot", false, "let the runtime not use pivot_root")
	fs.BoolVar(&o.NoNewKeyring, "no-new-keyring", false, "let the runtime make no session keyring")
	fs.BoolVar(&o.ReplaceListenPid, "replace-listen-pid", false, "set LISTEN_PID to the runtime's pid even if it named somebody else")
	fs.StringVar(&o.Restore, "restore", "", "restore the container from the checkpoint in `DIR`")
}

func execFlags(fs *pflag.FlagSet, o *options) {
	fs.BoolVarP(&o.Exec, "exec", "e", false, "run a command in a running container")
	fs.StringVar(&o.ProcessSpec, "exec-process-spec", "", "`FILE` with the OCI process; required with --exec")
	fs.BoolVar(&o.ExecAttach, "exec-attach", false, "wait for a client to attach before the command starts; API version 1 only")
}

func streamFlags(fs *pflag.FlagSet, o *options) {
	fs.BoolVarP(&o.Stdin, "stdin", "i", false, "give the container a standard input (default: /dev/null)")
	fs.BoolVarP(&o.Terminal, "terminal", "t", false, "give the container a terminal")
	fs.BoolVar(&o.LeaveStdinOpen, "leave-stdin-open", false, "keep that standard input open when an attach client leaves")
	fs.StringVar(&o.SocketDir, "socket-dir-path", o.SocketDir, "`DIR` in which UUID is linked to the bundle, so that clients find the attach socket")
	fs.BoolVar(&o.FullAttach, "full-attach", false, "attach socket in the bundle only, no link")
	parsedVar(fs, &o.AttachBacklog, config.ParseSize, "attach-backlog", "", "64m", "`SIZE` by which an attach client may lag without delaying anybody")
	choiceVar(fs, &o.AttachDisconnect, "attach-on-full", "block", "disconnect", "`POLICY` for one that lags more: block (the container waits) or disconnect")
}

func logFlags(fs *pflag.FlagSet, o *options) {
	fs.StringArrayVarP(&o.LogPaths, "log-path", "l", nil, "`DRIVER[:PATH]`"+`; required, repeatable:
k8s-file:PATH, PATH   the log file of the CRI
json-file:PATH        docker's format
journald              the systemd journal
exec:PATH[?arg=ARG]   a program reads the output
passthrough           the caller's own streams
none, off, null       no log`)
	fs.StringVar(&o.Log.Tag, "log-tag", "", "journald: `TAG` of the records")
	fs.StringArrayVar(&o.Log.Labels, "log-label", nil, "journald: another field; `LABEL` is NAME=VALUE; repeatable")
	fs.BoolVar(&o.Log.NoPartialMessage, "no-container-partial-message", false, "journald: do not mark pieces of a line")
	parsedVar(fs, &o.Log.MaxLine, config.ParseMaxLine, "log-max-line", "", "16k", "`SIZE` beyond which a line is logged in pieces")
	parsedVar(fs, &o.Log.FlushInterval, config.ParseInterval, "log-flush-interval", "", "100ms", "`TIME` after which an unfinished line is logged as a piece")
	fs.StringArrayVar(&o.Log.AllowlistDirs, "log-allowlist-dir", nil, "create logs only below `DIR`; repeatable")
	fs.BoolVar(&o.Log.NoSync, "no-sync-log", false, "do not flush the log to the disk at the end")
}

func logLimitFlags(fs *pflag.FlagSet, o *options) {
	number(fs, &o.Log.SizeMax, 64, "log-size-max", "", "largest log file, in `BYTES`; then it starts over, or rotates (default: no limit)")
	number(fs, &o.Log.GlobalSizeMax, 64, "log-global-size-max", "", "stop logging after this many `BYTES` in total (default: no limit)")
	fs.BoolVar(&o.Log.Rotate, "log-rotate", false, "rotate at the limit: the log becomes PATH.1, PATH.1 becomes PATH.2 …")
	number(fs, &o.Log.MaxFiles, 32, "log-max-files", "", "keep `N` of them")
	fs.Var(compressValue(&o.Log.Compress), "log-compress", "compress them; `METHOD` is gzip, zstd or none")
	choiceVar(fs, &o.Log.Block, "log-on-full", "drop", "block", "`POLICY` while the log cannot be written: drop (count what is lost) or block (the container waits)")
	fs.Var(rateValue(&o.Log.RateLimit, &o.Log.RateBurst), "log-rate-limit", "`RATE` of the output: SIZE per second, or SIZE/BURST with the size of what may come at once (default: no limit)")
	choiceVar(fs, &o.Log.RateDrop, "log-rate-policy", "block", "drop", "`POLICY` beyond that: block (the container waits) or drop (count what is lost)")
}

func exitFlags(fs *pflag.FlagSet, o *options) {
	fs.StringVar(&o.ExitDir, "exit-dir", "", "`DIR` whose file CID gets the exit status")
	fs.StringVarP(&o.PersistDir, "persist-dir", "0", "", "`DIR` whose file exit gets it, too; also for oom and exit.json")
	fs.StringVar(&o.ExitCommand, "exit-command", "", "run `PROGRAM` after the exit is recorded")
	fs.StringArrayVar(&o.ExitCommandArgs, "exit-command-arg", nil, "argument `ARG` for it; repeatable")
	number(fs, &o.ExitDelay, 32, "exit-delay", "", "wait `SECONDS` before it")
	number(fs, &o.Timeout, 32, "timeout", "T", "kill the container after this many `SECONDS`")
}

func monitorFlags(fs *pflag.FlagSet, o *options) {
	fs.BoolVar(&o.API1, "api-version", false, "talk to the engine in API version 1; a switch: a number after it is ignored")
	fs.StringVarP(&o.MonitorPidFile, "conmon-pidfile", "P", "", "write the monitor's pid to `FILE`")
	fs.BoolVar(&o.Sync, "sync", false, "do not detach: the process that was started is the monitor")
	fs.StringVar(&o.LogLevel, "log-level", o.LogLevel, "print the monitor's own messages up to `LEVEL`: error, warn, info or debug (also fatal, panic, warning, trace)")
	fs.BoolVar(&o.Syslog, "syslog", false, "send them to syslog, too")
	fs.BoolVar(&o.version, "version", false, "print version and commit")
	fs.BoolVarP(&o.help, "help", "h", false, "print this")
}

// alias makes an old, hidden spelling of a flag. They share one value, so that
// a repeatable flag keeps what was given under its other name.
func alias(fs *pflag.FlagSet, old, name string) {
	f := fs.Lookup(name)
	fs.Var(f.Value, old, f.Usage)
	fs.Lookup(old).Hidden = true
}
