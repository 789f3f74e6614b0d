package logging

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"conmon/internal/config"
	"conmon/internal/stdio"
)

// jsonEntry is what readers of docker's format read.
type jsonEntry struct {
	Log    string    `json:"log"`
	Stream string    `json:"stream"`
	Time   time.Time `json:"time"`
}

func TestJSONFormat(t *testing.T) {
	wall := time.Date(2024, 5, 6, 7, 8, 9, 120_000_000, time.FixedZone("", 7200))
	for _, c := range []struct {
		r    record
		want string
	}{
		{record{tail: []byte("hi"), full: true}, `{"log":"hi\n","stream":"stderr","time":"2024-05-06T05:08:09.12Z"}`},
		{record{tail: []byte("hi")}, `{"log":"hi","stream":"stderr","time":"2024-05-06T05:08:09.12Z"}`},
		{record{full: true}, `{"log":"\n","stream":"stderr","time":"2024-05-06T05:08:09.12Z"}`},
		{record{tail: []byte("\"\\\t\r\x00\x1b<&>")}, `{"log":"\"\\\t\r\u0000\u001b\u003c\u0026\u003e","stream":"stderr","time":"2024-05-06T05:08:09.12Z"}`},
		{record{tail: []byte("é\xff\u2028")}, `{"log":"é\ufffd\u2028","stream":"stderr","time":"2024-05-06T05:08:09.12Z"}`},
		{record{head: []byte("a\xe2\x82"), tail: []byte("\xacb")}, `{"log":"a€b","stream":"stderr","time":"2024-05-06T05:08:09.12Z"}`},
		{record{head: []byte("\xef\xbf"), tail: []byte("\xbd")}, "{\"log\":\"\ufffd\",\"stream\":\"stderr\",\"time\":\"2024-05-06T05:08:09.12Z\"}"},
		{record{head: []byte("\xe2"), tail: []byte("\x82x")}, `{"log":"\ufffd\ufffdx","stream":"stderr","time":"2024-05-06T05:08:09.12Z"}`},
	} {
		var j jsonSuffix
		j.set(stdio.Stderr, wall)
		if got := string(appendJSON(nil, &j, c.r)); got != c.want+"\n" {
			t.Errorf("got  %s want %s", got, c.want)
		}
	}
}

// Whatever needs an escape is found wherever it is, and nothing else is.
func TestPlainJSON(t *testing.T) {
	for c := range 256 {
		want := c >= ' ' && c < utf8.RuneSelf && !strings.ContainsRune("\"\\<>&", rune(c))
		for size := 1; size <= 40; size++ {
			for at := range size {
				text := bytes.Repeat([]byte{'!'}, size)
				text[at] = byte(c)
				n := at
				if want {
					n = size
				}
				if got := plainJSON(text); got != n {
					t.Fatalf("%q: %d, want %d", text, got, n)
				}
			}
		}
	}
}

// Every record is JSON on one line, means what came in, and can be counted.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{"plain", "tab\t\"quoted\" \\ <b>&amp;", "é€😀", "\xff\xfe", "a\xe2\x82", "\u2028\u2029", "12345678<", "1234567\x1f", "\x7f\ufffd"} {
		f.Add([]byte(s), uint8(3), true)
	}
	f.Fuzz(func(t *testing.T, text []byte, cut uint8, full bool) {
		text = bytes.ReplaceAll(text, newline, nil)
		n := min(int(cut), len(text))
		var j jsonSuffix
		wall := time.Unix(1700000000, 5)
		j.set(stdio.Stderr, wall)
		rec := appendJSON(nil, &j, record{text[:n], text[n:], full})
		if bytes.IndexByte(rec, '\n') != len(rec)-1 || len(rec) > jsonFixed+jsonGrowth*len(text) {
			t.Fatalf("record %q", rec)
		}
		var e jsonEntry
		if err := json.Unmarshal(rec, &e); err != nil {
			t.Fatalf("%q: %v", rec, err)
		}
		want := toValid(text)
		if full {
			want += "\n"
		}
		if e.Log != want || e.Stream != "stderr" || !e.Time.Equal(wall) {
			t.Errorf("%q became %+v", text, e)
		}
		raw := len(text)
		if full {
			raw++
		}
		if s, n, line := jsonRaw(rec); s != stdio.Stderr || n != raw || line != full {
			t.Errorf("%q counts as %v %d %v", rec, s, n, line)
		}
		if !full {
			return
		}
		chunk := append(bytes.Clone(text), '\n')
		lines, _, _ := appendJSONLines(make([]byte, 0, 2*len(rec)), &j, chunk, len(text), 1)
		whole := appendJSON(nil, &j, record{tail: text, full: true})
		if !bytes.Equal(lines, whole) {
			t.Errorf("as a line %q, as a record %q", lines, whole)
		}
	})
}

// toValid replaces each byte that is not UTF-8, as encoding/json does.
func toValid(b []byte) string {
	var s strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		s.WriteRune(r)
		b = b[n:]
	}
	return s.String()
}

func TestJSONFile(t *testing.T) {
	path := t.TempDir() + "/log"
	l := newLog(t, config.Log{Drivers: []config.Driver{{Kind: config.JSONFile, Path: path}}, MaxLine: 4})
	put(l, stdio.Stdout, "abc\nlonger\nend")
	eof(l, stdio.Stdout)
	var got []string
	d := json.NewDecoder(strings.NewReader(read(t, path)))
	for d.More() {
		var e jsonEntry
		if err := d.Decode(&e); err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Log)
	}
	want(t, got, "abc\n", "long", "er\n", "end")
}
