// Package attach serves those who watch a container and type into it: a
// SEQPACKET socket whose clients get the container's output and whose packets
// become its input.
//
// A client that keeps up gets output straight from the chunk that was read. One
// that lags reads it from the spool, which all laggards share, so that neither
// the container nor its log waits for anybody within the backlog.
package attach

import (
	"fmt"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/poll"
	"conmon/internal/stdio"
)

// Options is what the command line says about attaching.
type Options struct {
	Bundle         string // absolute; the socket is its `attach`
	SocketDir      string // where the symbolic link to the bundle goes
	CUUID          string // the link's name
	FullAttach     bool   // no link
	Stdin          bool   // the container has a stdin pipe
	Terminal       bool   // it has a terminal, which no client's leaving closes
	LeaveStdinOpen bool   // nor does it close the pipe
	Backlog        int64  // bytes that a client may lag
	Disconnect     bool   // a client past its backlog is dropped, instead of blocking the stream
	// BacklogDirs are where the backlog's file may lie, the best first; empty
	// names are skipped.
	BacklogDirs []string
}

// The descriptors of a Server, by the ID of their poll.Tag; clients follow.
const (
	idListener = iota
	idStdin
	idBacklog
	idClients
)

const (
	// acceptBatch bounds the clients accepted by one Ready.
	acceptBatch = 16
	// acceptPause is how long the listener rests when there is no descriptor or
	// memory for a client, which would be reported over and over.
	acceptPause = clock.Second
	// releaseAfter is how long big buffers are kept without use, so that a
	// stream with short gaps does not map and unmap them all the time.
	releaseAfter = clock.Second
)

// Server is a container's attach socket and all that hangs on it. It owns its
// descriptors; its methods are for the monitor's loop.
type Server struct {
	opts       Options
	w          poll.Watcher
	owner      poll.Owner
	end        endpoint
	clients    []client // free slots have fd -1
	connected  int
	maxClients int    // more wait until one leaves
	batch      *batch // nil until the first client
	spool      spool
	stdin      stdin
	blocked    [2]bool    // by stdio.Stream.Index: its last chunk went past the backlog
	ended      bool       // output is over: clients that still come get end of file
	acceptAt   clock.Mono // when the listener is watched again, 0: it is
	release    clock.Mono // when unused buffers are given back, 0: there are none
	used       bool       // buffers were used since release was set
	totals     totals
}

// Listen makes the socket and its link and starts serving. Existing ones are
// replaced: Podman restarts a container in the same bundle.
func Listen(opts Options, w poll.Watcher, owner poll.Owner) (*Server, error) {
	s := newServer(opts, w, owner)
	var err error
	if s.end, err = listen(&opts); err != nil {
		return nil, err
	}
	if err := s.watchListener(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func newServer(opts Options, w poll.Watcher, owner poll.Owner) *Server {
	s := &Server{opts: opts, w: w, owner: owner, end: endpoint{fd: -1}, maxClients: clientLimit()}
	s.spool = newSpool(opts.Backlog, opts.BacklogDirs, w, poll.Tag{Owner: owner, ID: idBacklog})
	s.stdin = stdin{fd: -1, w: w, tag: poll.Tag{Owner: owner, ID: idStdin}, tty: opts.Terminal, closed: !opts.Stdin && !opts.Terminal}
	return s
}

func (s *Server) watchListener() error {
	if err := s.w.Add(s.end.fd, poll.Tag{Owner: s.owner, ID: idListener}, poll.In); err != nil {
		return fmt.Errorf("watch attach socket: %w", err)
	}
	return nil
}

// UseStdin takes over the descriptor that input is written to: the writing end
// of the container's stdin pipe, or a duplicate of the terminal's master (an
// epoll set holds a descriptor only once, and the monitor reads from the
// original). Input that clients sent before is delivered first.
func (s *Server) UseStdin(fd int) error {
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("make container's stdin non-blocking: %w", err)
	}
	s.stdin.fd = fd
	s.stdinReady()
	return nil
}

// Ready serves the descriptor that ev is for.
func (s *Server) Ready(ev poll.Event) {
	switch ev.Tag.ID {
	case idListener:
		s.accept(acceptBatch)
	case idStdin:
		s.stdinReady()
	case idBacklog:
		s.spool.file.hear()
		s.settle()
	default:
		s.clientReady(ev)
	}
}

// Attached reports whether there is a client.
func (s *Server) Attached() bool { return s.connected > 0 }

// Blocked reports whether the monitor is not to read stream for now: a client
// is past its backlog, under the policy that loses nothing.
func (s *Server) Blocked(stream stdio.Stream) bool { return s.blocked[stream.Index()] }

// Output hands a chunk of output to all clients. It never waits. The chunk is
// not kept.
func (s *Server) Output(stream stdio.Stream, chunk []byte) {
	if s.connected == 0 {
		return
	}
	for len(chunk) > 0 {
		part := chunk[:min(len(chunk), batchPackets*packetData)]
		chunk = chunk[len(part):]
		s.batch.packets(stream, part)
		s.spread(stream, part)
		s.batch.clear()
	}
	s.checkBacklog(stream)
}

// spread sends the batch, whose data is part, to those who keep up, and puts
// what somebody could not take into the spool.
func (s *Server) spread(stream stdio.Stream, part []byte) {
	first := s.batch.n // the first packet that is to go into the spool
	fresh, gone := false, false
	for i := range s.clients {
		c := &s.clients[i]
		if c.fd < 0 || !c.out {
			continue
		}
		if c.lagging {
			first = 0
			continue
		}
		n, err := s.batch.send(c.fd)
		if err != nil {
			// Its input may still be worth reading.
			c.out, gone = false, true
		} else if n < s.batch.n {
			c.fresh, c.pos, fresh = true, int64(n), true
			first = min(first, n)
		}
	}
	if first < s.batch.n {
		start := s.spool.append(stream, part[first*packetData:], !fresh)
		s.touch()
		for i := range s.clients {
			if c := &s.clients[i]; c.fresh {
				c.pos = start + (c.pos-int64(first))*(recordHead+packetData)
				c.lagging, c.fresh = true, false
			}
		}
	}
	if !fresh && !gone {
		return
	}
	for i := range s.clients {
		if s.clients[i].fd >= 0 {
			s.watch(i)
		}
	}
}

// touch makes sure that buffers now in use are given back after their last use.
func (s *Server) touch() {
	s.used = true
	if s.release == 0 {
		s.release = clock.Now() + releaseAfter
	}
}

// Deadline returns when Tick has something to do.
func (s *Server) Deadline() clock.Mono {
	return clock.Earlier(clock.Earlier(s.release, s.acceptAt), s.hopeful())
}

// Tick gives unused buffers back, accepts again after a pause and gives up
// waiting for the backlog's file.
func (s *Server) Tick(now clock.Mono) {
	if s.acceptAt != 0 && now >= s.acceptAt {
		s.acceptAt = 0
		if s.watchListener() != nil {
			s.acceptAt = now + acceptPause
		}
	}
	if until := s.hopeful(); until != 0 && now >= until {
		s.disconnect()
	}
	if s.release == 0 || now < s.release {
		return
	}
	if s.used {
		s.used, s.release = false, now+releaseAfter
		return
	}
	// What is still needed is given back after its last use, which calls touch.
	s.release = 0
	s.spool.giveBack()
	s.stdin.giveBack()
}
