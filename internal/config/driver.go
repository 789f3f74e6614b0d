package config

import "strings"

// DriverKind is a kind of log driver.
type DriverKind string

// The log drivers, by the name that --log-path gives them.
const (
	K8sFile     DriverKind = "k8s-file"
	JSONFile    DriverKind = "json-file"
	Journald    DriverKind = "journald"
	ExecLogger  DriverKind = "exec"
	Passthrough DriverKind = "passthrough"
	None        DriverKind = "none" // also written off and null
)

// Driver is one --log-path.
type Driver struct {
	Kind DriverKind
	Path string // of a file, or of a program with its ?arg=… query; else ""
}

// ParseDriver reads one --log-path: DRIVER:PATH, DRIVER, :PATH or PATH. The
// path stays as it is written.
func ParseDriver(s string) (Driver, error) {
	if strings.Trim(s, ":") == "" {
		return Driver{}, Refusal("log-path must not be empty")
	}
	// No driver is called like the beginning of a path, but a path may well
	// have a colon in it.
	if s[0] == '/' || s[0] == '.' {
		return Driver{K8sFile, s}, nil
	}
	name, path, colon := strings.Cut(s, ":")
	if name == "" {
		// ":none" is a file called none.
		return Driver{K8sFile, path}, nil
	}
	switch kind := DriverKind(name); kind {
	case None, "off", "null":
		return Driver{Kind: None}, nil
	case Journald, Passthrough:
		return Driver{Kind: kind}, nil
	case K8sFile, JSONFile:
		if path == "" {
			return Driver{}, Refusal(name + " requires a filename")
		}
		return Driver{kind, path}, nil
	case ExecLogger:
		if path == "" || path[0] == '?' {
			return Driver{}, Refusal("exec requires a program")
		}
		return Driver{kind, path}, nil
	}
	if !colon {
		return Driver{K8sFile, s}, nil
	}
	return Driver{}, Refusal("No such log driver " + name)
}

// checkLabel says what is wrong with a --log-label. journald drops fields
// whose name it does not like, silently: so it is said here.
func checkLabel(label string) error {
	name, value, found := strings.Cut(label, "=")
	switch {
	case found && name == "":
		return Refusal("Container labels must be in format LABEL=VALUE (no LABEL present in '" + label + "')")
	case !found || strings.Contains(value, "="):
		return Refusal("Container labels must be in format LABEL=VALUE (none or more than one '=' present in '" + label + "')")
	}
	for _, c := range []byte(name) {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' {
			return Refusal("Container label names must contain only uppercase letters, numbers and underscore (in '" + label + "')")
		}
	}
	return nil
}
