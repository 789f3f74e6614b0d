// Package stay turns a freshly executed image into the staying one, the monitor.
package stay

import (
	"os"

	"conmon/internal/handoff"
	"conmon/internal/monitor"
)

// Run turns this image into the monitor, or into the trial of one, if it was
// executed for that, and then does not return. It comes first in main, so that
// nothing of what only the command line needs has run or allocated anything. An
// init function would come before a few packages' own and save another 8 kB, but
// the Go runtime ties the goroutine that runs those to the first thread, and
// every job for offload would be a change of threads.
func Run() {
	if !handoff.Launched() {
		os.Exit(onBigStack(false))
	}
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
