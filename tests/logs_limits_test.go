package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"conmon/tests/harness"
)

// Backups are compressed beside the monitor; together they are the output.
func TestLogCompress(t *testing.T) {
	harness.NeedOurs(t)
	const lines, length = 120_000, 100
	for _, method := range []string{"gzip", "zstd"} {
		b := harness.NewBundle(t, harness.FakeRuntime(), payload(t, harness.FakeRuntime(), "count", lines, length, 60_000))
		m := b.Run(t, harness.Launch{Args: []string{"--log-rotate", "--log-size-max=1000000", "--log-max-files=50", "--log-compress", method}})
		if status := m.Finish(t); status != 0 {
			t.Errorf("exit status %d", status)
		}
		harness.Eventually(t, "the last child has ended", func() bool { return len(b.Processes()) == 0 })
		files := backups(m.LogPath)
		if len(files) < 3 {
			t.Errorf("only %d files: %v", len(files), files)
		}
		if got := counted(t, length-1, unpack(t, files)...); len(got) != lines {
			t.Errorf("%s: %d lines", method, len(got))
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
		whole := length - 1
		if policy == "drop" {
			whole = 0 // the limit may come in the middle of a line
		}
		took, got, exit := time.Since(start), counted(t, whole, m.LogPath), exitJSON(t, m)
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
