package logging

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"conmon/internal/clock"
	"conmon/internal/config"
	"conmon/internal/stdio"
)

func k8s(path string) []config.Driver {
	return []config.Driver{{Kind: config.K8sFile, Path: path}}
}

func put(l *Log, s stdio.Stream, text string) {
	l.Write(s, []byte(text), time.Now(), clock.Now())
}

func eof(l *Log, s stdio.Stream) { l.EOF(s, time.Now(), clock.Now()) }

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var criLine = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}[+-]\d\d:\d\d (stdout|stderr) ([FP]) `)

// entries returns a CRI file's records without their times: "stdout F text".
func entries(t testing.TB, path string) []string {
	t.Helper()
	var list []string
	text, ok := strings.CutSuffix(read(t, path), "\n")
	if !ok {
		return nil
	}
	for line := range strings.SplitSeq(text, "\n") {
		if !criLine.MatchString(line) {
			t.Fatalf("not a CRI record: %q", line)
		}
		list = append(list, line[len(criTime)+1:])
	}
	return list
}

func want(t testing.TB, got []string, list ...string) {
	t.Helper()
	if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", list) {
		t.Errorf("got %q, want %q", got, list)
	}
}

func TestCRIRecords(t *testing.T) {
	for _, c := range []struct {
		name   string
		chunks []string // "!" ends the stream, "~" is the flush timer
		want   []string
	}{
		{"lines", []string{"a\nb\n"}, []string{"F a", "F b"}},
		{"empty line", []string{"\n"}, []string{"F "}},
		{"across chunks", []string{"ab", "cd", "e\nf", "\n"}, []string{"F abcde", "F f"}},
		{"no newline at the end", []string{"a\nb", "!"}, []string{"F a", "P b"}},
		{"no empty record at the end", []string{"a\n", "!"}, []string{"F a"}},
		{"longest line", []string{"12345678\n"}, []string{"F 12345678"}},
		{"longest line, newline later", []string{"12345678", "\n"}, []string{"F 12345678"}},
		{"longest line, end", []string{"12345678", "!"}, []string{"P 12345678"}},
		{"too long", []string{"123456789\n"}, []string{"P 12345678", "F 9"}},
		{"too long, twice the limit", []string{"1234567812345678\n"}, []string{"P 12345678", "F 12345678"}},
		{"too long, across chunks", []string{"12345", "6781", "2345678\n"}, []string{"P 12345678", "F 12345678"}},
		{"podman's example", []string{"abc", "~", "def\nxyz", "!"}, []string{"P abc", "F def", "P xyz"}},
		{"newline after a flush", []string{"abc", "~", "\n"}, []string{"P abc", "F "}},
		{"end after a flush", []string{"abc", "~", "!"}, []string{"P abc"}},
		{"binary", []string{"\x00\xff\r\x1b\n"}, []string{"F \x00\xff\r\x1b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := t.TempDir() + "/log"
			l := newLog(t, config.Log{Drivers: k8s(path), MaxLine: 8})
			for _, chunk := range c.chunks {
				switch chunk {
				case "!":
					eof(l, stdio.Stderr)
				case "~":
					due := l.Deadline()
					if left := due - clock.Now(); left <= 0 || left > 100*clock.Millisecond {
						t.Errorf("flush in %d ns", left)
					}
					l.Tick(due)
				default:
					put(l, stdio.Stderr, chunk)
				}
			}
			var list []string
			for _, e := range c.want {
				list = append(list, "stderr "+e)
			}
			want(t, entries(t, path), list...)
		})
	}
}

// A piece is written one interval after its beginning, whatever comes after.
func TestFlushTimer(t *testing.T) {
	l := newLog(t, config.Log{Drivers: k8s(t.TempDir() + "/log")})
	at := func(ms clock.Mono, text string) {
		l.Write(stdio.Stdout, []byte(text), time.Now(), ms*clock.Millisecond)
	}
	at(1000, "a")
	at(1050, "b")
	if d := l.Deadline(); d != 1100*clock.Millisecond {
		t.Errorf("deadline %d after more of the same line", d)
	}
	at(1060, "c\nd")
	if d := l.Deadline(); d != 1160*clock.Millisecond {
		t.Errorf("deadline %d after another line has begun", d)
	}
	at(1070, "\n")
	if d := l.Deadline(); d != 0 {
		t.Errorf("deadline %d with nothing pending", d)
	}
}

func TestSizeLimits(t *testing.T) {
	const rec int64 = int64(criPrefixLen) + 5 // "aaaa\n"
	for _, c := range []struct {
		name string
		cfg  config.Log
		in   string
		want []string // the file, then its backups
	}{
		{"start over", config.Log{SizeMax: 2 * rec}, "aaaa\nbbbb\ncccc\n", []string{"cccc"}},
		{"exactly full", config.Log{SizeMax: 2 * rec}, "aaaa\nbbbb\n", []string{"aaaa bbbb"}},
		{"one byte short", config.Log{SizeMax: 2*rec - 1}, "aaaa\nbbbb\n", []string{"bbbb"}},
		{"record over the limit", config.Log{SizeMax: rec}, "aaaa\nbbbbbbbb\ncccc\n", []string{"cccc"}},
		{"record over the limit, last", config.Log{SizeMax: rec}, "aaaa\nbbbbbbbb\n", []string{"bbbbbbbb"}},
		{"rotate", config.Log{SizeMax: 2 * rec, Rotate: true, MaxFiles: 2}, "aaaa\nbbbb\ncccc\ndddd\neeee\n", []string{"eeee", "cccc dddd", "aaaa bbbb"}},
		{"rotate, oldest goes", config.Log{SizeMax: rec, Rotate: true, MaxFiles: 2}, "aaaa\nbbbb\ncccc\ndddd\n", []string{"dddd", "cccc", "bbbb"}},
		{"rotate, one backup", config.Log{SizeMax: rec, Rotate: true, MaxFiles: 1}, "aaaa\nbbbb\ncccc\n", []string{"cccc", "bbbb"}},
		{"rotate, over the limit alone", config.Log{SizeMax: rec, Rotate: true, MaxFiles: 3}, "aaaa\nbbbbbbbb\ncccc\n", []string{"cccc", "bbbbbbbb", "aaaa"}},
		{"global, crossing record is last", config.Log{GlobalSizeMax: rec + 1}, "aaaa\nbbbb\ncccc\n", []string{"aaaa bbbb"}},
		{"global, exactly reached", config.Log{GlobalSizeMax: rec}, "aaaa\nbbbb\ncccc\n", []string{"aaaa"}},
		{"global, first record crosses", config.Log{GlobalSizeMax: 1}, "aaaa\nbbbb\n", []string{"aaaa"}},
		{"both", config.Log{SizeMax: rec, GlobalSizeMax: rec + 1}, "aaaa\nbbbb\ncccc\n", []string{"bbbb"}},
	} {
		for _, cut := range []int{1, len(c.in)} {
			t.Run(fmt.Sprint(c.name, " by ", cut), func(t *testing.T) {
				path := t.TempDir() + "/log"
				c.cfg.Drivers = k8s(path)
				l := newLog(t, c.cfg)
				for in := c.in; in != ""; in = in[cut:] {
					put(l, stdio.Stdout, in[:cut])
				}
				for i, w := range c.want {
					file := path
					if i > 0 {
						file = fmt.Sprint(path, ".", i)
					}
					got := strings.ReplaceAll(strings.Join(entries(t, file), " "), "stdout F ", "")
					if got != w {
						t.Errorf("%s has %q, want %q", filepath.Base(file), got, w)
					}
				}
				if left, _ := filepath.Glob(path + "*"); len(left) != len(c.want) {
					t.Errorf("files: %q", left)
				}
			})
		}
	}
}

// The size at opening counts, and a stale temporary file is in nobody's way.
func TestStartOverExistingFile(t *testing.T) {
	path := t.TempDir() + "/log"
	os.WriteFile(path, bytes.Repeat([]byte("old\n"), 25), 0o640)
	os.WriteFile(path+".tmp", []byte("stale"), 0o400)
	l := newLog(t, config.Log{Drivers: k8s(path), SizeMax: 120})
	put(l, stdio.Stdout, "new\n")
	want(t, entries(t, path), "stdout F new")
	if _, err := os.Stat(path + ".tmp"); err == nil {
		t.Error("temporary file left")
	}
}

func TestStats(t *testing.T) {
	const rec int64 = int64(criPrefixLen) + 5 // "aaaa\n"
	path := t.TempDir() + "/log"
	l := newLog(t, config.Log{Drivers: k8s(path), GlobalSizeMax: 2 * rec})
	put(l, stdio.Stdout, "aaaa\n")
	put(l, stdio.Stderr, "bbbb\n")
	put(l, stdio.Stdout, "cccc\n")
	put(l, stdio.Stdout, "dd")
	s := l.Stats()
	if s.Read != [2]Count{{12, 2}, {5, 1}} {
		t.Errorf("read %v", s.Read)
	}
	if got := s.Drivers[0].Streams; got != [2]StreamStats{{Written: Count{5, 1}, Capped: Count{7, 1}}, {Written: Count{5, 1}}} {
		t.Errorf("streams %+v", got)
	}
}

// plain returns what the container wrote for a CRI file's records.
func plain(t testing.TB, path string) string {
	var b strings.Builder
	for _, e := range entries(t, path) {
		b.WriteString(e[len("stdout F "):])
		if e[len("stdout ")] == 'F' {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// An upgrade between any two bytes changes nothing.
func TestSaveLoad(t *testing.T) {
	for _, cfg := range []config.Log{{}, {SizeMax: 150, Rotate: true, MaxFiles: 9}} {
		path := t.TempDir() + "/log"
		cfg.Drivers, cfg.MaxLine = k8s(path), 8
		r := newRig(t, cfg)
		const in = "one\ntwo\nlonger than eight\n\nlast"
		for _, b := range []byte(in) {
			put(r.Log, stdio.Stdout, string(b))
			due, before := r.Deadline(), r.Stats()
			r.upgrade()
			if d := r.Deadline(); d != due {
				t.Errorf("deadline %d, was %d", d, due)
			}
			if after := r.Stats(); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("stats %v, were %v", after, before)
			}
		}
		eof(r.Log, stdio.Stdout)
		var got string
		for i := 9; i > 0; i-- {
			if f := fmt.Sprint(path, ".", i); exists(f) {
				got += plain(t, f)
			}
		}
		if got += plain(t, path); got != in {
			t.Errorf("logged %q, sent %q", got, in)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestWriteAllocatesNothing(t *testing.T) {
	for _, kind := range []config.DriverKind{config.K8sFile, config.JSONFile} {
		l := newLog(t, config.Log{Drivers: []config.Driver{{Kind: kind, Path: t.TempDir() + "/log"}}})
		chunk, wall := append(chunkOf(20), "\xc3<tail"...), time.Now()
		n := testing.AllocsPerRun(100, func() {
			wall = wall.Add(400 * time.Millisecond)
			l.Write(stdio.Stdout, chunk, wall, clock.Now())
			l.Tick(l.Deadline())
		})
		if n != 0 {
			t.Errorf("%s: %v allocations per chunk", kind, n)
		}
	}
}
