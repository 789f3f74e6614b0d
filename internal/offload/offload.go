// Package offload runs system calls that may hang (a write to a dead file
// server, an fsync on a broken disk) beside the goroutine that must not.
package offload

import (
	"sync/atomic"
	"time"
)

// Job is work for a Worker. Its fields belong to the Worker from Do until Do or
// Busy has said that it is over.
type Job interface{ Run() }

// The states of a worker's current job.
const (
	idle      = iota
	running   // somebody waits for it in Do
	abandoned // Do has given up waiting
	finished  // after Do gave up
)

// Worker runs one job at a time on a goroutine of its own. Its methods are for
// the one goroutine that owns it.
type Worker struct {
	jobs  chan Job
	done  chan struct{}
	wake  func()
	last  func() // see CloseWith
	timer *time.Timer
	state atomic.Int32
}

// New starts a worker. wake is called, on the worker's goroutine, when a job
// ends that Do had given up waiting for; it must only wake the owner up. The
// goroutine ends with Close, or with the process if a job never returns.
func New(wake func()) *Worker {
	w := &Worker{jobs: make(chan Job), done: make(chan struct{}), wake: wake, timer: time.NewTimer(time.Hour)}
	w.timer.Stop()
	go func() {
		for j := range w.jobs {
			j.Run()
			if w.state.CompareAndSwap(running, idle) {
				w.done <- struct{}{}
				continue
			}
			w.state.Store(finished)
			w.wake()
		}
		if w.last != nil {
			w.last()
		}
	}()
	return w
}

// Do runs j and waits for at most limit. It reports whether j is over; if not,
// j goes on, and Busy is true until it ends. Do must not be called while Busy.
func (w *Worker) Do(j Job, limit time.Duration) bool {
	w.state.Store(running)
	w.jobs <- j
	w.timer.Reset(limit)
	select {
	case <-w.done:
		w.timer.Stop()
		return true
	case <-w.timer.C:
	}
	if w.state.CompareAndSwap(running, abandoned) {
		return false
	}
	<-w.done // it ended while the timer fired
	return true
}

// Busy reports whether a job that Do gave up waiting for is still running.
func (w *Worker) Busy() bool {
	return !w.state.CompareAndSwap(finished, idle) && w.state.Load() == abandoned
}

// Close ends the worker's goroutine once its last job is over.
func (w *Worker) Close() { w.CloseWith(nil) }

// CloseWith is Close, and last is what the worker's goroutine does before it ends,
// if it ends: what wake needs may be given back there.
func (w *Worker) CloseWith(last func()) {
	w.last = last
	close(w.jobs)
}
