package attach

import (
	"conmon/internal/clock"
	"conmon/internal/stdio"
)

// checkBacklog applies the policy to clients that lag too far, after output of
// stream. A disk that is only slow costs nobody a connection.
func (s *Server) checkBacklog(stream stdio.Stream) {
	for s.spool.lag() > s.spool.limit() {
		if !s.opts.Disconnect || clock.Now() < s.spool.file.hopeUntil() {
			s.blocked[stream.Index()] = true
			return
		}
		slowest := s.slowest()
		if slowest < 0 {
			return
		}
		s.totals.disconnected++
		s.drop(slowest)
	}
}

// slowest returns the number of the client that lags most, -1 if none lags.
func (s *Server) slowest() int {
	slowest := -1
	for i := range s.clients {
		if c := &s.clients[i]; c.lagging && (slowest < 0 || c.pos < s.clients[slowest].pos) {
			slowest = i
		}
	}
	return slowest
}

// trim tells the spool what no laggard needs any more, and lets blocked streams
// go on when there is room again: not at the limit itself, or reading would
// start and stop with every packet.
func (s *Server) trim() {
	if s.spool.empty() {
		return
	}
	tail := s.spool.head()
	if i := s.slowest(); i >= 0 {
		tail = s.clients[i].pos
	}
	s.spool.advance(tail)
	s.touch()
	if limit := s.spool.limit(); s.spool.lag() <= limit-limit/4 {
		s.blocked = [2]bool{}
		s.spool.full = false
	}
}

// Busy reports whether the backlog's file is in use by a system call that hangs:
// then the backlog cannot be handed over to another image.
func (s *Server) Busy() bool { return s.spool.file.pending }

// settle goes on with what had to wait for the backlog's file.
func (s *Server) settle() {
	if !s.spool.settle() {
		return
	}
	s.touch()
	switch {
	case s.spool.lag() <= s.spool.limit():
		s.blocked = [2]bool{}
	case s.opts.Disconnect:
		s.disconnect()
	}
	for i := range s.clients {
		c := &s.clients[i]
		if !c.lagging {
			continue
		}
		if s.spool.ready(c.pos) {
			// Here, or the next reader's data would take the place of its own.
			s.catchUp(c, 1)
		}
		s.watch(i)
	}
}

// hopeful returns until when the container waits for the backlog's file although
// clients may be dropped instead. 0: it does not.
func (s *Server) hopeful() clock.Mono {
	if !s.opts.Disconnect || s.blocked == [2]bool{} {
		return 0
	}
	return s.spool.file.hopeUntil()
}

// disconnect drops those who lag too far after all.
func (s *Server) disconnect() {
	s.blocked = [2]bool{}
	s.checkBacklog(stdio.Stdout) // which blocks nothing any more
}

// backlogAnswers reports whether the backlog's file can be used and closed; it
// waits for that for limit.
func (s *Server) backlogAnswers(limit clock.Mono) bool {
	file := &s.spool.file
	file.probe()
	return !file.pending || file.helper.await(clock.Now()+limit) && s.spool.settle()
}

// abandonBacklog gives up a file that does not answer, and the clients whose
// output is in it.
func (s *Server) abandonBacklog() {
	for i := range s.clients {
		if c := &s.clients[i]; c.lagging && c.pos < s.spool.start {
			s.totals.disconnected++
			s.giveUp(i)
		}
	}
	s.spool.giveUpFile()
}
