package main

import (
	"os"

	"github.com/spf13/cobra"

	"conmon/internal/config"
)

// peopleCommands returns the subcommands: everything that a person, not an
// engine, asks of this program.
func peopleCommands() []*cobra.Command {
	return []*cobra.Command{
		attachCommand(), psCommand(), statusCommand(), upgradeCommand(), reopenLogsCommand(), resizeCommand(),
	}
}

// target is whom a subcommand is about.
type target struct {
	bundle string
	all    bool
}

// bindBundle adds --bundle to a command that is about one container.
func (t *target) bindBundle(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&t.bundle, "bundle", "b", "", "the container's bundle")
	// It fails only for a flag that does not exist.
	_ = cmd.MarkFlagRequired("bundle")
	_ = cmd.MarkFlagDirname("bundle")
}

// bindAll adds --bundle and --all to a command that can be about every
// container of the user.
func (t *target) bindAll(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&t.bundle, "bundle", "b", "", "the container's bundle")
	cmd.Flags().BoolVarP(&t.all, "all", "a", false, "every container whose monitor runs here")
	_ = cmd.MarkFlagDirname("bundle")
	cmd.MarkFlagsOneRequired("bundle", "all")
	cmd.MarkFlagsMutuallyExclusive("bundle", "all")
}

// registryDir is where this user's monitors are linked, "" for nowhere.
func registryDir() string { return config.RegistryDir(os.LookupEnv, os.Geteuid() == 0) }
