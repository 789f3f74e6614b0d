package main

import (
	"errors"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"conmon/internal/config"
)

// order is what an engine's command line asks for.
type order int

const (
	launchMonitor order = iota // parsed.cfg is set
	showVersion
	showHelp
)

// parsed is an engine's command line, understood.
type parsed struct {
	order    order
	cfg      *config.Config // after an error, as far as it was understood
	warnings []string       // for standard error; the monitor is launched nevertheless
}

// parse understands an engine's command line, without the program's name.
// Stray arguments are ignored: engines write "--api-version 1", though that is
// a switch. complaint says how an error is to be printed.
func parse(args, env []string) (parsed, error) {
	o := options{Request: config.NewRequest()}
	cmd := engineCommand(&o)
	err := cmd.ParseFlags(args)
	if o.API1 {
		o.APIVersion = 1 // before anything can fail: it decides what a refusal looks like
	}
	if err != nil {
		return parsed{cfg: &o.Config}, config.UsageError("option parsing failed: " + err.Error())
	}
	switch {
	case o.help:
		return parsed{order: showHelp}, nil
	case o.version:
		return parsed{order: showVersion}, nil
	}
	lookup := func(variable string) (string, bool) { return lookupEnv(env, variable) }
	if err := applyEnv(cmd, lookup); err != nil {
		return parsed{cfg: &o.Config}, err
	}
	workDir, err := syscall.Getwd()
	if err != nil {
		return parsed{cfg: &o.Config}, config.Refusal("Failed to get working directory: " + err.Error())
	}
	cfg, warnings, err := o.Resolve(config.System{
		WorkDir: workDir, Executable: executable, Lookup: lookup, Root: unix.Geteuid() == 0,
	})
	if err != nil {
		cfg = &o.Config
	}
	return parsed{cfg: cfg, warnings: warnings}, err
}

// engineCommand is the command that engines use, its flags bound to o.
func engineCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "conmon"}
	fs := cmd.Flags()
	fs.SortFlags = false
	for i := range flagGroups {
		flagGroups[i].define(fs, o)
	}
	return cmd
}

// envFlags are the flags that a variable CONMON_<FLAG> can set, too: engines
// let an administrator set the monitor's environment, but not its flags.
var envFlags = [...]string{
	"log-max-line", "log-flush-interval", "log-on-full", "log-rate-limit", "log-rate-policy", "log-compress",
	"attach-backlog", "attach-on-full",
}

// envName returns the variable that belongs to a flag.
func envName(flag string) string {
	return "CONMON_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// applyEnv sets the flags that the command line did not. An empty variable is
// as good as none.
func applyEnv(cmd *cobra.Command, lookup func(variable string) (string, bool)) error {
	for _, name := range envFlags {
		flag, variable := cmd.Flags().Lookup(name), envName(name)
		text, _ := lookup(variable)
		if text == "" || flag.Changed {
			continue
		}
		if err := flag.Value.Set(text); err != nil {
			return config.Refusal("invalid value \"" + text + "\" of the variable " + variable + ": " + err.Error())
		}
	}
	return nil
}

func lookupEnv(env []string, variable string) (string, bool) {
	for _, kv := range env {
		if name, text, _ := strings.Cut(kv, "="); name == variable {
			return text, true
		}
	}
	return "", false
}

// executable is conmon's check of the runtime and no more: a directory passes.
func executable(path string) error { return unix.Access(path, unix.X_OK) }

// complaint returns the line that conmon would print for an error before it
// detaches: scripts tell the flag parser's from the others by the prefix.
func complaint(err error) string {
	var usage config.UsageError
	if errors.As(err, &usage) {
		return "conmon: " + usage.Error()
	}
	return "[conmon:e]: " + err.Error()
}
