// The launching image lives for a millisecond: what the processor quota of its
// cgroup is, and whether that changes, is none of its concern, and takes longer
// to find out than a command line takes to understand.

//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command conmon is a container monitor: it starts an OCI runtime and stays with
// the container until its end is recorded.
package main

import (
	"fmt"
	"os"

	"conmon/internal/launch"
	"conmon/internal/logging"
	"conmon/internal/logging/compress"
	"conmon/internal/stay"
)

func main() {
	stay.Run() // does not return in the monitor itself
	args := os.Args[1:]
	if method := os.Getenv(logging.CompressEnv); method != "" {
		// The helper that a monitor starts to compress a log it has rotated away.
		if err := compress.Run(method, os.Args[len(os.Args)-1]); err != nil {
			fail(complaint(err))
		}
		return
	}
	if isSubcommand(args) {
		if err := newTree().Execute(); err != nil {
			fail("conmon: " + err.Error())
		}
		return
	}
	p, err := parse(args, os.Environ())
	if err != nil {
		launch.Refuse(p.cfg, err)
		fail(complaint(err))
	}
	switch p.order {
	case showVersion:
		fmt.Print(versionText())
	case showHelp:
		fmt.Print(helpText(newTree()))
	case launchMonitor:
		for _, w := range p.warnings {
			fmt.Fprintln(os.Stderr, "[conmon:w]: "+w)
		}
		if err := launch.Run(p.cfg, os.Args); err != nil {
			fail(complaint(err))
		}
	}
}

// fail prints what went wrong and ends the program.
func fail(text string) {
	fmt.Fprintln(os.Stderr, text)
	os.Exit(1)
}
