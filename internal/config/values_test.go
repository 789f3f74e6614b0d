package config

import (
	"errors"
	"math"
	"testing"
)

func TestParseSize(t *testing.T) {
	for _, c := range []struct {
		in   string
		want int64
		err  error
	}{
		{"0", 0, nil},
		{"16384", 16384, nil},
		{"1k", 1 << 10, nil},
		{"1K", 1 << 10, nil},
		{"3kb", 3 << 10, nil},
		{"64MiB", 64 << 20, nil},
		{"2g", 2 << 30, nil},
		{"1t", 1 << 40, nil},
		{"5b", 5, nil},
		{"010", 10, nil},
		{"9223372036854775807", math.MaxInt64, nil},
		{"9223372036854775808", 0, ErrOutOfRange},
		{"8388608t", 0, ErrOutOfRange},
		{"", 0, errNotSize},
		{"k", 0, errNotSize},
		{"-1", 0, errNotSize},
		{"+1", 0, errNotSize},
		{"1.5m", 0, errNotSize},
		{"1 k", 0, errNotSize},
		{"1kk", 0, errNotSize},
		{"1ki", 0, errNotSize},
		{"1ib", 0, errNotSize},
		{"1x", 0, errNotSize},
		{"0x10", 0, errNotSize},
	} {
		if got, err := ParseSize(c.in); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%q: %d, %v; want %d, %v", c.in, got, err, c.want, c.err)
		}
	}
}

func TestParseNumber(t *testing.T) {
	for _, c := range []struct {
		in   string
		bits int
		want int64
		err  error
	}{
		{"-1", 32, -1, nil},
		{"0x10", 32, 16, nil},
		{"2147483647", 32, 2147483647, nil},
		{"2147483648", 32, 0, ErrOutOfRange},
		{"2147483648", 64, 2147483648, nil},
		{"9223372036854775808", 64, 0, ErrOutOfRange},
		{"", 32, 0, ErrNotNumber},
		{"ten", 32, 0, ErrNotNumber},
		{"1.0", 32, 0, ErrNotNumber},
		{" 010", 32, 8, nil},
		{"0xb", 32, 11, nil},
		{"5 ", 32, 0, ErrNotNumber},
		{"1_0", 32, 0, ErrNotNumber},
		{"0b1", 32, 0, ErrNotNumber},
		{"0o7", 32, 0, ErrNotNumber},
	} {
		if got, err := ParseNumber(c.in, c.bits); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%q: %d, %v; want %d, %v", c.in, got, err, c.want, c.err)
		}
	}
}

func TestParseRate(t *testing.T) {
	for _, c := range []struct {
		in           string
		limit, burst int64
		err          error
	}{
		{"1m", 1 << 20, 1 << 20, nil},
		{"1k/1m", 1 << 10, 1 << 20, nil},
		{"0", 0, 0, nil},
		{"", 0, 0, errNotRate},
		{"1k/", 0, 0, errNotRate},
		{"1k/0", 0, 0, errNotRate},
		{"0/1k", 0, 0, errNotRate},
		{"1k/1m/1g", 0, 0, errNotRate},
		{"1k/s", 0, 0, errNotRate},
	} {
		limit, burst, err := ParseRate(c.in)
		if limit != c.limit || burst != c.burst || !errors.Is(err, c.err) {
			t.Errorf("%q: %d/%d, %v", c.in, limit, burst, err)
		}
	}
}

func TestParseMaxLineAndInterval(t *testing.T) {
	for _, c := range []struct {
		in  string
		err error
	}{{"1", nil}, {"16m", nil}, {"0", ErrOutOfRange}, {"16777217", ErrOutOfRange}, {"long", errNotSize}} {
		if _, err := ParseMaxLine(c.in); !errors.Is(err, c.err) {
			t.Errorf("line %q: %v, want %v", c.in, err, c.err)
		}
	}
	for _, c := range []struct {
		in   string
		want int64
		err  error
	}{
		{"100ms", 100_000_000, nil},
		{"0", 0, nil},
		{"24h", int64(maxFlushInterval), nil},
		{"25h", 0, ErrOutOfRange},
		{"-1s", 0, ErrOutOfRange},
		{"100", 0, errNotDuration},
		{"", 0, errNotDuration},
	} {
		if got, err := ParseInterval(c.in); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("interval %q: %d, %v; want %d, %v", c.in, got, err, c.want, c.err)
		}
	}
}
