package attach

// totals counts what happened since the container's start.
type totals struct {
	accepted     uint64
	disconnected uint64
	input        uint64
	unsent       uint64
}

// Stats is what the status report says about attaching.
type Stats struct {
	Clients      []ClientStats
	Accepted     uint64 // clients so far
	Disconnected uint64 // of these, how many were dropped for lagging too far
	Input        uint64 // bytes received for the container's stdin
	Unsent       uint64 // bytes of output that laggards did not get before the end
	BacklogFile  int64  // bytes of output that wait in the backlog's file
}

// ClientStats is one client's part of Stats.
type ClientStats struct {
	Lag   int64 // bytes of output that wait for it
	Input bool  // it may still send input
}

// Stats returns the present state.
func (s *Server) Stats() Stats {
	t := Stats{
		Accepted: s.totals.accepted, Disconnected: s.totals.disconnected,
		Input: s.totals.input, Unsent: s.totals.unsent,
		BacklogFile: max(s.spool.start-s.spool.tail, 0),
	}
	for i := range s.clients {
		c := &s.clients[i]
		if c.fd < 0 {
			continue
		}
		cs := ClientStats{Input: c.in}
		if c.lagging {
			cs.Lag = s.spool.head() - c.pos
		}
		t.Clients = append(t.Clients, cs)
	}
	return t
}
