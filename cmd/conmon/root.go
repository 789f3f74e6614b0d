package main

import (
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

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
		_, _ = io.WriteString(cmd.OutOrStdout(), helpText(cmd))
	})
	root.InitDefaultCompletionCmd()
	completeFlags(root)
	return root
}

// completeFlags tells shells what a flag's value can be.
func completeFlags(root *cobra.Command) {
	// Shells show the usage as it is, with the quotes round the value's name.
	root.Flags().VisitAll(func(f *pflag.Flag) { _, f.Usage = pflag.UnquoteUsage(f) })
	for _, name := range []string{
		"bundle", "exit-dir", "persist-dir", "restore", "socket-dir-path", "log-allowlist-dir",
	} {
		// It fails only for a flag that does not exist, and so does the next.
		_ = root.MarkFlagDirname(name)
	}
	words := func(name string, directive cobra.ShellCompDirective, words ...string) {
		_ = root.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, directive))
	}
	words("log-path", cobra.ShellCompDirectiveNoSpace, "k8s-file:", "json-file:", "journald", "exec:", "passthrough", "none")
	words("log-level", cobra.ShellCompDirectiveNoFileComp, "error", "warn", "info", "debug")
	words("log-on-full", cobra.ShellCompDirectiveNoFileComp, "drop", "block")
	words("log-rate-policy", cobra.ShellCompDirectiveNoFileComp, "block", "drop")
	words("log-compress", cobra.ShellCompDirectiveNoFileComp, "gzip", "zstd", "none")
	words("attach-on-full", cobra.ShellCompDirectiveNoFileComp, "block", "disconnect")
}
