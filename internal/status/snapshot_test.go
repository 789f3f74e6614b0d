package status

import (
	"encoding/json"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// example returns a snapshot in which every field has a value of its own.
func example() *Snapshot {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))
	out := func(n uint64) Outcome {
		return Outcome{Count{n, n + 1}, Count{n + 2, n + 3}, Count{n + 4, n + 5}, Count{n + 6, n + 7}}
	}
	return &Snapshot{
		Time: at.Add(time.Minute), ID: "id", UUID: "uuid", Name: "na\"me\\\n\xff", Bundle: "/b", Exec: true, Terminal: true,
		State: "running", Container: Container{41, at},
		Monitor: Self{42, "2.3.0", "abc", 3, "no such file", Memory{1, 2, 3, 4}},
		Streams: [2]Stream{{Count{50, 51}, Count{52, 53}, true}, {Count{54, 55}, Count{56, 57}, false}},
		Drivers: []Driver{
			{"k8s-file", "/log", [2]Outcome{out(100), out(110)}, 5, 6, 7, "disk full", 8, true},
			{Kind: "journald"},
		},
		Attach: Attach{[]uint64{9, 1, 5}, 2, 60, 61, 62}, OOM: OOM{11, 12, 13},
	}
}

const exampleJSON = `{"schema":1,"time":"2026-01-02T02:05:05.000000006Z","id":"id","uuid":"uuid","name":"na\"me\\\u000a` + "\uFFFD" + `",` +
	`"bundle":"/b","exec":true,"terminal":true,"state":"running",` +
	`"container":{"pid":41,"started":"2026-01-02T02:04:05.000000006Z"},` +
	`"monitor":{"pid":42,"version":"2.3.0","commit":"abc","upgrades":3,"upgrade_error":"no such file",` +
	`"memory":{"rss_bytes":1,"pss_bytes":2,"uss_bytes":3,"anonymous_bytes":4}},` +
	`"streams":{"stdout":{"read":{"bytes":50,"lines":51},"rate_limited":{"bytes":52,"lines":53},"paused":true},` +
	`"stderr":{"read":{"bytes":54,"lines":55},"rate_limited":{"bytes":56,"lines":57},"paused":false}},` +
	`"logs":[{"driver":"k8s-file","path":"/log",` +
	`"stdout":{"written":{"bytes":100,"lines":101},"lost":{"bytes":102,"lines":103},"capped":{"bytes":104,"lines":105},"pending":{"bytes":106,"lines":107}},` +
	`"stderr":{"written":{"bytes":110,"lines":111},"lost":{"bytes":112,"lines":113},"capped":{"bytes":114,"lines":115},"pending":{"bytes":116,"lines":117}},` +
	`"rotations":5,"reopens":6,"errors":7,"last_error":"disk full","restarts":8,"waiting":true},` +
	`{"driver":"journald","path":"",` +
	`"stdout":{"written":{"bytes":0,"lines":0},"lost":{"bytes":0,"lines":0},"capped":{"bytes":0,"lines":0},"pending":{"bytes":0,"lines":0}},` +
	`"stderr":{"written":{"bytes":0,"lines":0},"lost":{"bytes":0,"lines":0},"capped":{"bytes":0,"lines":0},"pending":{"bytes":0,"lines":0}},` +
	`"rotations":0,"reopens":0,"errors":0,"last_error":"","restarts":0,"waiting":false}],` +
	`"attach":{"clients":3,"past_limit":2,"accepted":60,"disconnected":61,"input_bytes":62,"lag_bytes":15,"max_lag_bytes":9,"lags":[9,1,5]},` +
	`"oom":{"events":11,"kills":12,"group_kills":13}}` + "\n"

func TestSnapshotAsJSON(t *testing.T) {
	if got := string(example().AppendJSON(nil)); got != exampleJSON {
		t.Errorf("got\n%s\nwant\n%s", got, exampleJSON)
	}
	if got := string(new(Snapshot).AppendJSON([]byte("before "))); !strings.HasPrefix(got, `before {"schema":1,"time":null,`) {
		t.Errorf("appended to something: %s", got)
	}
}

