package client

import (
	"bytes"
	"fmt"
	"strings"
)

// ParseKeys understands keys as docker and Podman write them: characters and
// ctrl- with a letter or one of @ [ \ ] ^ _, separated by commas. No keys at all
// mean that nothing detaches.
func ParseKeys(s string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	var keys []byte
	for word := range strings.SplitSeq(s, ",") {
		key, err := parseKey(word)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func parseKey(word string) (byte, error) {
	if len(word) == 1 {
		return word[0], nil
	}
	if word == "DEL" {
		return 0x7f, nil
	}
	if name, ok := strings.CutPrefix(word, "ctrl-"); ok && len(name) == 1 {
		c := name[0]
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		// The control characters are the columns of ASCII from @ to _.
		if '@' <= c && c <= '_' {
			return c - '@', nil
		}
	}
	return 0, fmt.Errorf("detach key %q is neither a character nor ctrl- with a letter or one of @[\\]^_", word)
}

// scanner looks for the detach keys in what is typed. Keys that may turn out to
// be the beginning of them are held back until it is clear.
type scanner struct {
	keys []byte // none: nothing is looked for
	held int    // how many of keys were typed
}

// scan appends to out what is to be sent of b. It reports whether the keys are
// complete; what follows them is dropped.
func (s *scanner) scan(out, b []byte) ([]byte, bool) {
	if len(s.keys) == 0 {
		return append(out, b...), false
	}
	for _, c := range b {
		for s.held > 0 && s.keys[s.held] != c {
			out = s.release(out)
		}
		if s.keys[s.held] != c {
			out = append(out, c)
			continue
		}
		if s.held++; s.held == len(s.keys) {
			s.held = 0
			return out, true
		}
	}
	return out, false
}

// release appends as much of what is held to out as cannot begin the keys any
// more: the rest may be a shorter beginning of them.
func (s *scanner) release(out []byte) []byte {
	shorter := s.held - 1
	for !bytes.HasSuffix(s.keys[:s.held], s.keys[:shorter]) {
		shorter--
	}
	out = append(out, s.keys[:s.held-shorter]...)
	s.held = shorter
	return out
}

// rest appends what is held to out, when nothing follows.
func (s *scanner) rest(out []byte) []byte {
	out = append(out, s.keys[:s.held]...)
	s.held = 0
	return out
}
