// Package logging turns the container's output into log entries: chunks are cut
// into lines, lines become records, and records go to files, the journal or an
// external logger. Every driver gets every chunk and is on its own: what one of
// them cannot take, lose or wait for is not another's concern.
package logging

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/config"
	"conmon/internal/handoff"
	"conmon/internal/poll"
	"conmon/internal/stdio"
)

// driver is one log driver.
type driver interface {
	write(s stdio.Stream, chunk []byte, wall time.Time, now clock.Mono)
	// eof says that nothing more comes of s; what is unfinished is written.
	eof(s stdio.Stream, wall time.Time, now clock.Mono)
	ready(ev poll.Event, now clock.Mono)
	deadline() clock.Mono
	tick(wall time.Time, now clock.Mono)
	// chunkMax returns how much may come in one chunk, 0 if the container is to wait.
	chunkMax() int
	// busy reports that the driver cannot be saved now.
	busy() bool
	reopen(now clock.Mono) error
	// drain says that the container is dead: from now on nothing waits, and what
	// cannot be dealt with until limit is lost.
	drain(limit clock.Mono)
	finish(limit clock.Mono, wall time.Time)
	childExited(pid int, status unix.WaitStatus) bool
	save(st *handoff.State, key string)
	stats() DriverStats
	trim()
	close()
}

// idsPerDriver is how many descriptors a driver can watch: one per stream.
const idsPerDriver = 2

// Log is all logging of one container. It belongs to the monitor's loop.
type Log struct {
	cfg      *config.Log
	drivers  []driver
	index    []int // of each driver, among the configured ones
	rate     bucket
	sieve    [2]sieve
	read     [2]Count
	limited  [2]Count
	draining bool
}

// Load takes over what Targets or an earlier Log has saved in st. Descriptors
// are registered with w under owner. wake is called from other threads and must
// make the loop ask for Deadline again. spawner starts helper processes.
func Load(cfg *config.Config, st *handoff.State, w poll.Watcher, owner poll.Owner, wake func(), spawner Spawner) (*Log, error) {
	l := &Log{cfg: &cfg.Log}
	for i, d := range cfg.Log.Drivers {
		key := driverKey(i)
		switch d.Kind {
		case config.K8sFile, config.JSONFile:
			f := loadFile(d, l.cfg, st, key, wake, spawner)
			if f.op.fd < 0 {
				return nil, fmt.Errorf("log file %s was not handed over", d.Path)
			}
			l.drivers = append(l.drivers, f)
		case config.Journald:
			tag := poll.Tag{Owner: owner, ID: uint32(i * idsPerDriver)}
			l.drivers = append(l.drivers, loadJournald(journalSocket, cfg, st, key, w, tag))
		case config.ExecLogger:
			tag := poll.Tag{Owner: owner, ID: uint32(i * idsPerDriver)}
			e, err := loadLogger(d.Path, cfg, st, key, w, tag, spawner)
			if err != nil {
				return nil, err
			}
			l.drivers = append(l.drivers, e)
		default:
			continue // none and passthrough log nothing
		}
		l.index = append(l.index, i)
	}
	for i, s := range streams {
		l.read[i] = loadCount(st, "log."+s.String()+".read")
		l.limited[i] = loadCount(st, "log."+s.String()+".limited")
		l.sieve[i].load(st, "log."+s.String()+".sieve.")
	}
	l.rate = newBucket(l.cfg.RateLimit, l.cfg.RateBurst, clock.Now())
	l.rate.load(st)
	return l, nil
}

// Save puts into st what Load needs. The Log goes on working if the exec does
// not happen. It must not be called while Busy.
func (l *Log) Save(st *handoff.State) {
	for i, d := range l.drivers {
		d.save(st, driverKey(l.index[i]))
	}
	for i, s := range streams {
		l.read[i].save(st, "log."+s.String()+".read")
		l.limited[i].save(st, "log."+s.String()+".limited")
		l.sieve[i].save(st, "log."+s.String()+".sieve.")
	}
	l.rate.save(st)
}

// Busy reports that a disk operation hangs, which cannot be handed over: an
// upgrade has to wait.
func (l *Log) Busy() bool {
	for _, d := range l.drivers {
		if d.busy() {
			return true
		}
	}
	return false
}

