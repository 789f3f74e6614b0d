package logging

import (
	"errors"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/config"
	"conmon/internal/handoff"
	"conmon/internal/poll"
	"conmon/internal/stdio"
)

const (
	// The first and the longest pause before a logger that died is started again.
	restartMin = 100 * clock.Millisecond
	restartMax = 10 * clock.Second
)

// errLogger is a logger that ended before the container did.
var errLogger = errors.New("it ended by itself")

// logger is the exec driver: an external program that reads the container's raw
// output, stdout at its descriptor 0 and stderr at its descriptor 3, until both
// end. CONTAINER_ID and CONTAINER_NAME are in its environment. It never makes the
// container wait: what it does not read in time is lost, by lines, and counted.
type logger struct {
	path string
	argv []string
	env  []string

	spawner   Spawner
	pid       int // 0: not running
	startAt   clock.Mono
	startedAt clock.Mono
	backoff   clock.Mono
	restarts  uint64

	feeds [2]feed

	ledger
	trouble
}

func loadLogger(spec string, c *config.Config, st *handoff.State, key string, w poll.Watcher, tag poll.Tag, sp Spawner) (*logger, error) {
	path, args, err := parseLogger(spec)
	if err != nil {
		return nil, err
	}
	e := &logger{
		path: path, argv: append([]string{path}, args...), spawner: sp,
		env: []string{"CONTAINER_ID=" + c.CID, "CONTAINER_NAME=" + c.Name},
	}
	for i, s := range streams {
		t := tag
		t.ID += uint32(i)
		if err := e.feeds[i].load(st, key+s.String(), w, t); err != nil {
			return nil, err
		}
	}
	e.pid = int(st.Int(key + "pid"))
	e.startAt = clock.Mono(st.Int(key + "start_at"))
	e.startedAt = clock.Mono(st.Int(key + "started_at"))
	e.backoff = clock.Mono(st.Int(key + "backoff"))
	e.restarts = uint64(st.Int(key + "restarts"))
	e.trouble.load(st, key)
	e.ledger.load(st, key)
	if e.startedAt == 0 && e.startAt == 0 {
		e.startAt = clock.Now() // for the first time; not here, the loop does not run yet
	}
	return e, nil
}

func (e *logger) save(st *handoff.State, key string) {
	for i, s := range streams {
		e.feeds[i].save(st, key+s.String())
	}
	st.PutInt(key+"pid", int64(e.pid))
	st.PutInt(key+"start_at", int64(e.startAt))
	st.PutInt(key+"started_at", int64(e.startedAt))
	st.PutInt(key+"backoff", int64(e.backoff))
	st.PutInt(key+"restarts", int64(e.restarts))
	e.trouble.save(st, key, e.path)
	e.ledger.save(st, key)
}

func (e *logger) write(s stdio.Stream, chunk []byte, _ time.Time, _ clock.Mono) {
	i := s.Index()
	countInto(&e.given[i], chunk)
	e.feeds[i].write(chunk, &e.lost[i])
}

func (e *logger) eof(s stdio.Stream, _ time.Time, _ clock.Mono) {
	f := &e.feeds[s.Index()]
	f.ended = true
	f.push()
}

func (e *logger) ready(ev poll.Event, _ clock.Mono) { e.feeds[ev.Tag.ID].push() }

func (e *logger) deadline() clock.Mono { return e.startAt }

func (e *logger) tick(_ time.Time, now clock.Mono) {
	if e.startAt != 0 && now >= e.startAt {
		e.start(now)
	}
}

// start starts the logger; if that does not work, it is tried again later.
func (e *logger) start(now clock.Mono) {
	e.startAt, e.startedAt = 0, now
	pid, err := e.spawner.Spawn(e.path, e.argv, e.env, []int{e.feeds[0].r, -1, -1, e.feeds[1].r}, false)
	if err != nil {
		e.note("start", err)
		e.startLater(now)
		return
	}
	e.pid = pid
}

func (e *logger) startLater(now clock.Mono) {
	if now-e.startedAt >= restartMax {
		e.backoff = 0 // it had worked for a while
	}
	e.backoff = min(max(2*e.backoff, restartMin), restartMax)
	e.startAt = now + e.backoff
}

// childExited notices the logger's end. It is started again unless there is
// nothing more for it to read.
func (e *logger) childExited(pid int, _ unix.WaitStatus) bool {
	if e.pid == 0 || pid != e.pid {
		return false
	}
	e.pid = 0
	if e.over() {
		return true
	}
	e.restarts++
	e.note("run", errLogger)
	e.startLater(clock.Now())
	return true
}

// There is nothing to reopen, no record half written, nothing that could hang,
// and nobody waits for it.
func (e *logger) reopen(clock.Mono) error { return nil }
func (e *logger) busy() bool              { return false }
func (e *logger) chunkMax() int           { return math.MaxInt }
func (e *logger) drain(clock.Mono)        {}

// finish passes on what is queued and waits for the logger's end, until limit. A
// logger that needs longer reads on by itself what is in its pipes.
func (e *logger) finish(limit clock.Mono, _ time.Time) {
	for i := range e.feeds {
		e.feeds[i].ended = true
		e.feeds[i].push()
	}
	if e.pid == 0 && !e.over() {
		e.start(clock.Now()) // what is left is worth an attempt
	}
	e.startAt = 0
	dead := !e.await(limit)
	for i := range e.feeds {
		f := &e.feeds[i]
		f.giveUp(&e.lost[i])
		if dead {
			f.drainUnread(&e.lost[i])
		}
		f.closeWrite()
	}
}

// over reports whether the logger has read everything.
func (e *logger) over() bool { return e.feeds[0].over() && e.feeds[1].over() }

// await feeds the logger until it ends or limit comes. It reports whether the
// logger still runs.
func (e *logger) await(limit clock.Mono) (running bool) {
	if e.pid == 0 {
		return false
	}
	pidfd, err := unix.PidfdOpen(e.pid, 0)
	if err != nil {
		return false // it has ended, and been waited for
	}
	defer unix.Close(pidfd)
	var wait [3]unix.PollFd
	for now := clock.Now(); now < limit; now = clock.Now() {
		wait[0] = unix.PollFd{Fd: int32(pidfd), Events: unix.POLLIN}
		for i := range e.feeds {
			wait[1+i] = unix.PollFd{Fd: int32(e.feeds[i].w), Events: unix.POLLOUT}
		}
		_, _ = unix.Poll(wait[:], int((limit-now)/clock.Millisecond)+1)
		if wait[0].Revents != 0 {
			return false
		}
		for i := range e.feeds {
			e.feeds[i].push()
		}
	}
	return true
}

// stats counts what is in the logger's pipe as written: it has left us.
func (e *logger) stats() DriverStats {
	var pending [2]Count
	for i := range e.feeds {
		countInto(&pending[i], e.feeds[i].queue.bytes())
	}
	return DriverStats{
		Kind: string(config.ExecLogger), Path: e.path, Streams: e.ledger.stats(pending),
		Errors: e.errors, LastError: e.trouble.text(e.path), Restarts: e.restarts,
		Waiting: pending != [2]Count{} || e.pid == 0,
	}
}

func (e *logger) trim() {
	for i := range e.feeds {
		if e.feeds[i].queue.len() == 0 {
			e.feeds[i].queue.free()
		}
	}
}

func (e *logger) close() {
	e.feeds[0].close()
	e.feeds[1].close()
}
