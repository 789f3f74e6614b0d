package tests

import (
	"testing"

	"conmon/tests/harness"
)

func TestZZ(t *testing.T) {
	for range 60 {
		b := harness.NewBundle(t, harness.RealRuntime(t, "runc"), limited("echo up; sleep 100"))
		m := harness.Launch{Bundle: b, Args: []string{"--sync"}}.Run(t)
		if msg := m.Message(t); msg.Value <= 0 {
			t.Fatalf("ended %d: %s %s", m.Wait(t), msg.Raw, m.Output)
		}
		b.Start(t)
		m.WaitLog(t, "up")
		b.Delete()
		m.Finish(t)
	}
}
