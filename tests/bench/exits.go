package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// exitWatch waits for exit files by inotify, as CRI-O does.
type exitWatch struct {
	ctx context.Context
	dir string
	fd  int
	buf [64 << 10]byte
}

func newExitWatch(ctx context.Context, dir string) (*exitWatch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify_init: %w", err)
	}
	// Either way of making the file; both mean that it is complete.
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MOVED_TO|unix.IN_CLOSE_WRITE); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	return &exitWatch{ctx: ctx, dir: dir, fd: fd}, nil
}

func (w *exitWatch) close() { unix.Close(w.fd) }

// await returns the moment when the last of the monitors' exit files appeared.
func (w *exitWatch) await(monitors ...*monitor) (time.Time, error) {
	missing := make(map[string]bool, len(monitors))
	for _, m := range monitors {
		missing[m.id] = true
	}
	deadline := time.Now().Add(patience)
	set := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}
	for {
		// A second at most, to see an interrupt from the keyboard.
		_, err := unix.Poll(set, 1000)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return time.Time{}, fmt.Errorf("poll inotify: %w", err)
		}
		if err := w.ctx.Err(); err != nil {
			return time.Time{}, err
		}
		n, _ := unix.Read(w.fd, w.buf[:])
		now := time.Now()
		for events := w.buf[:max(n, 0)]; len(events) > 0; {
			var name string
			name, events = nextEvent(events)
			delete(missing, name)
		}
		if len(missing) == 0 {
			w.forget(monitors)
			return now, nil
		}
		if now.After(deadline) {
			return now, fmt.Errorf("%d of %d exit files missing after %v", len(missing), len(monitors), patience)
		}
	}
}

func (w *exitWatch) forget(monitors []*monitor) {
	for _, m := range monitors {
		_ = os.Remove(filepath.Join(w.dir, m.id))
	}
}

// nextEvent splits an inotify buffer into the first event's name and the rest.
func nextEvent(buf []byte) (string, []byte) {
	event := (*unix.InotifyEvent)(unsafe.Pointer(&buf[0]))
	end := unix.SizeofInotifyEvent + int(event.Len)
	name, _, _ := bytes.Cut(buf[unix.SizeofInotifyEvent:end], []byte{0})
	return string(name), buf[end:]
}
