package ctl

import "strconv"

// Kind says what a line on a control fifo asks for.
type Kind uint8

// The kinds of Command.
const (
	// Malformed stands for a line that asks for nothing; Command.Problem says why.
	Malformed Kind = iota
	// Resize gives the terminal Command.Height rows and Command.Width columns.
	Resize
	// Reopen opens the log files again at their paths.
	Reopen
	// Upgrade re-executes the monitor's binary in place.
	Upgrade
)

// Command is what one line said.
type Command struct {
	Kind          Kind
	Height, Width uint16
	Problem       string // of a Malformed line, for a warning
}

const (
	// maxLine is the length, without the newline, from which a line is discarded
	// whole: with it, it would not fit into the 200 bytes that conmon reads.
	maxLine = 199
	// maxSize bounds the two numbers after the command. It holds for commands
	// that ignore them too, so that garbage is not mistaken for a reopen.
	maxSize = 1000
)

// The fifos' lines: `ctl` has a command before the two numbers, `winsz` has not.
const (
	ctlNumbers   = 3
	winszNumbers = 2
)

// Parser cuts what arrives on one fifo into lines and understands them. Pieces
// of a line may arrive in any number of reads.
type Parser struct {
	numbers int // on a line
	n       int // bytes of the unfinished line in line; maxLine: it is too long
	line    [maxLine]byte
}

// NewCtlParser returns a parser for the lines of `ctl`: COMMAND HEIGHT WIDTH.
func NewCtlParser() Parser { return Parser{numbers: ctlNumbers} }

// NewWinszParser returns a parser for the lines of `winsz`: HEIGHT WIDTH.
func NewWinszParser() Parser { return Parser{numbers: winszNumbers} }

// Feed appends to out what the lines completed by b say.
func (p *Parser) Feed(b []byte, out []Command) []Command {
	for _, c := range b {
		switch {
		case c == '\n':
			out = append(out, p.finish())
			p.n = 0
		case p.n < maxLine:
			// A line that reaches maxLine stays that long until its newline.
			p.line[p.n] = c
			p.n++
		}
	}
	return out
}

// Pending returns the unfinished line, for the live upgrade.
func (p *Parser) Pending() []byte { return p.line[:p.n] }

// Restore makes b, from another Parser's Pending, the unfinished line.
func (p *Parser) Restore(b []byte) { p.n = copy(p.line[:], b) }

func (p *Parser) finish() Command {
	if p.n == maxLine {
		return Command{Problem: "line of " + strconv.Itoa(maxLine+1) + " bytes or more"}
	}
	line := p.line[:p.n]
	var v [ctlNumbers]int
	numbers := v[ctlNumbers-p.numbers:]
	rest := line
	for i := range numbers {
		var ok bool
		if numbers[i], rest, ok = number(rest); !ok {
			return malformed(line, p.numbers)
		}
	}
	if v[1] > maxSize || v[2] > maxSize {
		return Command{Problem: "size out of range in " + quote(line)}
	}
	kind := Resize
	if p.numbers == ctlNumbers {
		switch v[0] {
		case 1:
		case 2:
			kind = Reopen
		case 3:
			kind = Upgrade
		default:
			return Command{Problem: "unknown command in " + quote(line)}
		}
	}
	return Command{Kind: kind, Height: uint16(v[1]), Width: uint16(v[2])}
}

func malformed(line []byte, numbers int) Command {
	return Command{Problem: quote(line) + " does not start with " + strconv.Itoa(numbers) + " decimal numbers"}
}

// quote makes a line that anybody may have written harmless for a log.
func quote(line []byte) string { return strconv.Quote(string(line)) }

// number takes a decimal number, which ends at a blank or the line's end, off
// the front of b. Larger numbers than any that means something are cut to one.
func number(b []byte) (n int, rest []byte, ok bool) {
	for len(b) > 0 && blank(b[0]) {
		b = b[1:]
	}
	i := 0
	for ; i < len(b) && '0' <= b[i] && b[i] <= '9'; i++ {
		n = min(n*10+int(b[i]-'0'), maxSize+1)
	}
	if i == 0 || i < len(b) && !blank(b[i]) {
		return 0, nil, false
	}
	return n, b[i:], true
}

// blank reports whether c separates numbers; a carriage return does, for
// writers that end lines with two characters.
func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' }
