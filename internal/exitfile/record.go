// Package exitfile records how a container ended where engines look for it, so
// that a record is whole or absent, and no destination spoils another.
package exitfile

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Destinations are the directories that records go to; "" stands for none.
type Destinations struct {
	PersistDir string // file "exit"
	ExitDir    string // file named by the container's id
	Bundle     string // exit.json, if there is no persist dir
	InMemory   bool   // what Volatile said of them
}

// Volatile reports whether all destinations are on a tmpfs, as below /run: no
// device or server that could hang. (Who mounts one over a destination later, or
// watches each open with fanotify and does not answer, still hangs Record.) On
// other file systems this question itself may hang: ask it before the container
// exists, so that its start fails.
func (to Destinations) Volatile() bool {
	for _, dir := range [...]string{firstOf(to.PersistDir, to.Bundle), to.ExitDir} {
		var fs unix.Statfs_t
		if dir == "" {
			continue
		}
		if unix.Statfs(dir, &fs) != nil || fs.Type != unix.TMPFS_MAGIC {
			return false
		}
	}
	return true
}

// reasonFile is the record for people: why, not only how.
const reasonFile = "exit.json"

// reasonSize is how long that record is at most, unless a name is long.
const reasonSize = 512

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
// process lives, and is reported as an error. If all are Volatile, nobody is
// sent to do it: starting a courier, and the Go runtime's look at how he gets on,
// would take as long as the files.
func Record(to Destinations, e *Exit, limit time.Duration) []error {
	var jobs []stages
	if dir := firstOf(to.PersistDir, to.Bundle); dir != "" {
		jobs = append(jobs, &draft{dir: dir, name: reasonFile, content: e.AppendJSON(make([]byte, 0, reasonSize))})
	}
	if to.PersistDir != "" {
		jobs = append(jobs, &draft{dir: to.PersistDir, name: "exit", content: e.AppendStatus(nil)})
	}
	if to.ExitDir != "" {
		jobs = append(jobs, &draft{dir: to.ExitDir, name: e.ID, content: e.AppendStatus(nil)})
	}
	if to.InMemory {
		return recordAtOnce(jobs)
	}
	return record(jobs, max(limit, leastTime))
}

// Forget removes an earlier run's exit.json before another run begins, so that
// it is not taken for this one's. The exit files proper are the engine's to
// remove.
func Forget(to Destinations) {
	if dir := firstOf(to.PersistDir, to.Bundle); dir != "" {
		_ = unix.Unlink(dir + "/" + reasonFile)
	}
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// stages are the steps of a draft, each of which may hang. After an error of
// create or publish the file is not there, and there is nothing to settle.
type stages interface {
	path() string
	create() error
	sync() error
	publish() error
	settle() error
}

// errSlow says that a step takes too long and goes on beside.
var errSlow = errors.New("still under way")

// recording takes files through their steps: each is created, synced and
// published before the next one, and what is left to do afterwards (settle)
// waits until all are visible.
type recording struct {
	jobs  []stages
	lost  []bool // of each file: it is not there and will not be
	errs  []error
	start time.Time
	limit time.Duration
}

// record runs the jobs until they are over, at the longest for limit.
func record(jobs []stages, limit time.Duration) []error {
	r := &recording{jobs: jobs, lost: make([]bool, len(jobs)), start: time.Now(), limit: limit}
	for step := 0; step < r.steps(); {
		step = r.follow(step)
	}
	return r.errs
}

// recordAtOnce runs the jobs one step after another.
func recordAtOnce(jobs []stages) []error {
	r := &recording{jobs: jobs, lost: make([]bool, len(jobs))}
	for step := range r.steps() {
		if job, what := r.meaning(step); !r.lost[job] {
			r.note(result{step, do(jobs[job], what)})
		}
	}
	return r.errs
}

// The steps of a file before it is visible.
const (
	stepCreate = iota
	stepSync
	stepPublish
	stepSettle // of all files, after the others
)

// steps returns the number of all steps.
func (r *recording) steps() int { return len(r.jobs) * (stepSettle + 1) }

// meaning returns which file a step is of, and what is done.
func (r *recording) meaning(step int) (job, what int) {
	if before := len(r.jobs) * stepSettle; step >= before {
		return step - before, stepSettle
	}
	return step / stepSettle, step % stepSettle
}

// wait returns how long to wait for a step before it is left behind: a file may
// delay the next ones by parts of the limit, but even the step after one that was
// left behind gets a moment.
func (r *recording) wait(step int) time.Duration {
	job, what := r.meaning(step)
	left := r.limit - time.Since(r.start)
	if what == stepSettle {
		return left
	}
	return max(left-r.limit/2+r.limit/8*time.Duration(job), r.limit/16)
}

// follow sends a courier through the steps from first on, and returns the step
// to go on with: after the last one, or after one at which the courier is stuck.
func (r *recording) follow(first int) int {
	c := &courier{results: make(chan result, r.steps()-first)}
	c.at.Store(int32(first))
	go c.run(r.jobs, slices.Clone(r.lost), first, r.steps(), r.meaning)
	step := first
	timer := time.NewTimer(r.wait(step))
	defer timer.Stop()
	for step < r.steps() {
		select {
		case res := <-c.results:
			r.note(res)
			if step++; step < r.steps() {
				timer.Reset(r.wait(step))
			}
		case <-timer.C:
			if len(c.results) > 0 {
				timer.Reset(0)
				continue
			}
			return r.leaveBehind(c)
		}
	}
	return step
}

// leaveBehind notes at which step a courier is stuck and returns the next one.
func (r *recording) leaveBehind(c *courier) int {
	stuck := int(c.at.Swap(gone))
	for len(c.results) > 0 { // it has gone on in the last moment
		res := <-c.results
		r.note(res)
		if res.step == stuck {
			return stuck + 1
		}
	}
	r.note(result{stuck, errSlow})
	return stuck + 1
}

// note takes note of a step's result.
func (r *recording) note(res result) {
	if res.err == nil {
		return
	}
	job, what := r.meaning(res.step)
	if what == stepCreate || what == stepPublish {
		r.lost[job] = true
	}
	err := res.err
	if err == errSlow {
		err = fmt.Errorf("%s %s: %w", [...]string{"write", "fsync", "rename", "fsync directory of"}[what], r.jobs[job].path(), err)
	}
	r.errs = append(r.errs, err)
}

// result is how one step went.
type result struct {
	step int
	err  error
}

// gone is the step of a courier that nobody waits for any more.
const gone = -1

// courier does the steps, on a goroutine of its own. It may get stuck in one for
// ever, and ends with the process then.
type courier struct {
	at      atomic.Int32 // the step it is at, or gone
	results chan result  // has room for all
}

func (c *courier) run(jobs []stages, lost []bool, first, end int, meaning func(int) (int, int)) {
	for step := first; step < end; step++ {
		if step > first && !c.at.CompareAndSwap(int32(step-1), int32(step)) {
			return // another one goes on from here
		}
		job, what := meaning(step)
		var err error
		if !lost[job] {
			err = do(jobs[job], what)
		}
		lost[job] = lost[job] || err != nil && (what == stepCreate || what == stepPublish)
		c.results <- result{step, err}
	}
}

func do(job stages, what int) error {
	switch what {
	case stepCreate:
		return job.create()
	case stepSync:
		return job.sync()
	case stepPublish:
		return job.publish()
	}
	return job.settle()
}
