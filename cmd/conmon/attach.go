package main

import (
	"fmt"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	attach "conmon/internal/attach/client"
	"conmon/internal/status/client"
	"conmon/internal/tty"
)

func attachCommand() *cobra.Command {
	var who target
	noStdin := false
	keys := "ctrl-p,ctrl-q"
	cmd := &cobra.Command{
		Use:   "attach -b BUNDLE [--no-stdin] [--detach-keys KEYS]",
		Short: "Watch a container and type into it",
		Long: `Watch a container's output and type into it, from now on until it ends.

At a terminal, typing the detach keys leaves the container as it is; its terminal,
if it has one, follows the size of yours. The end of your input, or leaving as the
last client, closes the container's stdin, unless it has a terminal or was started
with --leave-stdin-open.

A container without a terminal leaves yours as it is: it gets whole lines, and
ctrl-c leaves it.`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			parsed, err := attach.ParseKeys(keys)
			if err != nil {
				return fmt.Errorf("--detach-keys: %w", err)
			}
			return attachTo(who.bundle, !noStdin, parsed)
		},
	}
	who.bindBundle(cmd)
	cmd.Flags().BoolVar(&noStdin, "no-stdin", false, "only watch")
	cmd.Flags().StringVar(&keys, "detach-keys", keys, `keys that detach, such as "ctrl-a,d"; empty for none`)
	return cmd
}

// attachTo connects this process's standard streams with the container's.
func attachTo(bundle string, stdin bool, keys []byte) error {
	conn, err := attach.Dial(bundle)
	if err != nil {
		return err
	}
	defer conn.Close()
	streams := attach.Streams{Out: os.Stdout, Err: os.Stderr}
	term, atTerminal := tty.Person(unix.Stdin)
	if stdin {
		streams.In = os.Stdin
	}
	if atTerminal {
		// In a file, the bytes of the detach keys are input like any other.
		streams.DetachKeys = keys
	}
	// The terminal's settings must not outlive us.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGWINCH)
	if stdin && atTerminal && hasTerminal(bundle) {
		if err := term.Raw(); err != nil {
			return err
		}
		defer func() { _ = term.Restore() }()
		signals <- unix.SIGWINCH // the container's terminal takes the size of this one
	} else {
		term = nil
	}
	go func() {
		for sig := range signals {
			if sig != unix.SIGWINCH {
				conn.Hangup()
			} else if term != nil {
				followSize(bundle, term)
			}
		}
	}()
	detached, err := conn.Run(streams)
	signal.Stop(signals)
	if detached {
		fmt.Fprint(os.Stderr, "\r\n")
	}
	return err
}

// followSize gives the container's terminal the size of ours. One that is too
// large, or a container that has just ended, is no reason to stop.
func followSize(bundle string, term *tty.Terminal) {
	if height, width, err := term.Size(); err == nil && height > 0 && width > 0 {
		_ = writeControl(bundle, fmt.Sprintf("1 %d %d\n", height, width))
	}
}

// hasTerminal asks the monitor whether the container has a terminal, which then
// acts on every key itself.
func hasTerminal(bundle string) bool {
	answer, err := client.Status(bundle)
	if err != nil {
		return false
	}
	r, err := client.Parse(answer)
	return err == nil && r.Terminal
}
