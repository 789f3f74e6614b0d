package proc

import (
	"fmt"
	"iter"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Handled returns the signals that the monitor receives through a descriptor.
// The launching image blocks them before it executes the staying one: a blocked
// signal stays pending across an exec, where a handler's queue would be lost,
// and a Go program keeps every thread's inherited mask.
func Handled() unix.Sigset_t {
	var set unix.Sigset_t
	for _, sig := range [...]unix.Signal{
		unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM,
		unix.SIGUSR1, unix.SIGUSR2,
		// Never read, only held back: CRI-O's scope may send it (KillSignal=SIGPIPE).
		unix.SIGPIPE,
	} {
		set.Val[(sig-1)/wordBits] |= 1 << ((sig - 1) % wordBits)
	}
	return set
}

const wordBits = 8 * unix.Signal(unsafe.Sizeof(unix.Sigset_t{}.Val[0]))

// Block blocks the signals of set on the calling thread, which must be about to
// execute another image.
func Block(set unix.Sigset_t) error {
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil); err != nil {
		return fmt.Errorf("block signals: %w", err)
	}
	return nil
}

// Signals receives the signals of Handled.
type Signals struct{ fd int }

// OpenSignals starts to receive. The descriptor is close-on-exec: a new image
// opens its own, and what is pending waits for it.
func OpenSignals() (*Signals, error) {
	set := Handled()
	set.Val[(unix.SIGPIPE-1)/wordBits] &^= 1 << ((unix.SIGPIPE - 1) % wordBits)
	fd, err := unix.Signalfd(-1, &set, unix.SFD_CLOEXEC|unix.SFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("signalfd: %w", err)
	}
	return &Signals{fd}, nil
}

// FD returns the descriptor to wait on.
func (s *Signals) FD() int { return s.fd }

// Pending returns the signals that have arrived.
func (s *Signals) Pending() iter.Seq[unix.Signal] {
	return func(yield func(unix.Signal) bool) {
		for {
			var info unix.SignalfdSiginfo
			b := (*[unsafe.Sizeof(info)]byte)(unsafe.Pointer(&info))
			n, err := unix.Read(s.fd, b[:])
			if err == unix.EINTR {
				continue
			}
			if n != len(b) || !yield(unix.Signal(info.Signo)) {
				return
			}
		}
	}
}
