package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"conmon/internal/clock"
	"conmon/internal/poll"
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
		{0, "0 B"}, {999, "999 B"}, {1000, "1.0 kB"}, {9949, "9.9 kB"}, {9951, "10 kB"}, {999_499, "999 kB"},
		{999_500, "1.0 MB"}, {64 << 20, "67 MB"}, {1 << 63, "9.2 EB"},
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
		{0, "0s"}, {59900 * time.Millisecond, "59s"}, {time.Minute, "1m00s"}, {time.Hour + 5*time.Minute, "1h05m"},
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

// serve answers on the status socket in bundle until the test is over.
func serve(t *testing.T, bundle string, answer func(s *status.Server, r status.Request)) {
	t.Helper()
	p, err := poll.New()
	if err != nil {
		t.Fatal(err)
	}
	s, err := status.Listen(bundle, p, 1)
	if err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(stop); <-done; s.Close() })
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			events, _ := p.Wait(clock.Now() + 10*clock.Millisecond)
			for _, ev := range events {
				if r, ok := s.Ready(ev); ok {
					answer(s, r)
				}
			}
		}
	}()
}

func TestAsk(t *testing.T) {
	good, long := t.TempDir(), filepath.Join(t.TempDir(), strings.Repeat("x", 200))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{good, long} {
		serve(t, dir, func(s *status.Server, r status.Request) {
			switch {
			case r.Kind == status.StatusRequest:
				s.Answer(r.Client, snapshot("id", "").AppendJSON(nil))
			case r.Arg == "/bad":
				s.UpgradeFailed("bad: no such file")
			default:
				s.Upgraded("3.0.0" + r.Arg)
			}
		})
	}
	for _, c := range []struct {
		name, dir, binary, text, err string
	}{
		{"default", good, "", "upgraded: version 3.0.0", ""},
		{"long path", long, "", "upgraded: version 3.0.0", ""},
		{"binary", good, "/a b", "upgraded: version 3.0.0/a b", ""},
		{"failure", good, "/bad", "", "monitor in " + good + ": bad: no such file"},
		{"too long", good, "/" + strings.Repeat("x", 5000), "", "monitor in " + good + ": unknown request"},
		{"nobody", "/nonexistent", "", "", "no monitor is running in /nonexistent"},
	} {
		text, err := Upgrade(c.dir, c.binary)
		if text != c.text || err == nil && c.err != "" || err != nil && err.Error() != c.err {
			t.Errorf("%s: %q, %v", c.name, text, err)
		}
	}
	for _, dir := range []string{good, long} {
		if b, err := Status(dir); err != nil || report(t, snapshot("id", "")).ID != "id" || len(b) == 0 {
			t.Errorf("status: %q, %v", b, err)
		}
	}
}

// deadSocket leaves what a killed monitor leaves.
func deadSocket(t *testing.T, bundle string) {
	t.Helper()
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: filepath.Join(bundle, "status"), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
}

func TestStatusAll(t *testing.T) {
	registry := t.TempDir()
	alive, dead, empty := t.TempDir(), t.TempDir(), t.TempDir()
	deadSocket(t, dead)
	serve(t, alive, func(s *status.Server, r status.Request) { s.Answer(r.Client, []byte(`{"schema":1}`)) })
	for uuid, bundle := range map[string]string{"1": alive, "2": dead, "3": empty, "4": "/nonexistent", "5": alive} {
		if err := status.Register(registry, uuid, bundle); err != nil {
			t.Fatal(err)
		}
	}
	// What no monitor made is left alone.
	if err := os.WriteFile(filepath.Join(registry, "README"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		answers, err := StatusAll(registry)
		if err != nil || len(answers) != 2 || answers[0].UUID != "1" || answers[1].UUID != "5" {
			t.Fatalf("%+v, %v", answers, err)
		}
		for _, a := range answers {
			if a.Err != nil || string(a.JSON) != `{"schema":1}` {
				t.Errorf("%s: %s, %v", a.UUID, a.JSON, a.Err)
			}
		}
	}
	if left, _ := os.ReadDir(registry); len(left) != 3 {
		t.Errorf("left: %v", left)
	}
	if answers, err := StatusAll(filepath.Join(registry, "none")); len(answers) != 0 || err != nil {
		t.Errorf("no registry: %v, %v", answers, err)
	}
	if _, err := StatusAll(""); err == nil {
		t.Error("no registry directory and no error")
	}
}

// A monitor that starts between the look and the forgetting stays registered.
func TestForgetSparesTheLiving(t *testing.T) {
	registry, bundle := t.TempDir(), t.TempDir()
	if err := status.Register(registry, "u", bundle); err != nil {
		t.Fatal(err)
	}
	entries, err := Bundles(registry)
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	serve(t, bundle, func(s *status.Server, r status.Request) { s.Answer(r.Client, []byte("{}")) })
	entries[0].Forget()
	if again, err := Bundles(registry); err != nil || len(again) != 1 || again[0] != entries[0] {
		t.Errorf("left: %v, %v", again, err)
	}
	if _, err := Status(t.TempDir()); !errors.Is(err, ErrNoMonitor) {
		t.Errorf("nobody there: %v", err)
	}
}

// A monitor that is stopped must not hang whoever asks.
func TestNoAnswer(t *testing.T) {
	dir := t.TempDir()
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: filepath.Join(dir, "status"), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := ask(dir, "status", 50*time.Millisecond); err == nil || !strings.Contains(err.Error(), "no answer within") {
		t.Errorf("got %v", err)
	}
}
