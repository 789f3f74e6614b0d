package config

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bounds of what may be asked for. They keep memory and arithmetic sane and are
// far from any use.
const (
	MaxLineLimit     = 16 << 20 // --log-max-line, bytes: so much of a line is kept in memory
	maxFlushInterval = 24 * time.Hour
)

// What a value can be wrong about; the caller says which value.
var (
	ErrNotNumber   = errors.New("not a number")
	ErrOutOfRange  = errors.New("value out of range")
	errNotSize     = errors.New("not a size: bytes, with k, m, g or t for their 1024-fold")
	errNotDuration = errors.New("not a duration such as 100ms or 2s")
	errNotRate     = errors.New("not a rate: BYTES[/BURST], neither of them 0")
)

// ParseNumber reads a whole number of at most bits bits, as the C library does
// for conmon: blanks may come first, 0x… is hexadecimal, 0… octal.
func ParseNumber(s string, bits int) (int64, error) {
	s = strings.TrimLeft(s, " \t\n\v\f\r")
	if strings.ContainsAny(s, "_oO") || !strings.ContainsAny(s, "xX") && strings.ContainsAny(s, "bB") {
		return 0, ErrNotNumber // Go's own notations
	}
	n, err := strconv.ParseInt(s, 0, bits)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, ErrOutOfRange
	case err != nil:
		return 0, ErrNotNumber
	}
	return n, nil
}

// ParseSize reads a number of bytes: digits, and a suffix k, m, g or t in
// either case for powers of 1024, which may be spelled out (kb, KiB).
func ParseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "bBikKmMgGtT")
	shift, ok := suffixShift(strings.ToLower(s[len(digits):]))
	if !ok || digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, errNotSize
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > math.MaxInt64>>shift {
		return 0, ErrOutOfRange
	}
	return n << shift, nil
}

// suffixShift returns how many bits a size's suffix, in lower case, stands for.
func suffixShift(suffix string) (shift uint, ok bool) {
	if suffix == "" || suffix == "b" {
		return 0, true
	}
	i := strings.IndexByte("kmgt", suffix[0])
	if rest := suffix[1:]; i < 0 || rest != "" && rest != "b" && rest != "ib" {
		return 0, false
	}
	return uint(i+1) * 10, true
}

// ParseMaxLine reads --log-max-line.
func ParseMaxLine(s string) (int, error) {
	n, err := ParseSize(s)
	if err != nil {
		return 0, err
	}
	if n < 1 || n > MaxLineLimit {
		return 0, ErrOutOfRange
	}
	return int(n), nil
}

// ParseInterval reads --log-flush-interval, in nanoseconds.
func ParseInterval(s string) (int64, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, errNotDuration
	}
	if d < 0 || d > maxFlushInterval {
		return 0, ErrOutOfRange
	}
	return int64(d), nil
}

// ParseRate reads --log-rate-limit: BYTES[/BURST], bytes per second and bytes
// at once. Without BURST a second's worth may come at once; "0" is no limit.
func ParseRate(s string) (limit, burst int64, err error) {
	before, after, found := strings.Cut(s, "/")
	if limit, err = ParseSize(before); err != nil {
		return 0, 0, errNotRate
	}
	if !found {
		return limit, limit, nil
	}
	if burst, err = ParseSize(after); err != nil || burst == 0 || limit == 0 {
		return 0, 0, errNotRate
	}
	return limit, burst, nil
}
