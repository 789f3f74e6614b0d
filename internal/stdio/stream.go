// Package stdio moves bytes from the container's streams to those who want them.
package stdio

// Stream is one of the container's outputs. The values are those of the attach
// protocol's first byte.
type Stream uint8

// The two streams. A terminal has only Stdout.
const (
	Stdout Stream = 2
	Stderr Stream = 3
)

// String returns the word that the CRI log format uses.
func (s Stream) String() string {
	if s == Stderr {
		return "stderr"
	}
	return "stdout"
}

// Index returns 0 for Stdout and 1 for Stderr, for arrays with an entry each.
func (s Stream) Index() int {
	return int(s - Stdout)
}
