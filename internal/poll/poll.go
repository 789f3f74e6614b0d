// Package poll is the one place where the monitor waits: an epoll set whose
// entries carry a tag, so that every event can be told apart without a callback.
package poll

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
)

// Owner names the part of the monitor that an event is for. The monitor hands
// each part its own value.
type Owner uint32

// Tag tells what a descriptor stands for: whose it is, and which of that
// owner's descriptors (the owner's own numbering).
type Tag struct {
	Owner Owner
	ID    uint32
}

// What to watch a descriptor for, and what happened to it. Hup and Err are
// always reported.
const (
	In   uint32 = unix.EPOLLIN
	Out  uint32 = unix.EPOLLOUT
	Pri  uint32 = unix.EPOLLPRI
	Hup  uint32 = unix.EPOLLHUP
	Err  uint32 = unix.EPOLLERR
	Edge uint32 = unix.EPOLLET
)

// Event says that something happened to the descriptor behind Tag.
type Event struct {
	Tag  Tag
	Mask uint32
}

// Watcher is what the parts of the monitor need of a Poller. It borrows
// descriptors: closing one stays with its owner, who removes it first.
type Watcher interface {
	Add(fd int, tag Tag, mask uint32) error
	Modify(fd int, tag Tag, mask uint32) error
	Remove(fd int)
}

// Poller is an epoll set. It is used by one goroutine.
type Poller struct {
	fd     int
	raw    [16]unix.EpollEvent
	events [16]Event
}

// New returns an empty set, close-on-exec.
func New() (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	return &Poller{fd: fd}, nil
}

// Add starts watching fd.
func (p *Poller) Add(fd int, tag Tag, mask uint32) error {
	return p.control(unix.EPOLL_CTL_ADD, fd, tag, mask)
}

// Modify changes what fd is watched for; a mask of 0 leaves only Hup and Err.
func (p *Poller) Modify(fd int, tag Tag, mask uint32) error {
	return p.control(unix.EPOLL_CTL_MOD, fd, tag, mask)
}

// Remove stops watching fd; one that is not watched is no error.
func (p *Poller) Remove(fd int) {
	_ = unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, fd, nil)
}

func (p *Poller) control(op, fd int, tag Tag, mask uint32) error {
	// Fd and Pad are the 64 bits that epoll hands back untouched.
	ev := unix.EpollEvent{Events: mask, Fd: int32(tag.Owner), Pad: int32(tag.ID)}
	if err := unix.EpollCtl(p.fd, op, fd, &ev); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// brief is how long, in milliseconds, a wait keeps the Go scheduler's P. Giving
// it up and taking it again wakes the runtime's monitoring thread, which then
// looks around fifty times in a millisecond: too much between two lines of a
// busy container, and nothing against hours. Above 10 ms that thread would
// interrupt the wait.
const brief = 4

// Wait returns what happened, at the latest at deadline (0: no deadline). An
// interrupted wait returns no events. The slice is valid until the next call.
func (p *Poller) Wait(deadline clock.Mono) ([]Event, error) {
	timeout := -1
	if deadline != 0 {
		timeout = 0
		if left := deadline - clock.Now(); left > 0 {
			// Rounded up: waking before the deadline would only mean waiting again.
			timeout = int(min((left+clock.Millisecond-1)/clock.Millisecond, 1<<30))
		}
	}
	n, err := p.waitBriefly(timeout)
	if n == 0 && err == nil && uint(timeout) > brief {
		if timeout > 0 {
			timeout -= brief
		}
		n, err = unix.EpollWait(p.fd, p.raw[:], timeout)
	}
	if err == unix.EINTR {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("epoll_wait: %w", err)
	}
	for i, ev := range p.raw[:n] {
		p.events[i] = Event{Tag: Tag{Owner(ev.Fd), uint32(ev.Pad)}, Mask: ev.Events}
	}
	return p.events[:n], nil
}

// waitBriefly waits for at most brief without telling the Go scheduler.
func (p *Poller) waitBriefly(timeout int) (n int, err error) {
	if uint(timeout) > brief {
		timeout = brief
	}
	r, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd), uintptr(unsafe.Pointer(&p.raw)),
		uintptr(len(p.raw)), uintptr(timeout), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(r), nil
}
