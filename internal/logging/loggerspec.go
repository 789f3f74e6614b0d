package logging

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// parseLogger reads what follows "exec:": PATH, or PATH?arg=A&arg=B. In an
// argument, %XX stands for a byte, so that it may contain & and %.
func parseLogger(spec string) (path string, args []string, err error) {
	path, query, ok := strings.Cut(spec, "?")
	for more := ok; more; {
		var part string
		part, query, more = strings.Cut(query, "&")
		value, ok := strings.CutPrefix(part, "arg=")
		if !ok {
			return "", nil, fmt.Errorf("logger %s: %q is not arg=VALUE", path, part)
		}
		arg, ok := unescape(value)
		if !ok {
			return "", nil, fmt.Errorf("logger %s: bad %%XX in %q", path, value)
		}
		args = append(args, arg)
	}
	return path, args, nil
}

func unescape(s string) (string, bool) {
	var b []byte
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			if i+2 >= len(s) {
				return "", false
			}
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			// An argument cannot hold a NUL.
			if c = hi<<4 | lo; hi > 15 || lo > 15 || c == 0 {
				return "", false
			}
			i += 2
		}
		b = append(b, c)
	}
	return string(b), true
}

// unhex returns a digit's value, 255 if it is none.
func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 255
}

// checkLogger checks an external logger while somebody can still read an error.
func checkLogger(spec string) error {
	path, _, err := parseLogger(spec)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return fmt.Errorf("logger %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("logger %s: not a program", path)
	}
	if err := unix.Access(path, unix.X_OK); err != nil {
		return fmt.Errorf("logger %s: %w", path, err)
	}
	return nil
}
