package monitor

// phase is where the monitor stands in the container's life.
type phase uint8

const (
	// awaiting: an exec session whose client is to attach before it starts.
	awaiting phase = iota
	// creating: the runtime is at work and the container's pid is not known.
	creating
	// running: the container's process is known and has not ended.
	running
	// killing: the time was up; the container was killed and its death is due.
	killing
	// ended: the container's status is known, or there will never be one.
	ended
)

// event is something that happened to a container, as the state machine sees it.
type event uint8

const (
	clientAttached   event = iota // the engine's second word on the start pipe
	containerKnown                // the runtime is done and its pid file names a process
	createFailed                  // the runtime is done and there is no container
	containerDied                 // its status is known, or known to be lost
	terminate                     // SIGTERM, SIGINT or SIGQUIT to the monitor
	patienceOver                  // a terminate was not obeyed for a while
	timeUp                        // --timeout
	deathOverdue                  // a killed container did not die
	monitorCannotRun              // starting the runtime was not possible
)

// action is what the monitor has to do about an event.
type action uint8

const (
	nothing action = iota
	startRuntime
	announce         // tell the engine the pid, watch the container
	reportFailure    // tell the engine that there is no container
	signalRuntime    // forward the signal; kill the runtime if it does not obey
	killRuntime      //
	signalContainer  // forward the signal
	killSession      // what is left of an exec session
	killForTimeout   // the container's process group, and an exec session's rest
	recordEnd        // status -1 or the real one: write it down
	abandonBeforeRun // nothing was started: report and leave
)

// next is the whole of the monitor's decisions about a container's life.
func next(p phase, e event) (phase, action) {
	switch p {
	case awaiting:
		switch e {
		case clientAttached:
			return creating, startRuntime
		case terminate, monitorCannotRun:
			return ended, abandonBeforeRun
		}
	case creating:
		switch e {
		case containerKnown:
			return running, announce
		case createFailed, monitorCannotRun:
			return ended, reportFailure
		case terminate:
			return creating, signalRuntime
		case patienceOver:
			return creating, killRuntime
		}
	case running:
		switch e {
		case containerDied:
			return ended, recordEnd
		case terminate:
			return running, signalContainer
		case patienceOver:
			return running, killSession
		case timeUp:
			return killing, killForTimeout
		}
	case killing:
		switch e {
		case containerDied, deathOverdue:
			return ended, recordEnd
		case terminate:
			return killing, signalContainer
		}
	}
	return p, nothing
}
