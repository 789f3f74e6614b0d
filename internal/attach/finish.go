package attach

import (
	"golang.org/x/sys/unix"

	"conmon/internal/clock"
)

// Welcome accepts everybody who is about to connect. Called before the last
// output is read, it makes sure that who connected in time gets that.
func (s *Server) Welcome() {
	// Asking costs a fraction of what an accept costs that finds nobody.
	door := []unix.PollFd{{Fd: int32(s.end.fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(door, 0); s.end.fd >= 0 && (n > 0 || err != nil) {
		s.accept(connectionQueue)
	}
}

// EndOutput gives every client what is left of the output and then end of file.
// It waits for clients that lag until limit; clients that were about to connect
// count as connected. Those who lag even then stay, for another EndOutput or
// Close, unless their policy is to be disconnected. The socket stays until
// CloseDoor.
func (s *Server) EndOutput(limit clock.Mono) {
	s.Welcome()
	s.ended = true
	for s.waitForLaggards(limit) {
	}
	if until := s.spool.file.hopeUntil(); until != 0 && clock.Now() >= until {
		s.abandonBacklog()
	}
	for i := range s.clients {
		if c := &s.clients[i]; !c.lagging || s.opts.Disconnect {
			s.giveUp(i)
		}
	}
}

// giveUp drops a client and counts what it did not get.
func (s *Server) giveUp(i int) {
	if c := &s.clients[i]; c.lagging {
		s.totals.unsent += uint64(s.spool.head() - c.pos)
	}
	s.drop(i)
}

// Lagging reports whether a client is still to get output.
func (s *Server) Lagging() bool {
	for i := range s.clients {
		if s.clients[i].fd >= 0 && s.clients[i].lagging {
			return true
		}
	}
	return false
}

// waitForLaggards serves laggards once, as soon as one takes more or the
// backlog's file answers, and reports whether there is reason to call it again.
func (s *Server) waitForLaggards(limit clock.Mono) bool {
	var waiting []unix.PollFd
	var slots []int
	hanging := false
	for i := range s.clients {
		c := &s.clients[i]
		switch {
		case !c.lagging:
		case s.spool.hangs(c.pos):
			hanging = true
		default:
			waiting = append(waiting, unix.PollFd{Fd: int32(c.fd), Events: unix.POLLOUT})
			slots = append(slots, i)
		}
	}
	if hanging {
		waiting = append(waiting, unix.PollFd{Fd: int32(s.spool.file.helper.bell.FD()), Events: unix.POLLIN})
	}
	left := limit - clock.Now()
	if len(waiting) == 0 || left <= 0 {
		return false
	}
	n, err := unix.Poll(waiting, int((left+clock.Millisecond-1)/clock.Millisecond))
	if err == unix.EINTR {
		return true
	}
	for k, slot := range slots {
		if waiting[k].Revents != 0 && clock.Now() < limit { // there may be thousands
			s.serveLaggard(slot, waiting[k].Revents)
		}
	}
	if hanging && waiting[len(slots)].Revents != 0 {
		s.spool.file.hear()
		s.settle()
	}
	return n > 0 && err == nil
}

// serveLaggard serves client i, of which events were reported.
func (s *Server) serveLaggard(i int, events int16) {
	c := &s.clients[i]
	switch {
	case !c.lagging:
		return
	case events&(unix.POLLHUP|unix.POLLERR) != 0:
		c.hup, c.out = true, false
	default:
		s.catchUp(c, catchUpBytes)
	}
	s.watch(i)
}

// closeTime is how long closing the backlog's file may take. A network file
// system writes out first what it was given.
const closeTime = 2 * clock.Second

// CloseDoor removes the socket and its link. Clients that are about to connect
// get end of file. The backlog's file is given up if it would keep programs from
// starting, since a new process closes its copy of it.
func (s *Server) CloseDoor() {
	s.closeDoor()
	if needed := s.spool.tail < s.spool.start; !needed || !s.backlogAnswers(closeTime) {
		s.abandonBacklog()
	}
}

func (s *Server) closeDoor() {
	s.ended = true
	s.Welcome()
	if s.end.fd >= 0 {
		s.w.Remove(s.end.fd)
		s.acceptAt = 0
		s.end.close()
	}
}

// Close removes the socket and its link, and is the end for everybody who is
// still there.
func (s *Server) Close() {
	s.closeDoor()
	for i := range s.clients {
		s.giveUp(i)
	}
	s.stdin.close()
	s.stdin.giveBack()
	s.spool.close()
}
