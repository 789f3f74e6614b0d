// Package inside holds the scenarios that run CRI-O. It has a module of its own,
// so that CRI-O's hundred dependencies are nobody else's. TestCRIO in the
// directory above builds it and runs it in user-mode Linux, as root and alone:
// it mounts and kills as it likes.
package inside

import (
	"os"
	"testing"

	"conmon/tests/harness"
)

// envPrograms names the variable with the directory of crio, crictl, pinns and
// the monitor.
const envPrograms = "CONMON_CRIO_PROGRAMS"

// TestInside starts CRI-O and runs the scenarios one after the other. Each
// makes its own pod and may leave nothing behind; what fails in one is not
// found in the next.
func TestInside(t *testing.T) {
	if os.Getenv(envPrograms) == "" {
		t.Skip("runs in user-mode Linux: go test ./tests/crio in the repository's top directory")
	}
	e := newEngine(t)
	for _, scenario := range []struct {
		name string
		run  func(*testing.T, *engine)
	}{
		{"Crictl", testCrictl},
		{"Exits", testExits},
		{"CreateFails", testCreateFails},
		{"Log", testLog},
		{"ExecSync", testExecSync},
		{"ExecSyncCap", testExecSyncCap},
		{"ExecSyncBackground", testExecSyncBackground},
		{"ExecSyncTimeout", testExecSyncTimeout},
		{"ExecSyncTerminal", testExecSyncTerminal},
		{"ExecSyncStopped", testExecSyncStopped},
		{"Attach", testAttach},
		{"AttachStdin", testAttachStdin},
		{"AttachStdinOnce", testAttachStdinOnce},
		{"AttachTerminal", testAttachTerminal},
		{"Rotate", testRotate},
		{"ReopenInPlace", testReopenInPlace},
		{"OOMKilled", testOOMKilled},
		{"Stop", testStop},
		{"FastExits", testFastExits},
		{"Restart", testRestart},
		{"Upgrade", testUpgrade},
	} {
		t.Run(scenario.name, func(t *testing.T) {
			e.beginScenario(t)
			scenario.run(t, e)
		})
	}
	t.Run("NothingLeft", func(t *testing.T) { e.nothingLeft(t) })
}

// needOurs skips a scenario of something that conmon in C does not do.
func needOurs(t *testing.T) { harness.NeedOurs(t) }
