package attach

import (
	"strconv"

	"conmon/internal/handoff"
	"conmon/internal/poll"
	"conmon/internal/stdio"
)

// Save stores the socket, every client with its place in the output, the backlog
// and the queued input. The server goes on working if the exec fails.
func (s *Server) Save(st *handoff.State) {
	e := &s.end
	st.PutFD("attach.fd", e.fd)
	st.PutString("attach.path", e.path)
	st.PutString("attach.stamp", e.stamp)
	st.PutString("attach.link", e.link)
	st.PutString("attach.linkstamp", e.linkStamp)
	st.PutBool("attach.ended", s.ended)
	st.PutBool("attach.blocked.0", s.blocked[0])
	st.PutBool("attach.blocked.1", s.blocked[1])
	st.PutInt("attach.accepted", int64(s.totals.accepted))
	st.PutInt("attach.disconnected", int64(s.totals.disconnected))
	st.PutInt("attach.input", int64(s.totals.input))
	st.PutInt("attach.unsent", int64(s.totals.unsent))
	n := 0
	for i := range s.clients {
		if s.clients[i].fd >= 0 {
			s.clients[i].save(st, clientKey(n))
			n++
		}
	}
	s.spool.save(st)
	s.stdin.save(st)
}

// Load takes over a predecessor's socket and clients; nil if it had none.
func Load(opts Options, st *handoff.State, w poll.Watcher, owner poll.Owner) (*Server, error) {
	if st.Bytes("attach.path") == nil {
		return nil, nil
	}
	s := newServer(opts, w, owner)
	s.end = endpoint{
		fd: st.FD("attach.fd"), path: st.String("attach.path"), stamp: st.String("attach.stamp"),
		link: st.String("attach.link"), linkStamp: st.String("attach.linkstamp"),
	}
	s.ended = st.Bool("attach.ended")
	s.blocked = [2]bool{st.Bool("attach.blocked.0"), st.Bool("attach.blocked.1")}
	s.totals = totals{
		accepted: uint64(st.Int("attach.accepted")), disconnected: uint64(st.Int("attach.disconnected")),
		input: uint64(st.Int("attach.input")), unsent: uint64(st.Int("attach.unsent")),
	}
	if s.end.fd >= 0 {
		if err := s.watchListener(); err != nil {
			return nil, err
		}
	}
	s.spool.load(st)
	s.stdin.load(st)
	for {
		c := loadClient(st, clientKey(len(s.clients)))
		if c.fd < 0 {
			break
		}
		s.clients = append(s.clients, c)
		s.connected++
	}
	if s.connected > 0 {
		s.batch = newBatch()
		s.touch()
	}
	for i := range s.clients {
		s.watch(i)
	}
	s.stdinReady()
	return s, nil
}

func clientKey(n int) string { return "attach.client." + strconv.Itoa(n) }

func (c *client) save(st *handoff.State, key string) {
	st.PutFD(key+".fd", c.fd)
	st.PutBool(key+".in", c.in)
	st.PutBool(key+".out", c.out)
	st.PutBool(key+".hup", c.hup)
	st.PutBool(key+".paused", c.paused)
	if c.lagging {
		st.PutBool(key+".lagging", true)
		st.PutInt(key+".pos", c.pos)
	}
}

func loadClient(st *handoff.State, key string) client {
	return client{
		fd: st.FD(key + ".fd"), in: st.Bool(key + ".in"), out: st.Bool(key + ".out"),
		hup: st.Bool(key + ".hup"), paused: st.Bool(key + ".paused"),
		lagging: st.Bool(key + ".lagging"), pos: st.Int(key + ".pos"),
	}
}

func (s *spool) save(st *handoff.State) {
	if s.empty() {
		return
	}
	st.PutInt("attach.spool.tail", s.tail)
	st.PutInt("attach.spool.start", s.start)
	st.PutInt("attach.spool.last", int64(s.last))
	st.PutBool("attach.spool.full", s.full)
	st.PutInt("attach.spool.fullat", s.fullAt)
	st.PutBytes("attach.spool.mem", s.mem)
	if s.tail < s.start {
		st.PutFD("attach.spool.file", s.file.fd)
		st.PutInt("attach.spool.size", s.file.size)
		st.PutBool("attach.spool.tmpfs", s.file.memory)
	}
}

func (s *spool) load(st *handoff.State) {
	mem := st.Bytes("attach.spool.mem")
	s.tail, s.start = st.Int("attach.spool.tail"), st.Int("attach.spool.start")
	if s.start+int64(len(mem)) == s.tail {
		return
	}
	s.last = int(st.Int("attach.spool.last"))
	s.full, s.fullAt = st.Bool("attach.spool.full"), st.Int("attach.spool.fullat")
	s.taken = stdio.TakeMemory(max(len(mem), spoolMemory))
	s.mem = s.taken[:copy(s.taken, mem)]
	if fd := st.FD("attach.spool.file"); fd >= 0 {
		s.file.fd, s.file.size = fd, st.Int("attach.spool.size")
		s.file.memory = st.Bool("attach.spool.tmpfs")
	}
}

func (q *stdin) save(st *handoff.State) {
	st.PutFD("attach.stdin.fd", q.fd)
	st.PutBool("attach.stdin.ending", q.ending)
	st.PutBool("attach.stdin.closed", q.closed)
	st.PutBytes("attach.stdin.queue", q.queue)
}

func (q *stdin) load(st *handoff.State) {
	q.fd = st.FD("attach.stdin.fd")
	q.ending, q.closed = st.Bool("attach.stdin.ending"), st.Bool("attach.stdin.closed")
	if queue := st.Bytes("attach.stdin.queue"); len(queue) > 0 {
		q.buf = stdio.TakeMemory(stdinQueue)
		q.queue = q.buf[:copy(q.buf, queue)]
	}
}
