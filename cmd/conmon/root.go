package main

import (
	"github.com/spf13/cobra"

	"conmon/internal/config"
	"conmon/internal/version"
)

// versionText is what --version prints. Podman shows it in "podman info", and
// CRI-O takes the third word.
func versionText() string {
	return "conmon version " + version.Number + "\ncommit: " + version.Commit + "\n"
}

// isSubcommand reports whether args, without the program's name, are for the
// tree of subcommands. Only the first argument counts: everything else is an
// engine's command line, in which a container may well be called "status".
func isSubcommand(args []string) bool {
	if len(args) == 0 {
		return false
	}
	switch args[0] {
	case "attach", "ps", "reopen-logs", "resize", "status", "upgrade",
		"completion", "help", "man", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd:
		return true
	}
	return false
}

// newTree returns the command with its subcommands, as people see it. An
// engine's command line is not parsed by it: building it takes longer than all
// of a launch may.
func newTree() *cobra.Command {
	root := engineCommand(&options{Request: config.NewRequest()})
	root.Short = "Monitor a container"
	root.SilenceErrors, root.SilenceUsage = true, true
	// A launch never gets here; this is for the completions, which offer
	// options only for a command that can be run.
	root.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	root.AddCommand(peopleCommands()...)
	root.AddCommand(manCommand())
	ofSubcommand := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if cmd.HasParent() {
			ofSubcommand(cmd, args)
			return
		}
		cmd.Print(helpText(cmd))
	})
	root.SetOut(nil)
	completeFlags(root)
	return root
}

// completeFlags tells shells what a flag's value can be. It fails only for a
// flag that does not exist.
func completeFlags(root *cobra.Command) {
	for _, dir := range []string{
		"bundle", "exit-dir", "persist-dir", "restore", "socket-dir-path", "log-allowlist-dir",
	} {
		_ = root.MarkFlagDirname(dir)
	}
	for flag, words := range map[string][]string{
		"log-level":       {"error", "warn", "info", "debug"},
		"log-path":        {"k8s-file:", "json-file:", "journald", "exec:", "passthrough", "none"},
		"log-on-full":     {"drop", "block"},
		"log-rate-policy": {"block", "drop"},
		"log-compress":    {"gzip", "zstd", "none"},
		"attach-on-full":  {"block", "disconnect"},
	} {
		_ = root.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoSpace))
	}
}
