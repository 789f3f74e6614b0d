package proc

import (
	"encoding/binary"
	"fmt"
	"iter"
	"os"
	"os/signal"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// received are the signals that the monitor acts on.
var received = [...]unix.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGCHLD,
}

// wordBits is the number of signals in one word of a set.
const wordBits = 8 * unix.Signal(unsafe.Sizeof(unix.Sigset_t{}.Val[0]))

func setOf(signals ...unix.Signal) (set unix.Sigset_t) {
	for _, sig := range signals {
		set.Val[(sig-1)/wordBits] |= 1 << ((sig - 1) % wordBits)
	}
	return set
}

// Handled returns the signals that the staying image must have blocked from its
// first instruction on. A blocked signal stays pending across an exec, where a
// handler's queue would be lost. SIGPIPE is blocked so as to be of no effect:
// CRI-O's scope may send it (KillSignal=SIGPIPE).
func Handled() unix.Sigset_t { return setOf(append(received[:], unix.SIGPIPE)...) }

// Block blocks the signals of set on the calling thread, which must be about to
// execute another image.
func Block(set unix.Sigset_t) error {
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil); err != nil {
		return fmt.Errorf("block signals: %w", err)
	}
	return nil
}

// Signals receives signals.
type Signals struct {
	fd int
	// queue is nil unless the Go runtime has unblocked the signals: then fd is
	// only rung when something is put into it.
	queue chan os.Signal
}

// OpenSignals starts to receive. The descriptor is close-on-exec: a new image
// opens its own, and what is pending waits for it.
func OpenSignals() (*Signals, error) {
	if !areBlocked() {
		return openQueue()
	}
	set := setOf(received[:]...)
	fd, err := unix.Signalfd(-1, &set, unix.SFD_CLOEXEC|unix.SFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("signalfd: %w", err)
	}
	return &Signals{fd: fd}, nil
}

// areBlocked reports whether the mask that this image was started with is still
// in force. A Go runtime without tools/overlay unblocks some signals.
func areBlocked() bool {
	var now unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, nil, &now); err != nil {
		return false
	}
	want := Handled()
	return now.Val[0]&want.Val[0] == want.Val[0]
}

// openQueue receives signals the ordinary way.
func openQueue() (*Signals, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	arrived := make(chan os.Signal, 64)
	queue := make(chan os.Signal, 64)
	for _, sig := range received {
		signal.Notify(arrived, sig)
	}
	go func() { // ends with the process
		var one [8]byte
		binary.NativeEndian.PutUint64(one[:], 1)
		for sig := range arrived {
			queue <- sig
			_, _ = unix.Write(fd, one[:])
		}
	}()
	return &Signals{fd: fd, queue: queue}, nil
}

// FD returns the descriptor to wait on.
func (s *Signals) FD() int { return s.fd }

// Pending returns the signals that have arrived.
func (s *Signals) Pending() iter.Seq[unix.Signal] {
	return func(yield func(unix.Signal) bool) {
		for {
			sig, ok := s.next()
			if !ok || !yield(sig) {
				return
			}
		}
	}
}

func (s *Signals) next() (unix.Signal, bool) {
	var info unix.SignalfdSiginfo
	b := (*[unsafe.Sizeof(info)]byte)(unsafe.Pointer(&info))
	if s.queue == nil {
		n, err := unix.Read(s.fd, b[:])
		return unix.Signal(info.Signo), err == nil && n == len(b)
	}
	_, _ = unix.Read(s.fd, b[:8])
	select {
	case sig := <-s.queue:
		return sig.(syscall.Signal), true
	default:
		return 0, false
	}
}
