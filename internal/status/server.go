// Package status lets people ask a running monitor: a socket in its bundle, and
// a registry of links to the bundles of all running monitors.
//
// The socket is <bundle>/status, of type SOCK_SEQPACKET and mode 0600. A
// connection carries one request and one answer, a packet each:
//
//	status            what the monitor is doing
//	upgrade [PATH]    replace the running monitor by the program at PATH
//
// The answer is a JSON object (see Snapshot), or "ok TEXT", or "error TEXT". A
// newline at a request's end is ignored. The answer to an upgrade that succeeded
// comes from the new program, over the connection that the old one accepted.
//
// One packet each way means that the server never has to keep an answer for a
// client that does not read: it goes to the socket's buffer or nowhere.
package status

import (
	"strings"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/poll"
)

// Bounds on what clients can cost the monitor.
const (
	maxClients = 8
	maxRequest = 8 + unix.PathMax
	// askTime is how long a client may stay silent.
	askTime = 5 * clock.Second
	// answerTime is how long a request may stay unanswered before the client is
	// given up. An upgrade, the slowest, tries the new program for 5 s first.
	answerTime = 60 * clock.Second
)

// Kind is what a client wants.
type Kind uint8

// The requests.
const (
	// StatusRequest is answered by Answer, with a snapshot.
	StatusRequest Kind = iota + 1
	// UpgradeRequest is answered by Upgraded, UpgradeFailed or Refuse.
	UpgradeRequest
)

// Request is what a client asked for.
type Request struct {
	Client uint32 // for Answer and Refuse
	Kind   Kind
	Arg    string // the path of an UpgradeRequest, "" for the default
}

// Server is the status socket and its clients. It belongs to the goroutine that
// runs the loop. A nil Server serves nobody and may be used as such: an exec
// session without a bundle has none.
type Server struct {
	loop    poll.Watcher
	owner   poll.Owner
	bundle  string
	fd      int    // the listening socket
	inode   uint64 // of the socket's file: only our own is removed
	serial  uint32 // of the last client
	clients [maxClients]client
}

// client is one connection; the zero value is none.
type client struct {
	id    uint32 // never 0
	fd    int
	kind  Kind       // what it asked for, 0: nothing yet
	limit clock.Mono // when it is given up
}

// listener is the listening socket's number in the poll set; a client's is its id.
const listener = 0

// Ready deals with an event of one of the server's descriptors, and returns the
// request that it brought, if any.
func (s *Server) Ready(ev poll.Event) (Request, bool) {
	if s == nil {
		return Request{}, false
	}
	if ev.Tag.ID == listener {
		s.accept()
		return Request{}, false
	}
	c := s.find(ev.Tag.ID)
	if c == nil {
		return Request{}, false
	}
	if c.kind != 0 {
		// It waits for its answer and is watched for nothing but its going away.
		s.drop(c)
		return Request{}, false
	}
	return s.receive(c)
}

// Deadline returns when Tick is due, 0 if it is not.
func (s *Server) Deadline() (d clock.Mono) {
	if s == nil {
		return 0
	}
	for i := range s.clients {
		d = clock.Earlier(d, s.clients[i].limit)
	}
	return d
}

// Tick gives up clients whose time is over at now.
func (s *Server) Tick(now clock.Mono) {
	if s == nil {
		return
	}
	for i := range s.clients {
		c := &s.clients[i]
		if c.id == 0 || now < c.limit {
			continue
		}
		s.finish(c, []byte("error timed out"))
	}
}

// Answer sends a client its answer, a snapshot's JSON, and parts with it. A
// client that has gone away is no error.
func (s *Server) Answer(client uint32, json []byte) {
	if s == nil {
		return
	}
	if c := s.find(client); c != nil {
		s.finish(c, json)
	}
}

// Refuse tells a client why its request is not carried out.
func (s *Server) Refuse(client uint32, why string) { s.Answer(client, []byte("error "+why)) }

// Upgraded tells everybody who waits for an upgrade that this program, of the
// given version, has taken over.
func (s *Server) Upgraded(version string) { s.endUpgrade("ok upgraded: version " + version) }

