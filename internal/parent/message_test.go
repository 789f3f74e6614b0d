package parent

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
)

func TestMessages(t *testing.T) {
	for _, tc := range []struct {
		name string
		got  []byte
		want string
	}{
		{"created, API 0", Protocol{}.Created(42), `{"pid": 42}`},
		{"created, API 1", Protocol{API: 1}.Created(42), `{"data": 42}`},
		{"create failed, API 0", Protocol{}.Failed("no"), `{"pid": -1, "message": "no"}`},
		{"create failed, API 1", Protocol{API: 1}.Failed("no"), `{"data": -1, "message": "no"}`},
		{"exec started, API 0", Protocol{Exec: true}.Created(42), ""},
		{"exec started, API 1", Protocol{API: 1, Exec: true}.Created(42), `{"data": 42}`},
		{"exec failed, API 0", Protocol{Exec: true}.Failed("no"), `{"exit_code": -1, "message": "no"}`},
		{"exec failed, API 1", Protocol{API: 1, Exec: true}.Failed("no"), `{"data": -1, "message": "no"}`},
		{"exec ended, API 0", Protocol{Exec: true}.Ended(3, ""), `{"exit_code": 3}`},
		{"exec ended, API 1", Protocol{API: 1, Exec: true}.Ended(3, ""), `{"data": 3}`},
		{"exec timed out", Protocol{Exec: true}.Ended(-1, "command timed out"), `{"exit_code": -1, "message": "command timed out"}`},
		{"container ended", Protocol{}.Ended(3, ""), ""},
		{"attach is ready", Protocol{API: 1, Exec: true}.AttachReady(), `{"data": 0}`},
		{"escapes", Protocol{API: 1}.Failed("a\"b\\c\n\x01\xff"), `{"data": -1, "message": "a\"b\\c\n\u0001` + "\uFFFD" + `"}`},
	} {
		want := tc.want
		if want != "" {
			want += "\n"
		}
		if string(tc.got) != want {
			t.Errorf("%s: %q, want %q", tc.name, tc.got, want)
		}
	}
}

func FuzzFailed(f *testing.F) {
	f.Add("runc: it failed\n")
	f.Add(strings.Repeat("\"\\\x00é", 2000))
	f.Fuzz(func(t *testing.T, reason string) {
		b := Protocol{API: 1}.Failed(reason)
		if len(b) > maxMessage {
			t.Fatalf("%d bytes", len(b))
		}
		var v struct {
			Data    int
			Message string
		}
		if err := json.Unmarshal(b, &v); err != nil || v.Data != -1 {
			t.Fatalf("%q: %v", b, err)
		}
		if !strings.HasPrefix(strings.ToValidUTF8(reason, "\uFFFD"), v.Message) && !strings.Contains(v.Message, "\uFFFD") {
			t.Fatalf("%q is not the beginning of %q", v.Message, reason)
		}
	})
}

func TestSendToNobody(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	if err := Send(int(w.Fd()), []byte("{}\n"), clock.Now()+clock.Second); err != nil {
		t.Error(err)
	}
}

func TestSendToAFullPipeGivesUp(t *testing.T) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	for {
		if _, err := unix.Write(p[1], make([]byte, 4096)); err != nil {
			break
		}
	}
	if err := Send(p[1], []byte("{}\n"), clock.Now()+20*clock.Millisecond); err == nil {
		t.Error("sent to a full pipe")
	}
}
