package logging

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/config"
	"conmon/internal/stdio"
)

// fill takes what is left of a disk, and returns how to give it back.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	name := dir + "/ballast"
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	return func() { os.Remove(name) }
}

// With --log-on-full=drop every record in the file is whole, and what is not
// there was counted.
func TestFullDiskDrops(t *testing.T) {
	for _, kind := range []config.DriverKind{config.K8sFile, config.JSONFile} {
		t.Run(string(kind), func(t *testing.T) {
			dir := smallDisk(t, 1<<20)
			path := dir + "/log"
			l := newLog(t, config.Log{Drivers: []config.Driver{{Kind: kind, Path: path}}})
			var sent Count
			for round := range 3 {
				free := fill(t, dir)
				for i := range 300 {
					line := fmt.Sprintf("%d %d %s<\xff>\n", round, i, strings.Repeat("x", i*7%900))
					put(l, stdio.Stderr, line)
					sent.Bytes += uint64(len(line))
					sent.Lines++
				}
				if text := read(t, path); text != "" && text[len(text)-1] != '\n' {
					t.Fatalf("round %d: torn record at the end", round)
				}
				free()
			}
			put(l, stdio.Stderr, "at last\n")
			sent.Bytes, sent.Lines = sent.Bytes+8, sent.Lines+1
			s := l.Stats()
			logged := loggedIn(t, kind, path)
			got := s.Drivers[0].Streams[1]
			if got.Lost == (Count{}) || got.Written != logged || got.Written.Bytes+got.Lost.Bytes != sent.Bytes || got.Written.Lines+got.Lost.Lines != sent.Lines {
				t.Errorf("sent %v, in the file %v, stats %+v", sent, logged, got)
			}
			if !strings.Contains(s.Drivers[0].LastError, "no space left") {
				t.Errorf("last error %q", s.Drivers[0].LastError)
			}
			if !strings.Contains(read(t, path), "at last") {
				t.Error("logging did not resume")
			}
		})
	}
}

// A device that is always full costs nothing but the records.
func TestFullDevice(t *testing.T) {
	l := newLog(t, config.Log{Drivers: k8s("/dev/full")})
	chunk, wall := chunkOf(20), time.Now()
	if n := testing.AllocsPerRun(10, func() { l.Write(stdio.Stdout, chunk, wall, clock.Now()) }); n != 0 {
		t.Errorf("%v allocations per chunk", n)
	}
	if s := l.Stats(); s.Drivers[0].Streams[0].Written != (Count{}) || s.Drivers[0].Streams[0].Lost.Lines != s.Read[0].Lines {
		t.Errorf("stats %+v", s)
	}
}

// loggedIn counts what a log file's records stand for.
func loggedIn(t *testing.T, kind config.DriverKind, path string) Count {
	f := &file{kind: kind}
	var c [2]Count
	f.count([]byte(read(t, path)), &c)
	return Count{c[0].Bytes + c[1].Bytes, c[0].Lines + c[1].Lines}
}

// With --log-on-full=block the container waits, and nothing is lost.
func TestFullDiskBlocks(t *testing.T) {
	dir := smallDisk(t, 1<<20)
	path := dir + "/log"
	r := newRig(t, config.Log{Drivers: k8s(path), Block: true})
	free := fill(t, dir)
	var sent strings.Builder
	for i := 0; !r.Blocked(stdio.Stdout); i++ {
		line := fmt.Sprintf("%d %s\n", i, strings.Repeat("x", i*7%900))
		sent.WriteString(line)
		put(r.Log, stdio.Stdout, line)
	}
	// A chunk that was on its way is kept, too.
	sent.WriteString(strings.Repeat("\n", 64<<10))
	put(r.Log, stdio.Stdout, strings.Repeat("\n", 64<<10))
	put(r.Log, stdio.Stdout, "unfinished")
	sent.WriteString("unfinished")
	r.upgrade()
	if !r.Blocked(stdio.Stdout) {
		t.Error("not blocked after an upgrade")
	}
	first := r.Deadline()
	for range 6 {
		r.Tick(r.Deadline())
	}
	if d := r.Deadline(); d-first > 6*clock.Second || d == first {
		t.Errorf("attempts: next after %d ms", (d-first)/clock.Millisecond)
	}
	unix.Mount("", dir, "", unix.MS_REMOUNT, "size=16m")
	free()
	if r.Tick(r.Deadline()); r.Blocked(stdio.Stdout) {
		t.Error("still blocked")
	}
	if got := plain(t, path); got != sent.String() {
		t.Errorf("sent %d bytes, logged %d others", sent.Len(), len(got))
	}
	if s := r.Stats().Drivers[0].Streams[0]; s.Lost != (Count{}) {
		t.Errorf("lost %v", s.Lost)
	}
}

