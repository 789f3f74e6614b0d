package attach

import (
	"bytes"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"conmon/internal/handoff"
	"conmon/internal/poll"
	"conmon/internal/stdio"
)

// record is one record of a spool, as a reader sees it.
type record struct {
	stream stdio.Stream
	data   []byte
}

// read returns the next records from pos, and the position behind them.
func read(s *spool, pos int64) (out []record, next int64) {
	view := s.view(pos)
	for size := recordSize(view); size > 0; size = recordSize(view) {
		out = append(out, record{stdio.Stream(view[lengthSize]), bytes.Clone(view[recordHead:size])})
		view, pos = view[size:], pos+int64(size)
	}
	return out, pos
}

// spoolReader follows a spool from the moment it began to lag.
type spoolReader struct {
	pos  int64
	got  [2][]byte
	from [2]int // what had been written when it began
}

// FuzzSpool compares what readers at different places get with what was written,
// over random sizes of chunks, a small ring, upgrades and a disk that often does
// not answer at once.
func FuzzSpool(f *testing.F) {
	f.Add(uint64(1), uint8(0))
	f.Add(uint64(2), uint8(3))
	f.Add(uint64(3), uint8(8))
	f.Add(uint64(4), uint8(9))
	dirs := []string{f.TempDir()}
	f.Fuzz(func(t *testing.T, seed uint64, kind uint8) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		backlog := int64(256<<10) << (kind & 3)
		s := newSpool(backlog, dirs, &nullWatcher{}, poll.Tag{})
		if kind&4 != 0 {
			s = newSpool(backlog, nil, &nullWatcher{}, poll.Tag{})
		}
		defer func() { s.close() }()
		s.file.size = backlog + 128<<10 // so that it goes round often
		var written [2][]byte
		var readers []*spoolReader
		for range 120 {
			n := 1 + rnd.IntN(1+rnd.IntN(60000))
			stream := stdio.Stdout + stdio.Stream(rnd.IntN(2))
			fresh := len(readers) == 0 || rnd.IntN(8) == 0
			was := [2]int{len(written[0]), len(written[1])}
			chunk := random(n, rnd.Uint64())
			if kind&8 != 0 {
				slowDown(t, &s, rnd)
			}
			pos := s.append(stream, chunk, !fresh)
			written[stream.Index()] = append(written[stream.Index()], chunk...)
			if fresh {
				readers = append(readers, &spoolReader{pos: pos, from: was})
			}
			if rnd.IntN(20) == 0 && !s.file.pending {
				s = spoolUpgrade(t, &s, backlog, dirs)
			}
			for s.lag() > s.limit() || rnd.IntN(3) == 0 && len(readers) > 0 {
				k := 0 // the one furthest behind, mostly
				for i, r := range readers {
					if r.pos < readers[k].pos {
						k = i
					}
				}
				if rnd.IntN(4) == 0 {
					k = rnd.IntN(len(readers))
				}
				r := readers[k]
				if s.hangs(r.pos) {
					answer(&s)
				}
				var got []record
				got, r.pos = read(&s, r.pos)
				for _, rec := range got {
					i := rec.stream.Index()
					r.got[i] = append(r.got[i], rec.data...)
				}
				if r.pos == s.head() {
					readers = append(readers[:k], readers[k+1:]...)
					for i := range written {
						same(t, "reader", r.got[i], written[i][r.from[i]:])
					}
				}
				tail := s.head()
				for _, r := range readers {
					tail = min(tail, r.pos)
				}
				s.advance(tail)
			}
		}
	})
}

// spoolUpgrade returns a spool that knows only what s saved.
func spoolUpgrade(t *testing.T, s *spool, backlog int64, dirs []string) spool {
	t.Helper()
	var st handoff.State
	s.save(&st)
	decoded, err := handoff.Decode(st.Encode(nil))
	if err != nil {
		t.Fatal(err)
	}
	next := newSpool(backlog, dirs, &nullWatcher{}, poll.Tag{})
	next.file.size = s.file.size
	next.load(decoded)
	if next.file.fd == s.file.fd {
		s.file.fd = -1
	}
	s.file.abandon()
	return next
}

