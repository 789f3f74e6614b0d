package exitfile

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestAppendStatus(t *testing.T) {
	for status, want := range map[int]string{0: "0", 7: "7", 137: "137", 255: "255", -1: "-1"} {
		e := Exit{Status: status}
		if got := string(e.AppendStatus(nil)); got != want {
			t.Errorf("%d: %q", status, got)
		}
	}
}

func TestAppendJSON(t *testing.T) {
	zone := time.FixedZone("", 2*3600)
	e := Exit{
		ID: "c1", Status: 137, Signal: 9, Core: true, OOM: true, TimedOut: true, Reason: "because",
		Started:     time.Date(2026, 1, 2, 3, 4, 5, 6, zone),
		Finished:    time.Date(2026, 1, 2, 3, 4, 6, 700_000_000, time.UTC),
		BytesLogged: 1, LinesLogged: 2, BytesLost: 3, LinesLost: 4,
	}
	want := `{"schema":1,"id":"c1","status":137,"signal":9,"core":true,"oom":true,"timed_out":true,` +
		`"reason":"because","started":"2026-01-02T01:04:05.000000006Z","finished":"2026-01-02T03:04:06.7Z",` +
		`"bytes_logged":1,"lines_logged":2,"bytes_lost":3,"lines_lost":4}` + "\n"
	if got := string(e.AppendJSON(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	want = `{"schema":1,"id":"","status":0,"signal":0,"core":false,"oom":false,"timed_out":false,` +
		`"reason":"exited","started":null,"finished":null,` +
		`"bytes_logged":0,"lines_logged":0,"bytes_lost":0,"lines_lost":0}` + "\n"
	if got := string(new(Exit).AppendJSON(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestReason(t *testing.T) {
	for _, c := range []struct {
		e    Exit
		want string
	}{
		{Exit{}, "exited"},
		{Exit{Status: 3}, "exited"},
		{Exit{Status: 143, Signal: 15}, "killed by signal 15"},
		{Exit{Status: -1}, "exit status unknown"},
		{Exit{Status: -1, TimedOut: true}, "killed after its time limit"},
		{Exit{Status: -1, Reason: "not our child"}, "not our child"},
	} {
		if got := c.e.reason(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.e, got, c.want)
		}
	}
}

func FuzzAppendJSON(f *testing.F) {
	f.Add("c1", "because", 0, int64(0))
	f.Add("a\"b\\\n\x00\x7f\xff\u2028", "\xed\xa0\x80", -1, int64(1_000_000_007))
	f.Fuzz(func(t *testing.T, id, reason string, status int, ns int64) {
		e := Exit{ID: id, Reason: reason, Status: status, Finished: time.Unix(0, ns).UTC()}
		b := e.AppendJSON(nil)
		var got struct {
			ID, Reason string
			Status     int
			Finished   time.Time
		}
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		if !utf8.Valid(b) || strings.Count(string(b), "\n") != 1 {
			t.Errorf("not one line of UTF-8: %q", b)
		}
		if want := string([]rune(id)); got.ID != want || got.Status != status || !got.Finished.Equal(e.Finished) {
			t.Errorf("%q became %+v", id, got)
		}
		if want := string([]rune(reason)); reason != "" && got.Reason != want {
			t.Errorf("%q became %q", reason, got.Reason)
		}
	})
}
