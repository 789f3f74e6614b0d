package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"conmon/internal/status/client"
)

func upgradeCommand() *cobra.Command {
	var who target
	var binary string
	cmd := &cobra.Command{
		Use:   "upgrade {-b BUNDLE | --all} [--binary PATH]",
		Short: "Replace a running monitor by a new version, in place",
		Long: `Replace a running monitor by a new version, in place: same process, same
container, nothing lost. The new program is tried first; if it cannot take over,
the running one stays, and says why.

With --all the monitors are upgraded one after the other, and one that stays as
it is does not keep the others from it.`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if binary != "" {
				// The monitor's working directory is not the caller's.
				path, err := filepath.Abs(binary)
				if err != nil {
					return fmt.Errorf("--binary: %w", err)
				}
				binary = path
			}
			if who.all {
				return upgradeAll(cmd.OutOrStdout(), binary)
			}
			text, err := client.Upgrade(who.bundle, binary)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), text)
			return nil
		},
	}
	who.bindAll(cmd)
	cmd.Flags().StringVar(&binary, "binary", "", "the new program (default: the file now at the path that the monitor was started from)")
	return cmd
}

func upgradeAll(w io.Writer, binary string) error {
	entries, err := client.Bundles(registryDir())
	if err != nil {
		return err
	}
	var problems error
	for _, e := range entries {
		text, err := client.Upgrade(e.Bundle, binary)
		switch {
		case errors.Is(err, client.ErrNoMonitor):
			e.Forget()
		case err != nil:
			problems = errors.Join(problems, err)
		default:
			fmt.Fprintf(w, "%s: %s\n", e.UUID, text)
		}
	}
	return problems
}
