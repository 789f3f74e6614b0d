package monitor

import (
	"errors"
	"testing"
)

func TestComplaint(t *testing.T) {
	died := errors.New("runtime was killed by SIGTERM")
	for _, c := range []struct {
		reason, early string
		err           error
		want          string
	}{
		{"", "", died, "runtime was killed by SIGTERM"},
		{"", "no such file\n", died, "no such file\n"},
		{"", "a warning\n", errNoTerminal, "Runtime did not set up terminal"},
		{"stopped", "", died, "stopped"},
		{"stopped", "a warning\n", died, "stopped; the runtime said: a warning\n"},
	} {
		m := &Monitor{early: []byte(c.early), end: end{reason: c.reason}}
		if got := m.complaint(c.err); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
