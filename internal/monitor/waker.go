package monitor

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Waker lets other threads interrupt the loop's wait.
type Waker struct{ fd int }

// NewWaker makes a waker; its descriptor is close-on-exec.
func NewWaker() (*Waker, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	return &Waker{fd}, nil
}

// Wake interrupts the loop's current or next wait. Any thread may call it.
func (w *Waker) Wake() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(w.fd, one[:])
}

func (w *Waker) clear() {
	var count [8]byte
	_, _ = unix.Read(w.fd, count[:])
}

// WakeOnChildren wakes the loop whenever a signal interrupts the calling
// thread, and never returns. The thread must be the process's first one:
// that is the one to which the kernel gives a subreaper's SIGCHLD. Go keeps
// SIGCHLD unblocked on every thread, which rules out a signalfd for it, and
// os/signal would cost each monitor three threads and 75 kB for this one signal.
//
// A signal that arrives between the two calls below is lost, so after each one
// the wait is limited once: whoever died in between is found then.
func (w *Waker) WakeOnChildren() {
	soon := &unix.Timespec{Nsec: 100e6}
	for limit := (*unix.Timespec)(nil); ; {
		_, err := unix.Ppoll(nil, limit, nil)
		w.Wake()
		if limit = soon; err == nil {
			limit = nil // quiet for a while
		}
	}
}
