package exitfile

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// Exit is what is known of a container's, or an exec session's, end.
type Exit struct {
	ID       string // the container's id, which names the file in the exit dir
	Status   int    // 0 to 255, 128 plus the signal's number, -1: unknown or timed out
	Signal   int    // what killed it, 0: nothing
	Core     bool   // it left a core dump
	OOM      bool   // the container ran out of memory, whether or not it died of it
	TimedOut bool   // killed for its time limit
	Reason   string // for people; "" has one made of the rest
	Started  time.Time
	Finished time.Time // either may be zero: not known

	BytesLogged, LinesLogged int64 // of the container's output
	BytesLost, LinesLost     int64 // not logged: the device was full, a limit, the end came first
}

// schema is the version of exit.json's meaning. New members do not change it.
const schema = 1

// AppendStatus appends the content of an exit file: the status in decimal and
// nothing else, as Podman converts the whole file.
func (e *Exit) AppendStatus(b []byte) []byte { return strconv.AppendInt(b, int64(e.Status), 10) }

// AppendJSON appends the content of exit.json, one line, as documented in
// docs/exit.json.md. Every member is always there.
func (e *Exit) AppendJSON(b []byte) []byte {
	b = append(b, `{"schema":`...)
	b = strconv.AppendInt(b, schema, 10)
	b = appendString(appendKey(b, "id"), e.ID)
	b = appendNumber(b, "status", int64(e.Status))
	b = appendNumber(b, "signal", int64(e.Signal))
	b = appendBool(b, "core", e.Core)
	b = appendBool(b, "oom", e.OOM)
	b = appendBool(b, "timed_out", e.TimedOut)
	b = appendString(appendKey(b, "reason"), e.reason())
	b = appendTime(b, "started", e.Started)
	b = appendTime(b, "finished", e.Finished)
	b = appendNumber(b, "bytes_logged", e.BytesLogged)
	b = appendNumber(b, "lines_logged", e.LinesLogged)
	b = appendNumber(b, "bytes_lost", e.BytesLost)
	b = appendNumber(b, "lines_lost", e.LinesLost)
	return append(b, '}', '\n')
}

// reason never is empty: an unknown status above all needs one.
func (e *Exit) reason() string {
	switch {
	case e.Reason != "":
		return e.Reason
	case e.TimedOut:
		return "killed after its time limit"
	case e.Status < 0:
		return "exit status unknown"
	case e.Signal != 0:
		return "killed by signal " + strconv.Itoa(e.Signal)
	}
	return "exited"
}

func appendKey(b []byte, key string) []byte {
	b = append(b, ',', '"')
	b = append(b, key...)
	return append(b, '"', ':')
}

func appendNumber(b []byte, key string, n int64) []byte {
	return strconv.AppendInt(appendKey(b, key), n, 10)
}

func appendBool(b []byte, key string, v bool) []byte {
	return strconv.AppendBool(appendKey(b, key), v)
}

// appendTime writes RFC 3339 with nanoseconds in UTC, as status does (the local
// zone is a file that may have to be read first), null for a time that is not
// known.
func appendTime(b []byte, key string, t time.Time) []byte {
	b = appendKey(b, key)
	if t.IsZero() {
		return append(b, "null"...)
	}
	b = t.UTC().AppendFormat(append(b, '"'), time.RFC3339Nano)
	return append(b, '"')
}

// appendString writes s as a JSON string. encoding/json would cost the monitor
// more memory than all of its own state. What is not UTF-8, which JSON cannot
// hold, becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s { // invalid bytes come as U+FFFD, one each
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, '\\', 'n')
		case r < ' ' || r == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&0xf])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