// What is said to be stable has to be written down.
func TestEveryFieldIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/status.json.md")
	if err != nil {
		t.Fatal(err)
	}
	var top any
	if err := json.Unmarshal(example().AppendJSON(nil), &top); err != nil {
		t.Fatal(err)
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, inner := range v {
				if !strings.Contains(string(doc), "`"+name+"`") {
					t.Errorf("%q is not documented", name)
				}
				walk(inner)
			}
		case []any:
			for _, inner := range v {
				walk(inner)
			}
		}
	}
	walk(top)
}

func TestSnapshotParsesWithJq(t *testing.T) {
	jq, err := exec.LookPath("jq")
	if err != nil {
		t.Skip("jq is not installed")
	}
	cmd := exec.Command(jq, "-r", "[.schema, .monitor.pid, .logs[0].stderr.lost.lines, (.attach.lags|add)] | @tsv")
	cmd.Stdin = strings.NewReader(string(example().AppendJSON(nil)))
	out, err := cmd.CombinedOutput()
	if want := "1\t42\t113\t15\n"; err != nil || string(out) != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
}

func TestSnapshotIsBounded(t *testing.T) {
	s := example()
	s.Attach.Lags = make([]uint64, 10000)
	for i := range s.Attach.Lags {
		s.Attach.Lags[i] = 1 << 40
	}
	s.Monitor.UpgradeError = strings.Repeat("\x00", 1<<20)
	s.Drivers[0].LastError = s.Monitor.UpgradeError
	if n := len(s.AppendJSON(nil)); n > 16<<10 {
		t.Errorf("%d bytes", n)
	}
	var v struct {
		Attach struct {
			Clients int
			Lags    []uint64
		}
	}
	if err := json.Unmarshal(s.AppendJSON(nil), &v); err != nil || v.Attach.Clients != 10000 || len(v.Attach.Lags) != maxLags {
		t.Errorf("got %v, %d clients, %d lags", err, v.Attach.Clients, len(v.Attach.Lags))
	}
}

func TestSnapshotAllocatesNothing(t *testing.T) {
	s, b := example(), make([]byte, 0, 8<<10)
	if n := testing.AllocsPerRun(100, func() { b = s.AppendJSON(b[:0]) }); n > 0 {
		t.Errorf("AppendJSON: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { OwnMemory() }); n > 2 { // the path's C form
		t.Errorf("OwnMemory: %v allocations", n)
	}
}

func FuzzQuoted(f *testing.F) {
	for _, s := range []string{"", "plain", "\"\\\n\t\x00\x7f", "\xff\xfe", "ä€𝄞\u2028", "\xe2\x82"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		if err := json.Unmarshal(appendQuoted(nil, s), &got); err != nil {
			t.Fatal(err)
		}
		if want := strings.ToValidUTF8(s, "\uFFFD"); utf8.ValidString(s) && got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestParseRollup(t *testing.T) {
	const real = "55d0-7ffd ---p 00000000 00:00 0   [rollup]\nRss:      1856 kB\nPss:       700 kB\nPss_Anon:  10 kB\n" +
		"Shared_Clean: 1 kB\nPrivate_Clean:  100 kB\nPrivate_Dirty:   96 kB\nAnonymous:    4 kB\n"
	for _, c := range []struct {
		name, in string
		want     Memory
	}{
		{"real", real, Memory{1856 << 10, 700 << 10, 196 << 10, 4 << 10}},
		{"empty", "", Memory{}},
		{"cut", "Rss: 12 kB\nPss: 1", Memory{RSS: 12 << 10}},
		{"no number", "Rss: x kB\nPss:  kB\nAnonymous: -1 kB\n", Memory{}},
		{"absurd", "Rss: 99999999999999999999 kB\n", Memory{}},
	} {
		if got := parseRollup([]byte(c.in)); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
	if m := OwnMemory(); m.RSS == 0 || m.USS > m.RSS {
		t.Errorf("own memory %+v", m)
	}
}
