package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"conmon/internal/status/client"
)

func reopenLogsCommand() *cobra.Command {
	var who target
	cmd := &cobra.Command{
		Use:   "reopen-logs -b BUNDLE",
		Short: "Open a container's log files again, after they were moved away",
		Long: `Open a container's log files again, after they were moved away. With
--log-rotate in force, a file that is still in its place is rotated.`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			return writeControl(who.bundle, "2 0 0\n")
		},
	}
	who.bindBundle(cmd)
	return cmd
}

func resizeCommand() *cobra.Command {
	var who target
	cmd := &cobra.Command{
		Use:               "resize -b BUNDLE {HEIGHT WIDTH | HEIGHTxWIDTH}",
		Short:             "Set the size of a container's terminal",
		Long:              "Set the size of a container's terminal, in rows and columns.",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(_ *cobra.Command, args []string) error {
			height, width, err := parseSize(args)
			if err != nil {
				return err
			}
			return writeControl(who.bundle, fmt.Sprintf("1 %d %d\n", height, width))
		},
	}
	who.bindBundle(cmd)
	return cmd
}

// maxSide is the largest number of rows or columns that a monitor accepts.
const maxSide = 1000

// parseSize understands "24 80" and "24x80".
func parseSize(args []string) (height, width int, err error) {
	if len(args) == 1 {
		args = strings.Split(args[0], "x")
	}
	if len(args) != 2 {
		return 0, 0, fmt.Errorf("size %q is not HEIGHTxWIDTH", strings.Join(args, "x"))
	}
	var sides [2]int
	for i, word := range args {
		n, err := strconv.ParseUint(word, 10, 16)
		if err != nil || n > maxSide {
			return 0, 0, fmt.Errorf("size %q is not a number from 0 to %d", word, maxSide)
		}
		sides[i] = int(n)
	}
	return sides[0], sides[1], nil
}

// writeControl writes one line to the control fifo of the monitor in bundle.
func writeControl(bundle, line string) error {
	path := bundle + "/ctl"
	// Non-blocking, so that a fifo that nobody reads is an error, not a wait.
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	switch err {
	case nil:
	case unix.ENXIO, unix.ENOENT:
		return fmt.Errorf("%w in %s", client.ErrNoMonitor, bundle)
	default:
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("stat %s: %w", path, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFIFO {
		return fmt.Errorf("%s is not a fifo", path)
	}
	// A fifo takes a line this short whole or not at all.
	if _, err := unix.Write(fd, []byte(line)); err != nil {
		return fmt.Errorf("write to %s: %w", path, err)
	}
	return nil
}
