package monitor

import (
	"time"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/poll"
	"conmon/internal/stdio"
	"conmon/internal/tty"
)

// stream is one of the container's outputs: the reading end of a pipe, or the
// master of its terminal.
type stream struct {
	kind   stdio.Stream
	fd     int         // -1: closed, or never opened
	master *tty.Master // set if it is a terminal
	paused bool        // not read because a sink is full
	fitted bool        // its pipe is as big as it is to be with a client
	narrow int         // what a pipe held that was made bigger, 0: it was not
}

// turns bounds how many chunks one stream may have before the others' turn, and
// turnTime how long they may take: the container's end is to be noticed soon.
const (
	turns    = 8
	turnTime = clock.Second / 20
)

// tag marks a stream's events.
func (s *stream) tag() poll.Tag { return poll.Tag{Owner: ownStreams, ID: uint32(s.kind)} }

// watchStream starts to read a stream from fd, which it owns from now on.
func (m *Monitor) watchStream(s *stream, fd int) (err error) {
	s.fd = fd
	if s.kind == stdio.Stdout && m.cfg.Terminal {
		s.master, err = tty.NewMaster(fd, m.poller, s.tag())
		return err
	}
	return m.poller.Add(fd, s.tag(), poll.In)
}

// wide is how much a pipe holds that somebody looks at: writer, monitor and client
// then take turns less often, which is most of what a fast stream costs.
const wide = 256 << 10

// fitPipes makes the pipes bigger while there is a client, unless the log takes
// its time: what a container leaves in a pipe at its end has to be logged within a
// second. Afterwards they are what they were, for a user's pipes share an
// allowance, and who has used it up gets tiny ones.
func (m *Monitor) fitPipes() {
	if m.attach == nil || m.cfg.Terminal {
		return
	}
	attached := m.attach.Attached()
	for i := range m.streams {
		switch s := &m.streams[i]; {
		case s.fd < 0 || s.fitted == attached:
		case attached:
			s.fitted = true
			if held := stdio.Capacity(s.fd); held < wide && m.log.Budget(wide) == wide && s.resize(wide) == nil {
				s.narrow = held
			}
		case s.narrow == 0 || s.resize(s.narrow) != unix.EBUSY: // busy: it holds more now
			s.fitted, s.narrow = false, 0
		}
	}
}

func (s *stream) resize(n int) error {
	_, err := unix.FcntlInt(uintptr(s.fd), unix.F_SETPIPE_SZ, n)
	return err
}

// read reads one chunk.
func (s *stream) read(b []byte) (int, stdio.State) {
	if s.master == nil {
		return stdio.Read(s.fd, b)
	}
	n, err := s.master.Read(b)
	switch err {
	case nil:
		return n, stdio.More
	case unix.EAGAIN:
		return 0, stdio.Dry
	}
	return 0, stdio.Ended
}

// pump passes on what a stream holds now, as long as every sink has room.
func (m *Monitor) pump(s *stream, now clock.Mono) {
	buf := m.buffer.Take()
	for range turns {
		if m.sinksBlocked(s.kind) {
			m.pause(s)
			return
		}
		b := buf[:m.log.Budget(len(buf))]
		got, state := s.read(b)
		if got > 0 {
			m.deliver(s.kind, b[:got], now)
		}
		if state == stdio.Ended {
			m.closeStream(s, now)
			return
		}
		// A pipe that gave less than asked for is dry: asking again would be a
		// system call for nothing. A terminal gives a line at a time.
		if state == stdio.Dry || s.master == nil && got < len(b) || clock.Now() >= now+turnTime {
			return
		}
	}
}

func (m *Monitor) deliver(kind stdio.Stream, chunk []byte, now clock.Mono) {
	// A client of a terminal knows only its output, and Podman's ends the session
	// over anything else: a runtime's warning goes to the log alone.
	if m.attach != nil && (kind == stdio.Stdout || !m.cfg.Terminal) {
		// First: a person waits for it, and it needs no disk.
		m.attach.Output(kind, chunk)
	}
	m.log.Write(kind, chunk, time.Now(), now)
}

func (m *Monitor) sinksBlocked(kind stdio.Stream) bool {
	return m.log.Blocked(kind) || m.attach != nil && m.attach.Blocked(kind)
}

func (m *Monitor) pause(s *stream) {
	if s.paused {
		return
	}
	s.paused = true
	if s.master != nil {
		s.master.Pause()
		return
	}
	// Removed, not masked: a hang-up is reported whatever the mask says.
	m.poller.Remove(s.fd)
}

// resume reads on where every sink has room again.
func (m *Monitor) resume(now clock.Mono) {
	for i := range m.streams {
		s := &m.streams[i]
		if !s.paused || m.sinksBlocked(s.kind) {
			continue
		}
		s.paused = false
		var err error
		if s.master != nil {
			err = s.master.Resume()
		} else {
			err = m.poller.Add(s.fd, s.tag(), poll.In)
		}
		if err != nil {
			m.diag.Error("read " + s.kind.String() + " again: " + err.Error())
			m.closeStream(s, now)
		}
	}
}

// closeStream deals with a stream's end. A terminal stays: it may be opened again.
func (m *Monitor) closeStream(s *stream, now clock.Mono) {
	m.log.EOF(s.kind, time.Now(), now)
	if s.master != nil {
		return
	}
	m.poller.Remove(s.fd)
	_ = unix.Close(s.fd)
	s.fd, s.paused = -1, false
}

// drain reads what a stream holds now, without asking any sink for room: the
// container is dead, so this is at most one pipe's capacity, and waiting for
// the end of the file would be waiting for whoever else holds the pipe.
func (m *Monitor) drain(s *stream, now clock.Mono) {
	if s.fd < 0 {
		return
	}
	left := stdio.Capacity(s.fd)
	buf := m.buffer.Take()
	for left > 0 {
		n, state := s.read(buf[:min(m.log.Budget(len(buf)), left)])
		if n > 0 {
			left -= n
			m.deliver(s.kind, buf[:n], now)
		}
		if state != stdio.More {
			break
		}
	}
	m.log.EOF(s.kind, time.Now(), now)
}
