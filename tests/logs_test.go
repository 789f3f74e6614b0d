package tests

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
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
// be missing, but never come twice, out of order or torn.
func counted(t *testing.T, length int, paths ...string) (numbers []int) {
	t.Helper()
	last := -1
	for _, path := range paths {
		for _, r := range harness.ReadLog(t, path) {
			n, err := strconv.Atoi(strings.TrimLeft(r.Text[:min(9, len(r.Text))], "0") + "")
			if r.Text != "" && strings.Trim(r.Text[:9], "0") == "" {
				n, err = 0, nil
			}
			if err != nil || r.Partial || len(r.Text) != length || n <= last {
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
	const seed, limit, step, keep = 5, 64 << 10, 4 << 20, 200
	r := volumeRuntime()
	b := harness.NewBundle(t, r, payload(t, r, "steps", seed, step))
	m := create(t, b, harness.Launch{Args: []string{"-i", "--log-rotate", "--log-size-max", strconv.Itoa(limit), "--log-max-files", strconv.Itoa(keep)}})
	c := newTap(t, m).client // one that does not read would block the rest
	b.Start(t)
	steps := harness.Count(25, 250)
	lines, all := newLineReader(), b.Base+"/all"
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
			return l.Written.Bytes+l.Pending.Bytes+l.Lost.Bytes == total
		})
		files := backups(m.LogPath)
		if after.Ino != 0 {
			files = files[slices.IndexFunc(files, func(f string) bool { return inode(t, f) == after.Ino }):]
		}
		for _, file := range files {
			lines.copy(t, out, file, offset, limit)
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
	lines.copy(t, out, m.LogPath, offset, limit)
	got, _ := logSum(t, all)
	if want := sampleSum(seed, int64(steps)*step); got != want {
		t.Errorf("log %v, want %v", got, want)
	}
}

// lineReader joins log files.
type lineReader struct{}

func newLineReader() *lineReader { return &lineReader{} }

// copy appends a file from offset on, having looked at its size and its end.
func (*lineReader) copy(t *testing.T, out io.Writer, path string, offset, limit int64) {
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

// logrotate's copytruncate: the file starts over at its beginning, without a
// hole, and only what came between the copy and the cut is missing.
func TestLogCopyTruncate(t *testing.T) {
	const length = 100
	b := harness.NewBundle(t, harness.FakeRuntime(), payload(t, harness.FakeRuntime(), "count", 40_000, length, 20_000))
	m := b.Run(t, harness.Launch{Args: []string{"--log-size-max=1000000000"}})
	var copies []string
	for i := range 10 {
		time.Sleep(100 * time.Millisecond)
		text, err := os.ReadFile(m.LogPath)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(m.LogPath, 0); err != nil {
			t.Fatal(err)
		}
		// A copy may end within a record, as it does in real life.
		text = text[:bytes.LastIndexByte(text, '\n')+1]
		copies = append(copies, fmt.Sprintf("%s.%d", m.LogPath, i))
		if err := os.WriteFile(copies[i], text, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if status := m.Finish(t); status != 0 {
		t.Errorf("exit status %d", status)
	}
	numbers, gaps := counted(t, length-1, append(copies, m.LogPath)...), 0
	for i, n := range numbers {
		if i > 0 && n != numbers[i-1]+1 {
			gaps++
		}
	}
	if gaps > 10 || numbers[len(numbers)-1] != 39_999 {
		t.Errorf("%d gaps, the last number is %d", gaps, numbers[len(numbers)-1])
	}
}

// Backups are compressed beside the monitor; together they are the output.
func TestLogCompress(t *testing.T) {
	harness.NeedOurs(t)
	const seed, size = 9, 12_000_000
	for _, method := range []string{"gzip", "zstd"} {
		b := harness.NewBundle(t, harness.FakeRuntime(), payload(t, harness.FakeRuntime(), "flood", seed, size))
		m := b.Run(t, harness.Launch{Args: []string{"--log-rotate", "--log-size-max=1000000", "--log-max-files=50", "--log-compress", method}})
		if status := m.Finish(t); status != 0 {
			t.Errorf("exit status %d", status)
		}
		harness.Eventually(t, "the last child has ended", func() bool { return len(b.Processes()) == 0 })
		files := backups(m.LogPath)
		if len(files) < 3 {
			t.Errorf("only %d files: %v", len(files), files)
		}
		got, _ := logSum(t, unpack(t, files)...)
		if want := sampleSum(seed, size); got != want {
			t.Errorf("%s: %v, want %v", method, got, want)
		}
		for _, f := range files[:len(files)-1] {
			if !strings.HasSuffix(f, map[string]string{"gzip": ".gz", "zstd": ".zst"}[method]) {
				t.Errorf("%s is not compressed", f)
			}
		}
	}
}

// A rate limit slows the container down, or leaves whole lines out and counts them.
func TestLogRateLimit(t *testing.T) {
	harness.NeedOurs(t)
	const lines, length = 30_000, 100
	for _, policy := range []string{"block", "drop"} {
		b := harness.NewBundle(t, harness.FakeRuntime(), payload(t, harness.FakeRuntime(), "count", lines, length, 0))
		start := time.Now()
		m := b.Run(t, harness.Launch{Args: []string{"--log-rate-limit=1m/128k", "--log-rate-policy", policy}})
		m.Finish(t)
		took, got, exit := time.Since(start), counted(t, length-1, m.LogPath), exitJSON(t, m)
		if int64(len(got)) != exit.LinesLogged || exit.LinesLogged+exit.LinesLost != lines || exit.BytesLogged+exit.BytesLost != lines*length {
			t.Errorf("%s: %d lines in the file; %+v", policy, len(got), exit)
		}
		switch policy {
		case "block": // 3 MB, less the burst and what the pipe holds at the end
			if exit.LinesLost != 0 || took < 2400*time.Millisecond || took > 5*time.Second {
				t.Errorf("block: %v, %+v", took, exit)
			}
		case "drop":
			if exit.LinesLost == 0 || exit.BytesLogged < 100_000 || took > 2*time.Second {
				t.Errorf("drop: %v, %+v", took, exit)
			}
		}
	}
}

// docker's format, as docker's own reader would take it.
func TestLogJSONFile(t *testing.T) {
	harness.NeedOurs(t)
	harness.EachRuntime(t, func(t *testing.T, r harness.Runtime) {
		b := harness.NewBundle(t, r, harness.Shell(`printf 'plain\n"quoted" \\ back\ttab\303\244\n\001\033[0m\n\n'; printf 'bad \377 byte\n'; sleep 0.1; echo oops >&2; sleep 0.1; printf 'no end'`))
		m := b.Run(t, harness.Launch{Log: []string{"json-file:" + b.LogPath}})
		m.Finish(t)
		text, err := os.ReadFile(m.LogPath)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for line := range bytes.Lines(text) {
			var entry struct{ Log, Stream, Time string }
			d := json.NewDecoder(bytes.NewReader(line))
			d.DisallowUnknownFields()
			if err := d.Decode(&entry); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if at, err := time.Parse(time.RFC3339Nano, entry.Time); err != nil || at.Location() != time.UTC || time.Since(at) > time.Minute {
				t.Errorf("time %q, %v", entry.Time, err)
			}
			got = append(got, entry.Stream+" "+entry.Log)
		}
		want := []string{
			"stdout plain\n", "stdout \"quoted\" \\ back\ttabä\n", "stdout \x01\x1b[0m\n", "stdout \n",
			"stdout bad \ufffd byte\n", "stderr oops\n", "stdout no end",
		}
		if !slices.Equal(got, want) {
			t.Errorf("log\n%q, want\n%q", got, want)
		}
	})
}

// An external logger that is killed all the time: the container notices nothing,
// the second driver has everything, and the logger gets what was not given up.
func TestLoggerKilled(t *testing.T) {
	harness.NeedOurs(t)
	const lines, length = 12_000, 100
	b := harness.NewBundle(t, harness.FakeRuntime(), payload(t, harness.FakeRuntime(), "count", lines, length, 3000))
	out, pids := b.Base+"/out", b.Base+"/pids"
	logger := b.Base + "/logger"
	script := "#!/bin/sh\necho $$ >>" + pids + "\n[ \"$CONTAINER_ID\" = " + b.ID + " ] || exit 1\nexec cat >>" + out + "\n"
	if err := os.WriteFile(logger, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	m := b.Run(t, harness.Launch{Log: []string{"exec:" + logger, "k8s-file:" + b.LogPath}})
	kills := 0
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(300 * time.Millisecond) {
		text, _ := os.ReadFile(pids)
		words := strings.Fields(string(text))
		if len(words) == 0 {
			continue
		}
		pid, err := strconv.Atoi(words[len(words)-1])
		if err == nil && harness.Alive(pid) && unix.Kill(pid, unix.SIGKILL) == nil {
			kills++
		}
	}
	s := status(t, m).Logs[0]
	if int(s.Restarts) < kills-1 || s.LastError == "" || kills < 3 {
		t.Errorf("killed %d times; %+v", kills, s)
	}
	if status := m.Finish(t); status != 0 || time.Since(start) > 10*time.Second {
		t.Errorf("exit status %d after %v", status, time.Since(start))
	}
	if got := counted(t, length-1, m.LogPath); len(got) != lines {
		t.Errorf("the second driver has %d lines", len(got))
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	exit := exitJSON(t, m)
	// What the killed ones had read and not written, at most 128 KiB each, is
	// nobody's fault but theirs.
	missing := exit.BytesLogged - int64(len(text))
	if exit.BytesLogged+exit.BytesLost != lines*length || missing < 0 || missing > int64(kills)*(128<<10) {
		t.Errorf("the logger wrote %d bytes, killed %d times; %+v", len(text), kills, exit)
	}
	last := -1
	for line := range strings.Lines(string(text)) {
		n, err := strconv.Atoi(line[:min(9, len(line))])
		if err == nil && len(line) == length && n <= last {
			t.Fatalf("after line %d line %d", last, n)
		}
		if err == nil && len(line) == length {
			last = n
		}
	}
}

// What cannot be a log is refused at once and clearly; what can hang does not.
func TestLogTargets(t *testing.T) {
	harness.NeedOurs(t)
	b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("echo hello; exit 4"))
	fifo := b.Base + "/fifo"
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, want string }{
		{"k8s-file:" + fifo, "Failed to open log file"},
		{"json-file:" + fifo, "Failed to open log file"},
		{b.Base + "/missing/log", "Failed to open log file"},
		{b.Base, "Failed to open log file"},
		{b.Dir + "/config.json/log", "Failed to open log file"},
		{"exec:" + b.Base + "/missing", "missing"},
		{"exec:" + b.Dir + "/config.json", "config.json"},
	} {
		start := time.Now()
		m := harness.Launch{Bundle: b, Log: []string{c.path}}.Run(t)
		if status := m.Wait(t); status != 1 || !strings.Contains(m.Output.String(), c.want) || time.Since(start) > 3*time.Second {
			t.Errorf("%s: status %d after %v, %q", c.path, status, time.Since(start), m.Output)
		}
	}
	for _, path := range []string{"/dev/null", "/dev/full"} {
		b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("echo hello; exit 4"))
		m := b.Run(t, harness.Launch{Log: []string{path, b.LogPath}})
		if status := m.Finish(t); status != 4 {
			t.Errorf("%s: exit status %d", path, status)
		}
		if got := m.Log(t); !slices.Equal(got, []string{"stdout F hello"}) {
			t.Errorf("%s: the second driver has %q", path, got)
		}
		if exit := exitJSON(t, m); (exit.LinesLost == 1) != (path == "/dev/full") {
			t.Errorf("%s: %+v", path, exit)
		}
	}
}

// A log path whose file system has died: the container goes on if it may, attach
// clients notice nothing, and the end is recorded in time.
func TestLogDeadFileSystem(t *testing.T) {
	harness.NeedOurs(t)
	for _, policy := range []string{"drop", "block"} {
		t.Run(policy, func(t *testing.T) {
			r := harness.FakeRuntime()
			b := harness.NewBundle(t, r, payload(t, r, "count", 1_000_000, 1000, 2000))
			disk := newDeadDisk(t, b)
			m := create(t, b, harness.Launch{Log: []string{"k8s-file:" + disk.dir + "/log"}, Args: []string{"--log-on-full", policy}})
			c := m.Attach(t)
			b.Start(t)
			harness.Eventually(t, "the log grows", func() bool { return disk.size.Load() > 500_000 })
			disk.dead.Store(true)

			waitStatus(t, m, "the log is stuck", func(s *client.Report) bool { return s.Logs[0].Waiting })
			received := 0
			for policy == "drop" && received < 6_000_000 { // three seconds' worth: more than is kept for the dead disk
				p, err := c.Receive()
				if err != nil {
					t.Fatalf("attach client: %v", err)
				}
				received += len(p.Data)
			}
			if _, err := client.Upgrade(m.Dir, ""); err == nil || !strings.Contains(err.Error(), "log file hangs") {
				t.Errorf("upgrade: %v", err)
			}
			if s := status(t, m); (s.Logs[0].Stdout.Lost.Bytes > 0) != (policy == "drop") {
				t.Errorf("status %+v", s.Logs[0])
			}
			start := time.Now()
			b.Kill(t, "KILL")
			status := m.ExitFile(t)
			if took := time.Since(start); status != 137 || took > 2*time.Second {
				t.Errorf("exit status %d after %v", status, took)
			}
			exit := exitJSON(t, m)
			if exit.BytesLost == 0 {
				t.Errorf("%+v", exit)
			}
			for {
				if _, err := c.Receive(); err != nil {
					if err != io.EOF {
						t.Errorf("attach client: %v", err)
					}
					break
				}
			}
			disk.bury()
			m.Gone(t)
		})
	}
}
