package proc

import "golang.org/x/sys/unix"

// ExitStatus takes apart the wait status of a process that has ended: the
// status that engines are told, 0 to 255, or 128 plus the number of the signal
// that killed it, as shells count; the signal, 0 if none; and whether a core was
// dumped. A status of anything but an end (a stop, say) is -1: the caller did
// not wait for an end, and an unknown status must never read as success.
func ExitStatus(ws unix.WaitStatus) (status, signal int, core bool) {
	switch {
	case ws.Exited():
		return ws.ExitStatus(), 0, false
	case ws.Signaled():
		return 128 + int(ws.Signal()), int(ws.Signal()), ws.CoreDump()
	}
	return -1, 0, false
}