// UpgradeFailed tells everybody who waits for an upgrade why there is none.
func (s *Server) UpgradeFailed(why string) { s.endUpgrade("error " + why) }

func (s *Server) endUpgrade(answer string) {
	if s == nil {
		return
	}
	for i := range s.clients {
		if c := &s.clients[i]; c.kind == UpgradeRequest {
			s.finish(c, []byte(answer))
		}
	}
}

// find returns the client of that id, nil if it has gone.
func (s *Server) find(id uint32) *client {
	for i := range s.clients {
		if id != 0 && s.clients[i].id == id {
			return &s.clients[i]
		}
	}
	return nil
}

// accept takes one connection, so that a crowd cannot hold up the loop.
func (s *Server) accept() {
	fd, ok := acceptOne(s.fd)
	if !ok {
		return // gone again, or no descriptors left; neither is ours to mend
	}
	free := s.freeSlot()
	switch {
	case !trusted(fd):
		send(fd, []byte("error permission denied"))
	case free == nil:
		send(fd, []byte("error too many are asking at the same time"))
	default:
		s.serial++
		if s.serial == 0 {
			s.serial++
		}
		*free = client{id: s.serial, fd: fd, limit: clock.Now() + askTime}
		if s.loop.Add(fd, poll.Tag{Owner: s.owner, ID: free.id}, poll.In) == nil {
			return
		}
		*free = client{}
	}
	_ = unix.Close(fd)
}

// acceptOne is accept4 without the peer's address, which unix.Accept4 would
// allocate each time. A monitor that is asked every few seconds for months must
// not collect garbage from it.
func acceptOne(listening int) (fd int, ok bool) {
	r, _, errno := unix.Syscall6(unix.SYS_ACCEPT4, uintptr(listening), 0, 0, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0, 0)
	return int(r), errno == 0
}

func (s *Server) freeSlot() *client {
	for i := range s.clients {
		if s.clients[i].id == 0 {
			return &s.clients[i]
		}
	}
	return nil
}

// trusted reports whether the peer may ask: we ourselves, or root. The socket's
// mode says the same; this also holds where a container sees the bundle.
func trusted(fd int) bool {
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	return err == nil && (peer.Uid == 0 || int(peer.Uid) == unix.Geteuid())
}

// receive reads a client's request.
func (s *Server) receive(c *client) (Request, bool) {
	var buf [maxRequest + 1]byte
	n, err := unix.Read(c.fd, buf[:])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return Request{}, false
	case err != nil || n == 0:
		s.drop(c)
		return Request{}, false
	}
	kind, arg, ok := parseRequest(buf[:n])
	if !ok {
		s.finish(c, []byte("error unknown request"))
		return Request{}, false
	}
	c.kind, c.limit = kind, clock.Now()+answerTime
	// From here on only its hang-up is of interest.
	if s.loop.Modify(c.fd, poll.Tag{Owner: s.owner, ID: c.id}, 0) != nil {
		s.drop(c)
		return Request{}, false
	}
	return Request{Client: c.id, Kind: kind, Arg: arg}, true
}

// parseRequest understands one packet.
func parseRequest(b []byte) (kind Kind, arg string, ok bool) {
	if len(b) > maxRequest {
		return 0, "", false
	}
	word, arg, _ := strings.Cut(strings.TrimSuffix(string(b), "\n"), " ")
	switch {
	case word == "status" && arg == "":
		return StatusRequest, "", true
	case word == "upgrade" && !strings.Contains(arg, "\x00"):
		return UpgradeRequest, arg, true
	}
	return 0, "", false
}

// finish sends the last packet to a client and parts with it.
func (s *Server) finish(c *client, answer []byte) {
	send(c.fd, answer)
	s.drop(c)
}

// send sends one packet. What does not fit into the socket's buffer at once is
// too long for anybody; the client sees the connection end.
func send(fd int, b []byte) {
	_ = unix.Sendto(fd, b, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, nil)
}

func (s *Server) drop(c *client) {
	s.loop.Remove(c.fd)
	_ = unix.Close(c.fd)
	*c = client{}
}
