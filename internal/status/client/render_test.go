package client

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"conmon/internal/status"
)

// snapshot returns what a monitor would say about a container.
func snapshot(id, name string) *status.Snapshot {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	c := func(n uint64) status.Count { return status.Count{Bytes: n * 1000, Lines: n} }
	return &status.Snapshot{
		Time: at.Add(90 * time.Minute), ID: id, UUID: "u-" + id, Name: name, Bundle: "/bundle", State: "running",
		Container: status.Container{PID: 41, Started: at},
		Monitor: status.Self{
			PID: 42, Version: "2.3.0", Upgrades: 3, UpgradeError: "no such file",
			Memory: status.Memory{RSS: 1 << 20, PSS: 4, USS: 400 << 10, Anonymous: 300 << 10},
		},
		Streams: [2]status.Stream{{Read: c(50), RateLimited: c(2), Paused: true}, {Read: c(5)}},
		Drivers: []status.Driver{
			{
				Kind: "k8s-file", Path: "/log", Rotations: 5, Reopens: 6, Errors: 7, LastError: "disk full", Restarts: 8, Waiting: true,
				Streams: [2]status.Outcome{{Written: c(40), Lost: c(3), Capped: c(4), Pending: c(1)}, {Written: c(5)}},
			},
			{Kind: "journald"},
		},
		Attach: status.Attach{Lags: []uint64{9000, 1000}, PastLimit: 1, Accepted: 4, Disconnected: 1, Input: 12},
		OOM:    status.OOM{Events: 11, Kills: 12, GroupKills: 13},
	}
}

func report(t *testing.T, s *status.Snapshot) *Report {
	t.Helper()
	r, err := Parse(s.AppendJSON(nil))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Nothing that a monitor says is lost on the way, except for the single lags.
func TestParse(t *testing.T) {
	answer := snapshot("id", "name").AppendJSON(nil)
	r, err := Parse(answer)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(strings.TrimSpace(string(answer)), `,"lags":[9000,1000]`, "", 1)
	if string(b) != want {
		t.Errorf("got\n%s\nwant\n%s", b, want)
	}
	for _, bad := range []string{"", "{", `{"schema":2}`, `{"schema":"1"}`} {
		if _, err := Parse([]byte(bad)); err == nil {
			t.Errorf("%q was parsed", bad)
		}
	}
}

const wantText = `container  id (na` + "\uFFFD" + `me)
bundle     /bundle
state      running, pid 41, for 1h30m
monitor    pid 42, version 2.3.0, upgraded 3 times; last attempt: no such file
memory     1.0 MB resident, 410 kB of it its own, 307 kB anonymous
stdout     50 kB in 50 lines read, 2.0 kB in 2 lines over the rate limit dropped, paused until there is room
stderr     5.0 kB in 5 lines read
log        k8s-file:/log
           45 kB in 45 lines written, 3.0 kB in 3 lines lost, 4.0 kB in 4 lines left out at the global limit, 1.0 kB in 1 line pending, 5 rotations, 6 reopenings, 8 restarts, 7 errors, waiting for its target
           last error: disk full
log        journald
           0 B in 0 lines written
attach     2 clients, 4 so far, 1 dropped for lagging, 12 B of input, 10 kB behind, the last of them 9.0 kB, 1 past the backlog
oom        11 events, 12 processes killed, 13 groups killed
`

func TestText(t *testing.T) {
	var b bytes.Buffer
	if err := WriteText(&b, report(t, snapshot("id", "na\x1bme"))); err != nil || b.String() != wantText {
		t.Errorf("%v, got\n%s\nwant\n%s", err, b.String(), wantText)
	}
}

func TestTable(t *testing.T) {
	session, young := snapshot("2", ""), snapshot("3", "new")
	session.Exec = true
	young.State, young.Container = "creating", status.Container{}
	var b bytes.Buffer
	err := WriteTable(&b, []*Report{report(t, snapshot("0123456789abcdef", "web")), report(t, session), report(t, young)})
	const want = `ID            NAME  PID  STATE         UP     LOGGED  LOST
0123456789ab  web   41   running       1h30m  45 kB   5.0 kB
u-2           -     41   exec running  1h30m  45 kB   5.0 kB
3             new   -    creating      0s     45 kB   5.0 kB
`
	if err != nil || b.String() != want {
		t.Errorf("%v, got\n%s\nwant\n%s", err, b.String(), want)
	}
}

func TestSize(t *testing.T) {
	for _, c := range []struct {
		n    uint64
		want string
	}{
		{0, "0 B"},
		{999, "999 B"},
		{1000, "1.0 kB"},
		{9949, "9.9 kB"},
		{9951, "10 kB"},
		{999_499, "999 kB"},
		{999_500, "1.0 MB"},
		{64 << 20, "67 MB"},
		{1 << 63, "9.2 EB"},
	} {
		if got := size(c.n); got != c.want {
			t.Errorf("%d: %q, want %q", c.n, got, c.want)
		}
	}
}

func TestAge(t *testing.T) {
	for _, c := range []struct {
		d    time.Duration
		want string
	}{
		{0, "0s"},
		{59900 * time.Millisecond, "59s"},
		{time.Minute, "1m00s"},
		{time.Hour + 5*time.Minute, "1h05m"},
		{49 * time.Hour, "2d01h"},
	} {
		if got := age(c.d); got != c.want {
			t.Errorf("%v: %q, want %q", c.d, got, c.want)
		}
	}
}

func TestPrometheus(t *testing.T) {
	young := snapshot("3", "quo\"te\\\n")
	young.Container = status.Container{}
	var b bytes.Buffer
	if err := WritePrometheus(&b, []*Report{report(t, snapshot("1", "a")), report(t, young)}); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for _, line := range []string{
		`conmon_monitor_info{id="1",uuid="u-1",name="a",version="2.3.0",state="running",exec="false"} 1`,
		`conmon_container_start_time_seconds{id="1",uuid="u-1",name="a"} 1767323045`,
		`conmon_read_bytes_total{id="3",uuid="u-3",name="quo\"te\\\n",stream="stdout"} 50000`,
		`conmon_log_lost_lines_total{id="1",uuid="u-1",name="a",log="0",driver="k8s-file",path="/log",stream="stdout"} 3`,
		`conmon_attach_lag_bytes{id="1",uuid="u-1",name="a"} 10000`,
	} {
		if strings.Count(text, line+"\n") != 1 {
			t.Errorf("not once: %s", line)
		}
	}
	if n := strings.Count(text, "# TYPE conmon_oom_kills_total counter\n"); n != 1 {
		t.Errorf("one type for all monitors, got %d", n)
	}
	if strings.Contains(text, `conmon_container_start_time_seconds{id="3"`) {
		t.Error("a start time of what has not started")
	}
	promtool(t, text)
	var none bytes.Buffer
	if err := WritePrometheus(&none, nil); err != nil || none.Len() != 0 {
		t.Errorf("of no monitor: %v, %q", err, none.String())
	}
}

func promtool(t *testing.T, text string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Log("promtool is not installed")
		return
	}
	cmd := exec.Command(path, "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}
