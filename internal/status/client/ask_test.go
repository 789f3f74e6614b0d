package client

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"conmon/internal/clock"
	"conmon/internal/poll"
	"conmon/internal/status"
)

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
