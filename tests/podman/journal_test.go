package podman

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"conmon/tests/harness"
)

// entry is one journal entry. Values are strings, or lists of numbers where they
// are not text.
type entry map[string]any

func (e entry) has(field string) bool { return e[field] != nil }

func (e entry) get(field string) string {
	switch v := e[field].(type) {
	case string:
		return v
	case []any:
		raw := make([]byte, len(v))
		for i := range v {
			n, ok := v[i].(float64)
			if !ok {
				return fmt.Sprint(v)
			}
			raw[i] = byte(n)
		}
		return string(raw)
	}
	return ""
}

func (e entry) message() string { return e.get("MESSAGE") }

func (e entry) String() string { return fmt.Sprint(map[string]any(e)) }

// journalOf returns the container's entries, of which there have to be at least
// n.
func journalOf(t testing.TB, name string, n int) []entry {
	t.Helper()
	syncJournal(t)
	// Podman's events have the container's name in the same field; only the
	// monitor's entries have the full id.
	r := finish(t, exec.Command("journalctl", "-q", "-a", "-o", "json", "_COMM=conmon", "CONTAINER_NAME="+name))
	var entries []entry
	for line := range strings.Lines(r.stdout) {
		var e entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("journalctl prints %q: %v", tail(line), err)
		}
		if e.has("CONTAINER_ID_FULL") {
			entries = append(entries, e)
		}
	}
	if len(entries) < n {
		t.Fatalf("%d entries of %s, want %d: %s", len(entries), name, n, r.stderr)
	}
	return entries
}

// syncJournal waits until journald has written what it has been sent.
func syncJournal(t testing.TB) {
	t.Helper()
	if r := finish(t, exec.Command("journalctl", "--sync")); r.code != 0 {
		t.Fatalf("journalctl --sync: %+v", r)
	}
}

func testJournalFields(t *testing.T) {
	p := root()
	tagged, plain := p.name(t), p.name(t)
	for name, options := range map[string][]string{tagged: {"--log-opt", "tag={{.Name}}/tag"}, plain: nil} {
		args := append([]string{"run", "--log-driver", "journald", "--name", name}, options...)
		p.ok(t, append(args, image, "sh", "-c",
			`echo plain; echo error >&2; echo '<4>four'; echo '<7>seven' >&2; echo '<9>nine'; echo`)...)
	}
	// The order over both streams is not certain on a busy machine.
	entries := map[string]entry{}
	for _, e := range journalOf(t, tagged, 5) {
		entries[e.message()] = e
	}
	id := p.inspect(t, tagged, "{{.Id}}")
	for _, c := range []struct{ message, priority string }{
		{"plain", "6"}, {"error", "3"}, {"four", "4"}, {"seven", "7"}, {"<9>nine", "6"},
	} {
		for field, want := range map[string]string{
			"MESSAGE": c.message, "PRIORITY": c.priority, "CONTAINER_ID": id[:12], "CONTAINER_ID_FULL": id, "CONTAINER_NAME": tagged,
			"CONTAINER_TAG": tagged + "/tag", "SYSLOG_IDENTIFIER": tagged + "/tag", "_UID": "0",
		} {
			if got := entries[c.message].get(field); got != want {
				t.Errorf("%s of %q is %q, want %q", field, c.message, got, want)
			}
		}
		if entries[c.message].has("CONTAINER_PARTIAL_MESSAGE") {
			t.Errorf("%q is marked as a piece", c.message)
		}
	}
	for _, e := range journalOf(t, plain, 5) {
		if got := e.get("SYSLOG_IDENTIFIER"); got != plain || e.has("CONTAINER_TAG") && e.get("CONTAINER_TAG") != "" {
			t.Errorf("without a tag: %v", e)
		}
	}
}

// testJournalFlood prints faster than journald reads, which loses nothing: only a
// journald that does not read at all may cost lines.
func testJournalFlood(t *testing.T) {
	p := root()
	name := p.name(t)
	const lines = 50_000
	p.ok(t, "run", "-d", "--log-driver", "journald", "--name", name, image, "sh", "-c", fmt.Sprintf("seq %d; sleep 1000", lines))
	// At the end of a container there is a limit to the time; here is none.
	harness.Eventually(t, "the last line is in the journal", func() bool {
		return p.run(t, "logs", "--tail", "1", name).stdout == fmt.Sprintln(lines)
	})
	var want strings.Builder
	for i := range lines {
		fmt.Fprintln(&want, i+1)
	}
	if got := p.run(t, "logs", name).stdout; got != want.String() {
		t.Errorf("of %d lines podman logs has %d", lines, strings.Count(got, "\n"))
	}
}

// testJournalSizes logs lines that other monitors cut or choke on.
func testJournalSizes(t *testing.T) {
	harness.NeedOurs(t)
	p := root()
	name := p.name(t)
	p.ok(t, "run", "-d", "--log-driver", "journald", "--name", name, image, "sh", "-c",
		`x() { head -c $1 /dev/zero | tr '\0' x; echo; }; x 20000; x 300000; x 1048000; printf 'a\0b\377c\n'; x 3000000; echo end`)
	p.ok(t, "wait", name)
	entries := journalOf(t, name, 6)
	for i, n := range []int{20000, 300000, 1048000} {
		if got := entries[i].message(); got != strings.Repeat("x", n) || entries[i].has("CONTAINER_PARTIAL_MESSAGE") {
			t.Errorf("a line of %d bytes became an entry of %d", n, len(got))
		}
	}
	if got := entries[3].message(); got != "a\x00b\xffc" {
		t.Errorf("a binary line became %q", got)
	}
	var long int
	rest := entries[4:]
	for i, e := range rest[:len(rest)-1] {
		long += len(e.message())
		if last := i == len(rest)-2; last == e.has("CONTAINER_PARTIAL_MESSAGE") {
			t.Errorf("piece %d of a very long line is marked as a piece: %v", i, !last)
		}
	}
	if last := rest[len(rest)-1].message(); long != 3000000 || last != "end" {
		t.Errorf("a line of 3000000 bytes became %d entries with %d bytes, then %q", len(rest)-1, long, last)
	}
	if got := p.run(t, "logs", "--tail", "1", name).stdout; got != "end\n" {
		t.Errorf("podman logs --tail 1: %q", got)
	}
}
