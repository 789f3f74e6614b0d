package logging

import (
	"bytes"
	"encoding/binary"

	"conmon/internal/config"
)

// The journal's priorities of the two streams: info and err. Podman tells the
// streams apart by them.
const (
	priorityStdout = '6'
	priorityStderr = '3'
)

// shortID is how much of a container id is shown to people.
const shortID = 12

// journalFields are the fields that all entries of a container have.
func journalFields(c *config.Config) []byte {
	short := c.CID[:min(len(c.CID), shortID)]
	var b []byte
	b = appendField(b, "CONTAINER_ID_FULL", c.CID)
	b = appendField(b, "CONTAINER_ID", short)
	identifier := short
	if c.Name != "" {
		b = appendField(b, "CONTAINER_NAME", c.Name)
		identifier = c.Name
	}
	if c.Log.Tag != "" {
		b = appendField(b, "CONTAINER_TAG", c.Log.Tag)
		identifier = c.Log.Tag
	}
	b = appendField(b, "SYSLOG_IDENTIFIER", identifier)
	for _, label := range c.Log.Labels {
		for i := range len(label) {
			if label[i] == '=' {
				b = appendField(b, label[:i], label[i+1:])
				break
			}
		}
	}
	return b
}

// appendField appends a field in the journal's native format; its short form
// ends at the first newline.
func appendField(b []byte, name, value string) []byte {
	if bytes.IndexByte([]byte(value), '\n') >= 0 {
		return appendBinary(b, name, []byte(value), nil)
	}
	b = append(append(b, name...), '=')
	return append(append(b, value...), '\n')
}

// appendBinary appends a field whose value, in two parts, may be anything.
func appendBinary(b []byte, name string, head, tail []byte) []byte {
	b = append(append(b, name...), '\n')
	b = binary.LittleEndian.AppendUint64(b, uint64(len(head)+len(tail)))
	b = append(append(b, head...), tail...)
	return append(b, '\n')
}

const (
	fieldPriority = "PRIORITY="
	fieldPartial  = "CONTAINER_PARTIAL_MESSAGE=true\n"
	fieldMessage  = "MESSAGE"
	// entryFixed is what an entry has besides its fixed fields and its text.
	entryFixed = len(fieldPriority) + 2 + len(fieldPartial) + len(fieldMessage) + 1 + 8 + 1
)

// appendEntry appends one journal entry with the text of r.
func appendEntry(b, fixed []byte, priority byte, partial bool, r record) []byte {
	b = append(b, fixed...)
	b = append(append(b, fieldPriority...), priority, '\n')
	if partial {
		b = append(b, fieldPartial...)
	}
	return appendBinary(b, fieldMessage, r.head, r.tail)
}

// cutPriority takes a leading "<0>" to "<7>" off a line; without one the line
// has the priority other.
func cutPriority(r record, other byte) (record, byte) {
	const n = len("<0>")
	var mark [n]byte
	head := copy(mark[:], r.head)
	if copy(mark[head:], r.tail)+head < n || mark[0] != '<' || mark[2] != '>' || mark[1] < '0' || mark[1] > '7' {
		return r, other
	}
	r.head = r.head[head:]
	r.tail = r.tail[n-head:]
	return r, mark[1]
}
