package monitor

import "testing"

func TestNext(t *testing.T) {
	for _, tc := range []struct {
		name string
		p    phase
		e    event
		then phase
		do   action
	}{
		{"the client is there", awaiting, clientAttached, creating, startRuntime},
		{"stopped while waiting for a client", awaiting, terminate, ended, abandonBeforeRun},
		{"a container was made", creating, containerKnown, running, announce},
		{"no container was made", creating, createFailed, ended, reportFailure},
		{"the runtime cannot be started", creating, monitorCannotRun, ended, reportFailure},
		{"stopped while the runtime runs", creating, terminate, creating, signalRuntime},
		{"the runtime does not stop", creating, patienceOver, creating, killRuntime},
		{"the container ends", running, containerDied, ended, recordEnd},
		{"the container is to stop", running, terminate, running, signalContainer},
		{"an exec session does not stop", running, patienceOver, running, killSession},
		{"the time is up", running, timeUp, killing, killForTimeout},
		{"the killed container dies", killing, containerDied, ended, recordEnd},
		{"the killed container does not die", killing, deathOverdue, ended, recordEnd},
		{"the time is up once", killing, timeUp, killing, nothing},
		{"a client that comes late", running, clientAttached, running, nothing},
		{"nothing ends twice", ended, containerDied, ended, nothing},
		{"nothing fails after the end", ended, monitorCannotRun, ended, nothing},
	} {
		if p, a := next(tc.p, tc.e); p != tc.then || a != tc.do {
			t.Errorf("%s: phase %d and action %d, want %d and %d", tc.name, p, a, tc.then, tc.do)
		}
	}
}

// Whatever happens, in whatever order: an end is final, and a container that is
// known never turns into a failed creation.
func FuzzNext(f *testing.F) {
	f.Add([]byte{0, 1, 5, 3})
	f.Fuzz(func(t *testing.T, events []byte) {
		p, known := awaiting, false
		for _, e := range events {
			before := p
			var a action
			p, a = next(p, event(e%10))
			if before == ended && (p != ended || a != nothing) {
				t.Fatalf("event %d after the end: phase %d, action %d", e%10, p, a)
			}
			if known && (a == reportFailure || a == startRuntime || a == announce) {
				t.Fatalf("action %d for a container that runs", a)
			}
			known = known || p == running
		}
	})
}
