package monitor

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// waker lets other threads interrupt the loop's wait.
type waker struct{ fd int }

// newWaker makes a waker; its descriptor is close-on-exec.
func newWaker() (*waker, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	return &waker{fd}, nil
}

// ring interrupts the loop's current or next wait. Any thread may call it.
func (w *waker) ring() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(w.fd, one[:])
}

func (w *waker) clear() {
	var count [8]byte
	_, _ = unix.Read(w.fd, count[:])
}
