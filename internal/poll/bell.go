package poll

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Bell is how another thread interrupts the loop's wait: a descriptor, owned by the
// Bell, that is readable from Ring until Hear.
type Bell struct{ fd int }

// NewBell makes a bell; its descriptor is close-on-exec.
func NewBell() (Bell, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return Bell{-1}, fmt.Errorf("eventfd: %w", err)
	}
	return Bell{fd}, nil
}

// FD returns the descriptor to wait on.
func (b Bell) FD() int { return b.fd }

// Ring interrupts the current or the next wait. Any thread may call it.
func (b Bell) Ring() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(b.fd, one[:])
}

// Hear silences the bell.
func (b Bell) Hear() {
	var count [8]byte
	_, _ = unix.Read(b.fd, count[:])
}

// Close closes the descriptor. Nobody may ring any more: its number may soon be
// another's.
func (b Bell) Close() { _ = unix.Close(b.fd) }
