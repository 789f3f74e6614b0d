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
// allocated anything. And init functions run on the process's first thread and
// keep it: the thread that starts the runtime must not end before the monitor
// does (PDEATHSIG), and pinning a goroutine later costs another thread.
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
	os.Exit(monitor.Run(st))
}
