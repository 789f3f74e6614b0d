package harness

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Record is one record of a CRI log.
type Record struct {
	Time    time.Time
	Stream  string // stdout or stderr
	Partial bool   // P, a piece of a line
	Text    string // without the newline that ends the record
}

// String gives a record as "stdout F text", for comparison in tests.
func (r Record) String() string {
	tag := "F"
	if r.Partial {
		tag = "P"
	}
	return r.Stream + " " + tag + " " + r.Text
}

// Nine digits and a numeric offset, always: Podman and CRI-O parse it strictly.
var recordTime = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}[+-]\d\d:\d\d$`)

func parseRecord(line []byte) (Record, error) {
	fields := bytes.SplitN(line, []byte(" "), 4)
	if len(fields) != 4 {
		return Record{}, fmt.Errorf("record %.80q has %d fields", line, len(fields))
	}
	stamp, stream, tag := string(fields[0]), string(fields[1]), string(fields[2])
	at, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil || !recordTime.MatchString(stamp) {
		return Record{}, fmt.Errorf("record %.80q has a malformed time", line)
	}
	if stream != "stdout" && stream != "stderr" || tag != "F" && tag != "P" {
		return Record{}, fmt.Errorf("record %.80q has a malformed stream or tag", line)
	}
	return Record{Time: at, Stream: stream, Partial: tag == "P", Text: string(fields[3])}, nil
}

// EachRecord reads CRI records until the end of r. The time of every record is
// checked, and that they are in order of nothing but the stream.
func EachRecord(r io.Reader, f func(Record) error) error {
	lines := bufio.NewReaderSize(r, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("torn record %.80q: %w", line, err)
		}
		record, err := parseRecord(line[:len(line)-1])
		if err != nil {
			return err
		}
		if err := f(record); err != nil {
			return err
		}
	}
}

// ReadLog returns the records of a CRI log.
func ReadLog(t testing.TB, path string) []Record {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var records []Record
	if err := EachRecord(f, func(r Record) error {
		records = append(records, r)
		return nil
	}); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return records
}

// Log returns the monitor's log, one "stdout F text" a record.
func (m *Monitor) Log(t testing.TB) []string {
	t.Helper()
	var lines []string
	for _, r := range ReadLog(t, m.LogPath) {
		lines = append(lines, r.String())
	}
	return lines
}

// Reassemble undoes the framing of CRI logs, given in the order of their
// records: the container's bytes of each stream go to its writer.
func Reassemble(stdout, stderr io.Writer, paths ...string) error {
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = EachRecord(f, func(r Record) error {
			w := stdout
			if r.Stream == "stderr" {
				w = stderr
			}
			if !r.Partial {
				r.Text += "\n"
			}
			_, err := io.WriteString(w, r.Text)
			return err
		})
		f.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// WaitLog waits until the log holds a text.
func (m *Monitor) WaitLog(t testing.TB, text string) {
	t.Helper()
	Eventually(t, fmt.Sprintf("%s holds %q", m.LogPath, text), func() bool {
		data, err := os.ReadFile(m.LogPath)
		return err == nil && strings.Contains(string(data), text)
	})
}
