package attach

import (
	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/poll"
)

// client is one connection. It is free when neither direction is of use.
type client struct {
	fd  int
	gen uint16 // tells an event for this client from one for its predecessor in the slot

	in  bool // it may still send input
	out bool // it may still receive output

	lagging bool  // the next output for it lies in the spool, at pos
	fresh   bool  // it is about to lag; pos is the number of a packet in the batch
	pos     int64 // a record's start

	paused bool // its input waits until the container has read some
	hup    bool // the peer has closed its socket

	watched bool
	mask    uint32
}

const (
	// sendBuffer is the size asked for what is on its way to a client.
	sendBuffer = 256 << 10
	// catchUpBytes bounds what one Ready sends out of the spool.
	catchUpBytes = 1 << 20
	// slotBits is how much of a poll.Tag's ID numbers the slot; the rest is the
	// generation.
	slotBits = 16
)

// spare is how many descriptors clients leave to the rest of the monitor, which
// must be able to write an exit file whoever connects.
const spare = 128

// clientLimit returns how many clients the limit on descriptors allows.
func clientLimit() int {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return spare
	}
	return int(min(limit.Cur-min(spare, limit.Cur/2), 1<<slotBits-idClients))
}

// accept takes at most limit new clients.
func (s *Server) accept(limit int) {
	for range limit {
		if s.connected >= s.maxClients {
			s.restAccepting()
			return
		}
		fd, _, err := unix.Accept4(s.end.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			s.welcome(fd)
		case unix.EINTR, unix.ECONNABORTED:
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			s.restAccepting()
			return
		default:
			return
		}
	}
}

// restAccepting leaves new clients waiting for a while.
func (s *Server) restAccepting() {
	s.w.Remove(s.end.fd)
	s.acceptAt = clock.Now() + acceptPause
}

// welcome makes fd a client.
func (s *Server) welcome(fd int) {
	s.totals.accepted++
	if s.ended {
		hangUp(fd)
		return
	}
	if s.batch == nil {
		s.batch = newBatch()
	}
	// Best effort. The kernel doubles it, so that even cut to its own limit it is
	// twice the default: a client that is merely not scheduled for a moment then
	// seldom begins to lag, which halves the monitor's work.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
	slot := s.freeSlot()
	s.clients[slot] = client{fd: fd, gen: s.clients[slot].gen + 1, in: true, out: true}
	s.connected++
	s.watch(slot)
}

// freeSlot returns the number of a free slot.
func (s *Server) freeSlot() int {
	for i := range s.clients {
		if s.clients[i].fd < 0 {
			return i
		}
	}
	s.clients = append(s.clients, client{fd: -1})
	return len(s.clients) - 1
}

func (s *Server) clientReady(ev poll.Event) {
	i := int(ev.Tag.ID&(1<<slotBits-1)) - idClients
	if i < 0 || i >= len(s.clients) {
		return
	}
	c := &s.clients[i]
	if c.fd < 0 || c.gen != uint16(ev.Tag.ID>>slotBits) {
		return
	}
	if ev.Mask&(poll.Hup|poll.Err) != 0 {
		c.hup, c.out = true, false
	}
	if c.in && (!c.paused || c.hup) && ev.Mask&(poll.In|poll.Hup|poll.Err) != 0 {
		s.receive(c)
	}
	if c.out && c.lagging && ev.Mask&poll.Out != 0 {
		s.catchUp(c, catchUpBytes)
	}
	s.watch(i)
}

// watch watches client i for what it is needed for; if that is nothing, the
// client is dropped. It may not be called while s.clients is walked by value.
func (s *Server) watch(i int) {
	c := &s.clients[i]
	if !c.out && c.lagging {
		c.lagging = false
		s.trim()
	}
	if !c.in && !c.out {
		s.drop(i)
		return
	}
	var mask uint32
	if c.in && !c.paused {
		mask |= poll.In
	}
	if c.lagging && !s.spool.hangs(c.pos) {
		mask |= poll.Out
	}
	// A hung up socket is reported whatever it is watched for.
	wanted := mask != 0 || !c.hup
	if wanted == c.watched && mask == c.mask {
		return
	}
	tag := poll.Tag{Owner: s.owner, ID: uint32(c.gen)<<slotBits | uint32(i+idClients)}
	var err error
	switch {
	case !wanted:
		s.w.Remove(c.fd)
	case c.watched:
		err = s.w.Modify(c.fd, tag, mask)
	default:
		err = s.w.Add(c.fd, tag, mask)
	}
	c.watched, c.mask = wanted, mask
	if err != nil {
		// A client that cannot be watched is one that will never be served.
		s.drop(i)
	}
}

// catchUp sends a laggard what the spool holds for it, as far as it takes it,
// until that was at least most bytes.
func (s *Server) catchUp(c *client, most int64) {
	from := c.pos
	for c.pos-from < most {
		view := s.spool.view(c.pos)
		s.batch.records(view)
		packets := s.batch.n
		if packets == 0 && s.spool.hangs(c.pos) {
			break // settle goes on
		}
		if packets == 0 {
			// The file cannot be read: what follows would be a gap.
			c.out = false
			break
		}
		sent, err := s.batch.send(c.fd)
		c.pos += s.batch.bytes(sent)
		s.batch.clear()
		c.out = err == nil
		c.lagging = c.out && c.pos < s.spool.head()
		if !c.lagging || sent < packets {
			break
		}
	}
	s.trim()
}

// drop closes client i. The container's stdin ends with its last client.
func (s *Server) drop(i int) {
	c := &s.clients[i]
	if c.fd < 0 {
		return
	}
	if c.watched {
		s.w.Remove(c.fd)
	}
	hangUp(c.fd)
	*c = client{fd: -1, gen: c.gen}
	s.connected--
	s.trim()
	if s.connected == 0 && !s.ended {
		s.finishStdin()
	}
}

// hangUp closes a client's socket so that the client reads all that was sent and
// then end of file. Closing with unread input would reset the connection.
func hangUp(fd int) {
	_ = unix.Shutdown(fd, unix.SHUT_RDWR)
	var b [1]byte
	for {
		n, err := recv(fd, b[:])
		if n == 0 && err == nil || err != nil && err != unix.EINTR && err != unix.ECONNRESET {
			break
		}
	}
	_ = unix.Close(fd)
}
