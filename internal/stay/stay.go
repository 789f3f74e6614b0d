// Package stay turns a freshly executed image into the staying one, the
// monitor, before the rest of the program is set up.
package stay

import (
	"os"

	"conmon/internal/handoff"
	"conmon/internal/monitor"
)

// This is an init function, against this project's own rule, because of what it
// saves in each of the many monitors on a node: packages are initialised in the
// order of their import paths as soon as what they import is, so this runs
// before cobra, templates and whatever else only the command line needs has
// allocated anything (50 kB, and 0.5 ms of every start). And init functions run
// on the process's first thread and keep it, which is the one that the kernel
// gives SIGCHLD to; pinning a goroutine to it later costs another thread.
func init() {
	st, mode, err := handoff.Inherited()
	switch {
	case mode == handoff.Launching:
		return
	case err != nil:
		os.Stderr.WriteString("[conmon:e]: take over: " + err.Error() + "\n")
		os.Exit(1)
	case mode == handoff.Checking:
		os.Exit(monitor.Check(st))
	}
	wake, err := monitor.NewWaker()
	if err != nil {
		os.Stderr.WriteString("[conmon:e]: " + err.Error() + "\n")
		os.Exit(1)
	}
	go func() { os.Exit(monitor.Run(st, wake)) }()
	wake.WakeOnChildren()
}

