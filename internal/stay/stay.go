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
	if handoff.Launched() {
		return
	}
	os.Exit(onBigStack(false))
}

// stay is the staying image. It returns the process's exit status.
func stay() int {
	st, mode, err := handoff.Inherited()
	switch {
	case err != nil:
		os.Stderr.WriteString("[conmon:e]: take over: " + err.Error() + "\n")
		return 1
	case mode == handoff.Checking:
		return monitor.Check(st)
	}
	return monitor.Run(st)
}

// onBigStack calls stay on a goroutine stack that has grown once, by more than
// this function's frame, instead of once for each power of two: the Go runtime
// cuts each of those sizes from 32 kB of its own, all of which it touches. What
// lies unused between the frames is never touched and costs nothing.
//
//go:noinline
func onBigStack(never bool) int {
	if !never {
		return stay()
	}
	var frame [15 << 10]byte
	return use(&frame)
}

//go:noinline
func use(frame *[15 << 10]byte) int { return int(frame[len(frame)/2]) }
