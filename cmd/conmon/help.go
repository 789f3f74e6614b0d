package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"conmon/internal/config"
)

// helpWidth is how wide the help is printed, whatever the terminal: it is read
// by scripts, too.
const helpWidth = 100

const (
	helpHead = `conmon monitors one container, or one command in a running container: it starts it by an OCI
runtime, keeps its streams, writes its log, and records how it ended. Podman and CRI-O start it.

Usage:
  conmon -c CID -u UUID -r RUNTIME -l DRIVER[:PATH] [OPTION]…
  conmon COMMAND [OPTION]…
`
	helpTail = `
A SIZE is a number of bytes, or has a suffix k, m or g; a TIME is written like 100ms or 2s.
Short options combine (-it), and take their value glued (-cNAME) or as the next word.
`
	helpExit = `The exit status is 0 when the monitor was launched, and 1 if it was not; the reason goes to standard
error. With --sync it is the container's.
`
)

// headed is a group's flags, by themselves.
type headed struct {
	title string
	flags *pflag.FlagSet
}

// flagsByGroup defines every group in a set of its own.
func flagsByGroup() []headed {
	var groups []headed
	for i := range flagGroups {
		fs := pflag.NewFlagSet("", pflag.ContinueOnError)
		fs.SortFlags = false
		flagGroups[i].define(fs, &options{Request: config.NewRequest()})
		groups = append(groups, headed{flagGroups[i].title, fs})
	}
	return groups
}

// helpText is what --help prints.
func helpText(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString(helpHead)
	for _, g := range flagsByGroup() {
		b.WriteString("\n" + g.title + ":\n" + g.flags.FlagUsagesWrapped(helpWidth))
	}
	b.WriteString(helpTail)
	b.WriteString("\nCommands for people; each knows --help:\n")
	for _, cmd := range root.Commands() {
		if cmd.IsAvailableCommand() {
			b.WriteString("  " + cmd.Name() + strings.Repeat(" ", max(14-len(cmd.Name()), 1)) + cmd.Short + "\n")
		}
	}
	b.WriteString("\nEnvironment, where the flag is not given:\n")
	for _, name := range envFlags {
		b.WriteString("  " + envName(name) + strings.Repeat(" ", max(28-len(envName(name)), 1)) + "--" + name + "\n")
	}
	b.WriteString("  CONMON_REGISTRY_DIR         where running monitors are listed, for ps and --all\n\n")
	b.WriteString(helpExit)
	return b.String()
}
