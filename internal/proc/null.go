package proc

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// OpenNull opens /dev/null for reading and writing, close-on-exec. The caller
// owns the descriptor.
func OpenNull() (int, error) {
	fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open /dev/null: %w", err)
	}
	return fd, nil
}

// ReleaseStdio puts /dev/null in the place of this process's first n standard
// streams: whoever waits for their end does not wait for this process.
func ReleaseStdio(n int) error {
	null, err := OpenNull()
	if err != nil {
		return err
	}
	defer unix.Close(null)
	for fd := range n {
		if err := unix.Dup3(null, fd, 0); err != nil {
			return fmt.Errorf("release standard streams: %w", err)
		}
	}
	return nil
}
