package tests

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"conmon/internal/status/client"
	"conmon/tests/harness"
)

// counted reads payload's numbered lines in the order of the files. Numbers may
// be missing, but never come twice, out of order or torn. A length of 0 allows
// lines that were cut short.
func counted(t *testing.T, length int, paths ...string) (numbers []int) {
	t.Helper()
	last := -1
	for _, path := range paths {
		for _, r := range harness.ReadLog(t, path) {
			if length == 0 && len(r.Text) < 9 {
				numbers = append(numbers, last+1) // cut within its number
				continue
			}
			n, err := strconv.Atoi(r.Text[:min(9, len(r.Text))])
			if err != nil || r.Partial || length > 0 && len(r.Text) != length || n <= last {
				t.Fatalf("%s: after number %d the record %.60q", path, last, r)
			}
			last = n
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// A disk that fills and empties: what is in the file are whole records, and what
// is not is counted. With "block" there is nothing to count.
func TestLogDiskFills(t *testing.T) {
	harness.NeedOurs(t)
	const lines, length = 20_000, 100
	for _, policy := range []string{"drop", "block"} {
		t.Run(policy, func(t *testing.T) {
			r := volumeRuntime()
			b := harness.NewBundle(t, r, payload(t, r, "count", lines, length, 8000))
			dir := smallDisk(t, b, "8m")
			log, ballast := dir+"/log", dir+"/ballast"
			m := b.Run(t, harness.Launch{Log: []string{"k8s-file:" + log}, Args: []string{"--log-on-full", policy}})
			for range 3 {
				fillDisk(t, ballast)
				waitStatus(t, m, "the disk is full", func(s *client.Report) bool { return strings.Contains(s.Logs[0].LastError, "no space left") })
				time.Sleep(300 * time.Millisecond) // let it hurt
				if err := os.Remove(ballast); err != nil {
					t.Fatal(err)
				}
				written := status(t, m).Logs[0].Stdout.Written.Bytes
				waitStatus(t, m, "logging goes on", func(s *client.Report) bool { return s.Logs[0].Stdout.Written.Bytes > written })
			}
			if status := m.Finish(t); status != 0 {
				t.Errorf("exit status %d", status)
			}
			got, exit := counted(t, length-1, log), exitJSON(t, m)
			if int64(len(got)) != exit.LinesLogged || exit.LinesLogged+exit.LinesLost != lines || exit.BytesLogged+exit.BytesLost != lines*length {
				t.Errorf("%d lines in the file; %+v", len(got), exit)
			}
			if lost := exit.LinesLost > 0; lost != (policy == "drop") {
				t.Errorf("%d lines are lost", exit.LinesLost)
			}
		})
	}
}

// fillDisk takes all the space there is.
func fillDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size >= 1; size /= 2 {
		for err == nil {
			_, err = f.Write(make([]byte, size))
		}
		err = nil
	}
}

// Every byte goes through many rotations at 64 KiB and is in exactly one file,
// none of which is larger than allowed or ends within a record.
func TestLogRotationVolume(t *testing.T) {
	harness.NeedOurs(t)
	const seed, limit, step, keep = 5, 64 << 10, 1 << 20, 26
	r := volumeRuntime()
	b := harness.NewBundle(t, r, payload(t, r, "steps", seed, step))
	m := create(t, b, harness.Launch{Args: []string{"-i", "--log-rotate", "--log-size-max", strconv.Itoa(limit), "--log-max-files", strconv.Itoa(keep)}})
	c := newTap(t, m).client // one that does not read would block the rest
	b.Start(t)
	steps := harness.Count(64, 1024)
	all := b.Base + "/all"
	var after unix.Stat_t // the last file that was read to its end
	offset := int64(0)
	out, err := os.Create(all)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	for i := range steps {
		c.Send(t, []byte{1})
		total := uint64((i + 1) * step)
		waitStatus(t, m, "all is written", func(s *client.Report) bool {
			l := s.Logs[0].Stdout
			return l.Written.Bytes+l.Lost.Bytes == total
		})
		files := backups(m.LogPath)
		if after.Ino != 0 {
			files = files[slices.IndexFunc(files, func(f string) bool { return inode(t, f) == after.Ino }):]
		}
		for _, file := range files {
			appendLog(t, out, file, offset, limit)
			offset = 0
		}
		last := files[len(files)-1]
		if err := unix.Stat(last, &after); err != nil {
			t.Fatal(err)
		}
		offset = after.Size
	}
	c.CloseInput(t)
	m.Finish(t)
	if exit := exitJSON(t, m); exit.BytesLost != 0 {
		t.Errorf("%+v", exit)
	}
	appendLog(t, out, m.LogPath, offset, limit)
	got, _ := logSum(t, all)
	if want := sampleSum(seed, int64(steps)*step); got != want {
		t.Errorf("log %v, want %v", got, want)
	}
}

// appendLog appends a log file from offset on to out, having looked at its size
// and its end.
func appendLog(t *testing.T, out io.Writer, path string, offset, limit int64) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(text)) > limit && bytes.Count(text, []byte("\n")) > 1 {
		t.Errorf("%s has %d bytes", path, len(text))
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		t.Errorf("%s ends within a record", path)
	}
	if _, err := out.Write(text[offset:]); err != nil {
		t.Fatal(err)
	}
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// Reopened again and again under full load, renamed first or not, by ctl and by
// signal: nothing is lost or doubled.
func TestLogReopenUnderLoad(t *testing.T) {
	const seed = 6
	r := volumeRuntime()
	b := harness.NewBundle(t, r, payload(t, r, "talk", seed, 40))
	m := create(t, b, harness.Launch{Args: []string{"-i"}})
	c := newTap(t, m).client // one that does not read would block the rest
	b.Start(t)
	m.WaitLog(t, " F ")
	var files []string
	count := harness.Count(300, 1000)
	for i := range count {
		renamed := i%3 != 2
		if renamed {
			files = append(files, fmt.Sprintf("%s.%d", m.LogPath, i))
			if err := os.Rename(m.LogPath, files[len(files)-1]); err != nil {
				t.Fatal(err)
			}
		}
		if i%2 == 0 || harness.Peer() {
			ctl(t, m, "2 0 0\n")
		} else {
			m.Signal(t, unix.SIGUSR1)
		}
		if renamed {
			harness.WaitFile(t, m.LogPath)
		}
	}
	c.CloseInput(t)
	m.Finish(t)
	got, errs := logSum(t, append(files, m.LogPath)...)
	if want := told(t, errs, "stdout"); got != want {
		t.Errorf("log %v, want %v", got, want)
	}
}

// What kubelet does: rename to a time stamp, ask for a reopen and wait for the
// new file by inotify, compress the old one.
func TestLogKubeletRotation(t *testing.T) {
	const seed = 7
	b := harness.NewBundle(t, harness.FakeRuntime(), payload(t, harness.FakeRuntime(), "talk", seed, 10))
	b.LogPath = b.Base + "/0.log"
	m := create(t, b, harness.Launch{Engine: harness.CRIO, Args: []string{"-i"}})
	c := newTap(t, m).client // one that does not read would block the rest
	b.Start(t)
	m.WaitLog(t, " F ")
	var files []string
	for i := range harness.Count(10, 50) {
		old := fmt.Sprintf("%s.20260101-%06d", m.LogPath, i)
		if err := os.Rename(m.LogPath, old); err != nil {
			t.Fatal(err)
		}
		ctl(t, m, "2 0 0\n")
		harness.WaitFile(t, m.LogPath)
		compressFile(t, old)
		files = append(files, old+".gz")
		time.Sleep(50 * time.Millisecond) // for some output in each file
	}
	c.CloseInput(t)
	m.Finish(t)
	got, errs := logSum(t, append(unpack(t, files), m.LogPath)...)
	if want := told(t, errs, "stdout"); got != want {
		t.Errorf("log %v, want %v", got, want)
	}
}

func compressFile(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	w, _ := gzip.NewWriterLevel(&packed, gzip.BestSpeed) // faster than the container
	if _, err := w.Write(text); err != nil || w.Close() != nil {
		t.Fatal("compressing in memory does not work")
	}
	if err := os.WriteFile(path+".gz", packed.Bytes(), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// unpack decompresses files beside themselves and returns the results' paths.
func unpack(t *testing.T, paths []string) (plain []string) {
	t.Helper()
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var r io.Reader
		switch {
		case strings.HasSuffix(path, ".gz"):
			r, err = gzip.NewReader(f)
		case strings.HasSuffix(path, ".zst"):
			r, err = zstd.NewReader(f)
		default:
			plain = append(plain, path)
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		out, err := os.Create(path + ".plain")
		if err != nil {
			t.Fatal(err)
		}
		if _, err = io.Copy(out, r); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		out.Close()
		plain = append(plain, out.Name())
	}
	return plain
}