// The end does not wait for a full disk: one last attempt, and the rest is lost.
func TestFinishOnFullDisk(t *testing.T) {
	dir := smallDisk(t, 1<<20)
	l := newLog(t, config.Log{Drivers: k8s(dir + "/log"), Block: true})
	fill(t, dir)
	for !l.Blocked(stdio.Stdout) {
		put(l, stdio.Stdout, strings.Repeat("x", 1000)+"\n")
	}
	l.BeginDrain(clock.Now() + clock.Second)
	if l.Blocked(stdio.Stdout) {
		t.Error("blocked while draining")
	}
	put(l, stdio.Stdout, "more")
	start := clock.Now()
	l.Finish(start + clock.Second)
	if d := clock.Now() - start; d > clock.Second/2 {
		t.Errorf("took %d ms", d/clock.Millisecond)
	}
	s := l.Stats()
	if p := s.Drivers[0].Streams[0]; p.Pending != (Count{}) || p.Written.Bytes+p.Lost.Bytes != s.Read[0].Bytes || p.Lost.Bytes == 0 {
		t.Errorf("stats %+v", s)
	}
}

// If somebody else writes to the file, a torn record is not cut back, because
// what is at the end may be his; but the next record is on a line of its own.
func TestTornRecordOfSharedFile(t *testing.T) {
	path := t.TempDir() + "/log"
	l := newLog(t, config.Log{Drivers: k8s(path)})
	put(l, stdio.Stdout, "a\n")
	f := l.drivers[0].(*file)
	f.op.torn = true // as after a short write
	put(l, stdio.Stdout, "b\n")
	put(l, stdio.Stdout, "c\n")
	if got := strings.Count(read(t, path), "\n\n"); got != 1 {
		t.Errorf("%d lines ended", got)
	}
}

// A later driver is not harmed by an earlier one's full disk, nor by its hang.
func TestDriversAreIndependent(t *testing.T) {
	full, path := smallDisk(t, 1<<16), t.TempDir()+"/log"
	fill(t, full)
	drivers := append(k8s(full+"/log"), config.Driver{Kind: config.JSONFile, Path: path})
	l := newLog(t, config.Log{Drivers: drivers})
	for range 100 {
		put(l, stdio.Stdout, "line\n")
	}
	s := l.Stats()
	if s.Drivers[0].Streams[0].Lost.Lines != 100 || s.Drivers[1].Streams[0].Written.Lines != 100 {
		t.Errorf("stats %+v", s)
	}
}

// stuck is a log target that takes a pipe's capacity and then nothing.
func stuck(t *testing.T) (path string, reader int) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p[0]); unix.Close(p[1]) })
	return fmt.Sprint("/proc/self/fd/", p[1]), p[0]
}

func TestStalledWrite(t *testing.T) {
	for _, block := range []bool{false, true} {
		t.Run(fmt.Sprint("block=", block), func(t *testing.T) {
			path, reader := stuck(t)
			r := newRig(t, config.Log{Drivers: k8s(path), Block: block})
			line := strings.Repeat("x", 999) + "\n"
			start := time.Now()
			sent := 0
			for ; sent < 3000 && !r.Blocked(stdio.Stdout); sent++ {
				put(r.Log, stdio.Stdout, line)
			}
			if s := r.Stats().Drivers[0].Streams[0]; s.Lost != (Count{}) {
				t.Errorf("lost without having waited: %+v", s)
			}
			if !block { // the container waits for a while, and then no more
				r.until("the patience is over", func() bool { return !r.Blocked(stdio.Stdout) })
				for ; sent < 3000 && !r.Blocked(stdio.Stdout); sent++ {
					put(r.Log, stdio.Stdout, line)
				}
			}
			if d := time.Since(start); d > time.Duration(stallTime)+time.Second {
				t.Errorf("the container waited for %v", d)
			}
			if !r.Busy() || block != (sent < 3000) {
				t.Errorf("after %d lines: busy %v", sent, r.Busy())
			}
			got := make(chan Count)
			go func() { // the reader wakes up
				var c Count
				f, all := &file{kind: config.K8sFile}, []byte(nil)
				for b := make([]byte, 65536); ; {
					n, _ := unix.Read(reader, b)
					if all = append(all, b[:n]...); strings.HasSuffix(string(b[:n]), "the end\n") {
						break
					}
				}
				var both [2]Count
				f.count(all, &both)
				c = both[0]
				got <- c
			}()
			r.until("resumed", func() bool { return !r.Busy() && !r.Blocked(stdio.Stdout) })
			put(r.Log, stdio.Stdout, "the end\n")
			r.until("written", func() bool { return r.Stats().Drivers[0].Streams[0].Pending == Count{} })
			c, s := <-got, r.Stats().Drivers[0].Streams[0]
			if s.Written != c || (s.Lost.Bytes == 0) != block || s.Written.Lines+s.Lost.Lines != uint64(sent)+1 {
				t.Errorf("sent %d, read %v, stats %+v", sent, c, s)
			}
		})
	}
}

func TestFinishDuringStall(t *testing.T) {
	path, _ := stuck(t)
	l := newLog(t, config.Log{Drivers: k8s(path)})
	for range 200 {
		put(l, stdio.Stdout, strings.Repeat("x", 999)+"\n")
	}
	start := clock.Now()
	l.Finish(start + 200*clock.Millisecond)
	if d := clock.Now() - start; d > 400*clock.Millisecond || d < 190*clock.Millisecond {
		t.Errorf("took %d ms", d/clock.Millisecond)
	}
	if s := l.Stats().Drivers[0].Streams[0]; s.Pending != (Count{}) || s.Lost.Lines == 0 || s.Written.Lines+s.Lost.Lines != 200 {
		t.Errorf("stats %+v", s)
	}
}
