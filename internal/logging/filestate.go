package logging

import (
	"conmon/internal/clock"
	"conmon/internal/config"
	"conmon/internal/handoff"
)

// loadFile takes over a file driver, from Targets or from an earlier image.
func loadFile(d config.Driver, cfg *config.Log, st *handoff.State, key string, wake func(), spawner Spawner) *file {
	f := newFile(d, cfg, wake, spawner)
	f.op.fd = st.FD(key + "fd")
	f.op.size = st.Int(key + "size")
	f.op.regular = st.Bool(key + "regular")
	f.op.torn = st.Bool(key + "torn")
	f.total = st.Int(key + "total")
	f.silent = cfg.GlobalSizeMax > 0 && f.total >= cfg.GlobalSizeMax
	f.retryAt = clock.Mono(st.Int(key + "retry_at"))
	f.backoff = clock.Mono(st.Int(key + "backoff"))
	f.compressing = int(st.Int(key + "compressing"))
	f.rotations = uint64(st.Int(key + "rotations"))
	f.reopens = uint64(st.Int(key + "reopens"))
	f.cur.append(st.Bytes(key + "queue"))
	for i, s := range streams {
		f.split[i].pending.append(st.Bytes(key + s.String() + ".pending"))
		f.flushAt[i] = clock.Mono(st.Int(key + s.String() + ".flush_at"))
	}
	f.trouble.load(st, key)
	f.ledger.load(st, key)
	return f
}

// save puts everything in st that the next image needs. It must not be called
// while the driver is busy.
func (f *file) save(st *handoff.State, key string) {
	st.PutFD(key+"fd", f.op.fd)
	st.PutInt(key+"size", f.op.size)
	st.PutBool(key+"regular", f.op.regular)
	st.PutBool(key+"torn", f.op.torn)
	st.PutInt(key+"total", f.total)
	st.PutInt(key+"retry_at", int64(f.retryAt))
	st.PutInt(key+"backoff", int64(f.backoff))
	st.PutInt(key+"compressing", int64(f.compressing))
	st.PutInt(key+"rotations", int64(f.rotations))
	st.PutInt(key+"reopens", int64(f.reopens))
	st.PutBytes(key+"queue", f.cur.bytes())
	for i, s := range streams {
		st.PutBytes(key+s.String()+".pending", f.split[i].pending.bytes())
		st.PutInt(key+s.String()+".flush_at", int64(f.flushAt[i]))
	}
	f.trouble.save(st, key, f.op.path)
	f.ledger.save(st, key)
}

func (f *file) stats() DriverStats {
	var pending [2]Count
	f.count(f.cur.bytes(), &pending)
	f.count(f.lent.bytes(), &pending)
	for i := range f.split {
		pending[i].Bytes += uint64(f.split[i].pending.len())
	}
	return DriverStats{
		Kind: string(f.kind), Path: f.op.path, Streams: f.ledger.stats(pending),
		Rotations: f.rotations, Reopens: f.reopens,
		Errors: f.errors, LastError: f.trouble.text(f.op.path),
		Waiting: f.stalled || f.retryAt != 0,
	}
}

// trim gives back the memory that is not in use.
func (f *file) trim() {
	f.cur.trim()
	f.split[0].trim()
	f.split[1].trim()
}