// tmpfs mounts a file system of a size in memory.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skip("cannot mount a tmpfs:", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// TestBacklogPlace says how far a client may lag, by where the file can lie.
func TestBacklogPlace(t *testing.T) {
	memory, small := tmpfs(t, "16m"), tmpfs(t, "1m")
	disk := t.TempDir()
	if !onDisk(disk) {
		t.Skip("the temporary directory is on tmpfs")
	}
	for _, c := range []struct {
		name     string
		dirs     []string
		min, max int
	}{
		{"disk", []string{disk}, 6 << 20, 7 << 20},
		{"disk behind memory", []string{memory, "", "/nonexistent", disk}, 6 << 20, 7 << 20},
		{"memory only", []string{memory}, 4 << 20, 5 << 20},
		{"full device", []string{small}, 1 << 20, 2 << 20},
		{"nowhere", []string{"/nonexistent"}, 64 << 10, 1 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, Options{Backlog: 6 << 20, BacklogDirs: c.dirs})
			p := r.connect()
			var want []byte
			for round := range 3 {
				n := 0
				for !r.s.Blocked(stdio.Stdout) {
					chunk := random(32768, uint64(len(want)))
					r.s.Output(stdio.Stdout, chunk)
					want, n = append(want, chunk...), n+len(chunk)
				}
				if n < c.min || n > c.max {
					t.Errorf("round %d: blocked after %d bytes", round, n)
				}
				r.until("all", func() bool { p.read(); return len(p.got[0]) == len(want) })
				same(t, "stdout", p.got[0], want)
			}
		})
	}
}

// TestFullDevice: with the policy to disconnect, a full device costs the client
// that needs it its connection, and nobody else anything.
func TestFullDevice(t *testing.T) {
	r := newRig(t, Options{Backlog: 16 << 20, Disconnect: true, BacklogDirs: []string{tmpfs(t, "1m")}})
	stalled, quick := r.connect(), r.connect()
	var want []byte
	for range 200 {
		chunk := random(32768, uint64(len(want)))
		r.s.Output(stdio.Stdout, chunk)
		want = append(want, chunk...)
		quick.read()
		r.turn(0)
	}
	if stalled.read(); !stalled.eof {
		t.Error("the stalled client is still there")
	}
	r.until("all", func() bool { quick.read(); return len(quick.got[0]) == len(want) })
	same(t, "quick", quick.got[0], want)
}

// BenchmarkOutput sends to one client that reads at once.
func BenchmarkOutput(b *testing.B) {
	dir := b.TempDir()
	p := &nullWatcher{}
	s, err := Listen(Options{Bundle: dir, FullAttach: true, Backlog: 64 << 20}, p, owner)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: dir + "/attach"}); err != nil {
		b.Fatal(err)
	}
	s.accept(1)
	chunk, buf := make([]byte, 8*packetData), make([]byte, 1+packetData)
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	for b.Loop() {
		s.Output(stdio.Stdout, chunk)
		for range 8 {
			if n, err := unix.Read(fd, buf); n != len(buf) || err != nil {
				b.Fatal(n, err)
			}
		}
	}
}

// TestOutputAllocates holds the way of output to not allocating.
func TestOutputAllocates(t *testing.T) {
	r := newRig(t, Options{})
	c := r.connect()
	chunk := make([]byte, 8*packetData)
	buf := make([]byte, 1+packetData)
	if n := testing.AllocsPerRun(100, func() {
		r.s.Output(stdio.Stdout, chunk)
		for range 8 {
			_, _ = unix.Read(c.fd, buf)
		}
	}); n != 0 {
		t.Error(n, "allocations per chunk")
	}
	// And with a backlog in the file, through which a laggard is served.
	for range 100 {
		r.s.Output(stdio.Stdout, chunk)
	}
	if n := testing.AllocsPerRun(100, func() {
		r.s.Output(stdio.Stdout, chunk)
		for range 8 {
			_, _ = unix.Read(c.fd, buf)
		}
		r.turn(0)
	}); n != 0 {
		t.Error(n, "allocations per chunk through the backlog")
	}
}
