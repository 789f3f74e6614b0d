package handoff

import (
	"bytes"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestStateRoundTrip(t *testing.T) {
	var s State
	s.PutString("text", "a\n\x00ü")
	s.PutString("empty", "")
	s.PutBytes("bytes", []byte{0, 255})
	s.PutInt("int", -1<<63)
	s.PutBool("yes", true)
	s.PutBool("no", false)
	s.PutStrings("list", []string{"", "b", ""})
	s.PutStrings("none", nil)
	s.PutFD("fd", 7)
	s.PutFD("nofd", -1)

	got, err := Decode(s.Encode(nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key       string
		got, want any
	}{
		{"text", got.String("text"), "a\n\x00ü"},
		{"empty", got.String("empty"), ""},
		{"bytes", got.Bytes("bytes"), []byte{0, 255}},
		{"int", got.Int("int"), int64(-1 << 63)},
		{"yes", got.Bool("yes"), true},
		{"no", got.Bool("no"), false},
		{"list", got.Strings("list"), []string{"", "b", ""}},
		{"none", got.Strings("none"), []string(nil)},
		{"fd", got.FD("fd"), 7},
		{"nofd", got.FD("nofd"), -1},
		{"never put", got.Int("never put"), int64(0)},
		{"descriptors", s.FDs(), []int{7}},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: %#v, want %#v", c.key, c.got, c.want)
		}
	}
}

func TestPutBytesCopies(t *testing.T) {
	var s State
	b := []byte("before")
	s.PutBytes("key", b)
	copy(b, "after!")
	if got := s.String("key"); got != "before" {
		t.Errorf("the state changed with the caller's buffer: %q", got)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"":                             "not a monitor's state",
		"conmon state":                 "not a monitor's state",
		"conmon state 1":               "not a monitor's state",
		"conmon state x\n":             "not a monitor's state",
		"docker state 1\n":             "not a monitor's state",
		"conmon state 2\n":             "state format 2, this version reads 1",
		"conmon state 1\n\x05ab":       "cut off in a name",
		"conmon state 1\n\x01a":        `cut off in the value of "a"`,
		"conmon state 1\n\x01a\x02b":   `cut off in the value of "a"`,
		"conmon state 1\n\xff\xff\xff": "cut off in a name",
	} {
		if _, err := Decode([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Decode(%q): %v, want %q", in, err, want)
		}
	}
}

// The first value under a key is the one that counts, also after another Put,
// and lists keep the order in which they were put, whatever lies in between.
func TestSameKey(t *testing.T) {
	var s State
	for i := range 100 {
		s.PutInt("list", int64(i))
		s.PutInt(strconv.Itoa(i*7919%100), int64(i))
		if got := s.Int("list"); got != 0 {
			t.Fatalf("the first value became %d", got)
		}
	}
	for i, v := range s.Strings("list") {
		if v != strconv.Itoa(i) {
			t.Fatalf("value %d is %s", i, v)
		}
	}
	for i := range 100 {
		if got := s.Int(strconv.Itoa(i * 7919 % 100)); got != int64(i) {
			t.Errorf("%d, want %d", got, i)
		}
	}
}

// Thousands of clients are taken over as fast as a few, each: what is there as
// well as what is not.
func TestManyKeys(t *testing.T) {
	const many = 100_000
	var s State
	for i := range many {
		s.PutFD("client."+strconv.Itoa(i)+".fd", i)
	}
	got, err := Decode(s.Encode(nil))
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	for i := range many {
		key := "client." + strconv.Itoa(i)
		if fd := got.FD(key + ".fd"); fd != i || got.Bool(key+".paused") {
			t.Fatalf("client %d has descriptor %d", i, fd)
		}
	}
	// One by one, it would be ten thousand million comparisons.
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
}

// Whatever Decode accepts means the same after another round; nothing that is
// handed to it makes it panic or read outside.
func FuzzDecode(f *testing.F) {
	var s State
	s.PutString("a.b", "value")
	s.PutFD("fd", 3)
	f.Add(s.Encode(nil))
	f.Add([]byte("conmon state 1\n"))
	f.Add([]byte("conmon state 1\n\x01a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Add([]byte("conmon state 99\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		first, err := Decode(in)
		if err != nil {
			return
		}
		second, err := Decode(first.Encode(nil))
		if err != nil {
			t.Fatalf("decode what was encoded: %v", err)
		}
		if len(first.entries) != len(second.entries) {
			t.Fatalf("%d values, then %d", len(first.entries), len(second.entries))
		}
		for i, e := range first.entries {
			if o := second.entries[i]; !bytes.Equal(e.key, o.key) || !bytes.Equal(e.value, o.value) {
				t.Fatalf("value %d: %q=%q, then %q=%q", i, e.key, e.value, o.key, o.value)
			}
		}
	})
}
