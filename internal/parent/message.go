package parent

import (
	"strconv"
	"unicode/utf8"
)

// maxMessage is the largest message, newline included: Podman reads its socket
// through a buffer of this size.
const maxMessage = 4096

// Protocol is what decides a message's key.
type Protocol struct {
	API  int  // 0 or 1
	Exec bool // an exec session
}

// Created announces the container's (or, from API 1 on, the exec session's)
// pid. It returns nil where the protocol has no such message.
func (p Protocol) Created(pid int) []byte {
	if p.Exec && p.API == 0 {
		return nil
	}
	return encode(p.key(false), pid, "")
}

// Failed announces that there is no container, and why.
func (p Protocol) Failed(reason string) []byte { return encode(p.key(true), -1, reason) }

// Ended announces the end of an exec session; a container's monitor sends
// nothing.
func (p Protocol) Ended(status int, reason string) []byte {
	if !p.Exec {
		return nil
	}
	return encode(p.key(true), status, reason)
}

// key returns the name of the message's number: API 1 has one for all, API 0
// tells pids from exit codes.
func (p Protocol) key(end bool) string {
	switch {
	case p.API > 0:
		return "data"
	case p.Exec && end:
		return "exit_code"
	}
	return "pid"
}

func encode(key string, n int, message string) []byte {
	b := append(make([]byte, 0, 64), `{"`...)
	b = append(append(b, key...), `": `...)
	b = strconv.AppendInt(b, int64(n), 10)
	if message != "" {
		b = append(b, `, "message": "`...)
		b = appendEscaped(b, message, maxMessage-len("\"}\n"))
		b = append(b, '"')
	}
	return append(b, "}\n"...)
}

// appendEscaped appends s as the inside of a JSON string, cut so that b does
// not grow beyond limit.
func appendEscaped(b []byte, s string, limit int) []byte {
	const hex = "0123456789abcdef"
	for _, r := range s {
		var one [12]byte
		var e []byte
		switch {
		case r == '"' || r == '\\':
			e = append(one[:0], '\\', byte(r))
		case r == '\n':
			e = append(one[:0], `\n`...)
		case r == '\r':
			e = append(one[:0], `\r`...)
		case r == '\t':
			e = append(one[:0], `\t`...)
		case r < 0x20 || r == 0x7f:
			e = append(one[:0], '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default: // invalid bytes arrive as U+FFFD
			e = utf8.AppendRune(one[:0], r)
		}
		if len(b)+len(e) > limit {
			return b
		}
		b = append(b, e...)
	}
	return b
}

// AttachReady announces, on the attach pipe, that clients are accepted.
func (p Protocol) AttachReady() []byte { return encode("data", 0, "") }
