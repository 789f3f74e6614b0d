// Package exitfile records how a container ended where engines look for it, so
// that a record is whole or absent, and no destination spoils another.
package exitfile

import (
	"errors"
	"fmt"
	"time"
)

// Destinations are the directories that records go to; "" stands for none.
type Destinations struct {
	PersistDir string // file "exit"
	ExitDir    string // file named by the container's id
	Bundle     string // exit.json, if there is no persist dir
}

// leastTime is what Record takes if it must, however little time it is given: a
// file system in good health needs less, and one record is worth it.
const leastTime = 200 * time.Millisecond

// Record writes e to every destination and returns what went wrong. The files
// become visible one after another: exit.json, so that whoever sees an exit file
// can read the reason; the persist dir's exit, which CRI-O reads when the third,
// in the exit dir, appears.
//
// A file system that hangs delays the others by parts of limit and Record by
// limit: an fsync that takes longer than half of it goes on beside, and the file
// appears before it is over. What is not done by the end goes on as long as the
// process lives, and is reported as an error.
func Record(to Destinations, e *Exit, limit time.Duration) []error {
	var jobs []stages
	if dir := firstOf(to.PersistDir, to.Bundle); dir != "" {
		jobs = append(jobs, &draft{dir: dir, name: "exit.json", content: e.AppendJSON(nil)})
	}
	if to.PersistDir != "" {
		jobs = append(jobs, &draft{dir: to.PersistDir, name: "exit", content: e.AppendStatus(nil)})
	}
	if to.ExitDir != "" {
		jobs = append(jobs, &draft{dir: to.ExitDir, name: e.ID, content: e.AppendStatus(nil)})
	}
	return record(jobs, max(limit, leastTime))
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// stages are the steps of a draft, each of which may hang. After an error of
// create or publish the file is not there; settle belongs after publish even so.
type stages interface {
	path() string
	create() error
	sync() error
	publish() error
	settle() error
}

// errSlow says that a step takes too long and goes on beside.
var errSlow = errors.New("still under way")

// line is one file on its way through its stages, on a goroutine of its own.
type line struct {
	job     stages
	before  <-chan struct{} // closed when the file before is visible; nil for the first
	syncBy  time.Time       // how long fsync may hold up the file
	turnBy  time.Time       // how long the file before may
	visible chan struct{}   // closed when the file is visible, or never will be
	over    chan struct{}   // closed after the last stage
	errs    []error         // the goroutine's until over is closed
}

// record runs the jobs side by side until they are over, at the longest for
// limit. Each has its goroutine, as each may hang for ever; one that does ends
// with the process.
func record(jobs []stages, limit time.Duration) []error {
	start := time.Now()
	lines := make([]*line, len(jobs))
	var before chan struct{}
	for i, job := range jobs {
		l := &line{
			job: job, before: before, visible: make(chan struct{}), over: make(chan struct{}),
			syncBy: start.Add(limit / 2),
			turnBy: start.Add(limit/2 + limit/8*time.Duration(i)),
		}
		before = l.visible
		lines[i] = l
		go l.run()
	}
	expired := make(chan struct{})
	timer := time.AfterFunc(time.Until(start.Add(limit)), func() { close(expired) })
	defer timer.Stop()
	var errs []error
	for _, l := range lines {
		if l.ended(expired) {
			errs = append(errs, l.errs...)
		} else {
			errs = append(errs, fmt.Errorf("write %s: %w", l.job.path(), errSlow))
		}
	}
	return errs
}

// ended waits until the line is over, or until time has expired; what is over by
// then counts.
func (l *line) ended(expired <-chan struct{}) bool {
	select {
	case <-l.over:
		return true
	case <-expired:
	}
	select {
	case <-l.over:
		return true
	default:
		return false
	}
}

// run takes the file through its stages.
func (l *line) run() {
	defer close(l.over)
	err := l.job.create()
	l.note(err)
	if err == nil {
		l.note(l.syncInTime())
	}
	// Failed or not: the file behind waits for those before this one as well.
	l.awaitTurn()
	if err == nil {
		l.note(l.job.publish())
	}
	close(l.visible)
	if err == nil {
		l.note(l.job.settle())
	}
}

func (l *line) note(err error) {
	if err != nil {
		l.errs = append(l.errs, err)
	}
}

// syncInTime leaves an fsync that takes too long to itself: a record that a
// crash may cost is better than none.
func (l *line) syncInTime() error {
	done := make(chan error, 1)
	go func() { done <- l.job.sync() }()
	timer := time.NewTimer(time.Until(l.syncBy))
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return fmt.Errorf("fsync %s: %w", l.job.path(), errSlow)
	}
}

// awaitTurn keeps the order in which the files appear, as far as time allows.
func (l *line) awaitTurn() {
	if l.before == nil {
		return
	}
	timer := time.NewTimer(time.Until(l.turnBy))
	defer timer.Stop()
	select {
	case <-l.before:
	case <-timer.C:
	}
}