// Write takes one chunk of s, read at wall and now. It borrows the chunk.
func (l *Log) Write(s stdio.Stream, chunk []byte, wall time.Time, now clock.Mono) {
	i := s.Index()
	l.read[i].Bytes += uint64(len(chunk))
	if len(l.drivers) == 0 {
		l.read[i].Lines += countLines(chunk)
		return
	}
	if l.rate.rate == 0 || l.draining {
		l.fanOut(s, chunk, wall, now)
		return
	}
	l.rate.fill(now)
	if !l.cfg.RateDrop {
		l.rate.take(len(chunk))
		l.fanOut(s, chunk, wall, now)
		return
	}
	for len(chunk) > 0 {
		part, through, rest := l.sieve[i].next(chunk, l.rate.level)
		if chunk = rest; through {
			l.rate.take(len(part))
			l.fanOut(s, part, wall, now)
		} else {
			l.limited[i].Bytes += uint64(len(part))
			l.limited[i].Lines += countLines(part)
		}
	}
}

func (l *Log) fanOut(s stdio.Stream, chunk []byte, wall time.Time, now clock.Mono) {
	for _, d := range l.drivers {
		d.write(s, chunk, wall, now)
	}
}

// EOF says that s has ended: its unfinished line, if any, is written as a piece.
func (l *Log) EOF(s stdio.Stream, wall time.Time, now clock.Mono) {
	for _, d := range l.drivers {
		d.eof(s, wall, now)
	}
}

// Ready handles an event of a descriptor that Load registered.
func (l *Log) Ready(ev poll.Event) {
	i := int(ev.Tag.ID / idsPerDriver)
	for k, d := range l.drivers {
		if l.index[k] == i {
			ev.Tag.ID %= idsPerDriver
			d.ready(ev, clock.Now())
			return
		}
	}
}

// Deadline returns the earliest moment at which Tick has something to do.
func (l *Log) Deadline() clock.Mono {
	var due clock.Mono
	if !l.cfg.RateDrop && !l.draining {
		due = l.rate.ready()
	}
	for _, d := range l.drivers {
		due = clock.Earlier(due, d.deadline())
	}
	return due
}

// Tick does what is due: unfinished lines, the rate limit, another attempt on a
// full disk, on the journal or with a logger that died.
func (l *Log) Tick(now clock.Mono) {
	l.rate.fill(now)
	wall := time.Now()
	for _, d := range l.drivers {
		d.tick(wall, now)
	}
}

// Reopen opens every log file again (with --log-rotate: rotates it), and returns
// the first error; a driver that had one goes on with what it has.
func (l *Log) Reopen(now clock.Mono) error {
	var first error
	for _, d := range l.drivers {
		if err := d.reopen(now); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// BeginDrain says that the container is dead: no rate limit and no waiting any
// more, but one last attempt for everything. What Write is given after limit counts
// as lost.
func (l *Log) BeginDrain(limit clock.Mono) {
	l.draining = true
	for _, d := range l.drivers {
		d.drain(limit)
	}
}

// Finish writes what there is, unfinished lines too, and makes it durable, until
// limit. What is not written by then counts as lost. The drivers share the time.
func (l *Log) Finish(limit clock.Mono) {
	l.BeginDrain(limit)
	wall := time.Now()
	for i, d := range l.drivers {
		now := clock.Now()
		share := max(limit-now, 0) / clock.Mono(len(l.drivers)-i)
		d.finish(now+share, wall)
	}
}

// ChildExited takes note of a child's end, and reports whether it was one of
// logging's.
func (l *Log) ChildExited(pid int, status unix.WaitStatus) bool {
	for _, d := range l.drivers {
		if d.childExited(pid, status) {
			return true
		}
	}
	return false
}

// Stats returns the figures so far. It allocates.
func (l *Log) Stats() Stats {
	s := Stats{Read: l.read, RateLimited: l.limited}
	for _, d := range l.drivers {
		s.Drivers = append(s.Drivers, d.stats())
	}
	if len(s.Drivers) > 0 {
		for i, p := range s.Drivers[0].Streams {
			s.Read[i].Lines = p.Written.Lines + p.Lost.Lines + p.Capped.Lines + p.Pending.Lines + l.limited[i].Lines
		}
	}
	return s
}

// Trim gives back memory that is not in use, which is all but a few pages when
// the container is quiet.
func (l *Log) Trim() {
	for _, d := range l.drivers {
		d.trim()
	}
}

// Close closes the drivers, after Finish.
func (l *Log) Close() {
	for _, d := range l.drivers {
		d.close()
	}
}
