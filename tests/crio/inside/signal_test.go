package inside

import (
	"testing"

	"golang.org/x/sys/unix"
)

// kill sends a signal, named without SIG, to a process.
func kill(t *testing.T, pid int, signal string) {
	t.Helper()
	if err := unix.Kill(pid, unix.SignalNum("SIG"+signal)); err != nil {
		t.Fatalf("sending %s to process %d: %v", signal, pid, err)
	}
}
