package config

import (
	"slices"
	"strings"
)

// Refusal is why a command line cannot be carried out. Many of the texts are
// conmon's, because scripts match on them; they are printed after "[conmon:e]: ".
type Refusal string

func (r Refusal) Error() string { return string(r) }

// UsageError is a Refusal that conmon's flag parser would have made; it is
// printed after "conmon: ".
type UsageError string

func (e UsageError) Error() string { return string(e) }

// Defaults of what no engine sets.
const (
	DefaultMaxLine       = 16384
	DefaultFlushInterval = 100_000_000 // nanoseconds
	DefaultAttachBacklog = 64 << 20
	DefaultSocketDir     = "/var/run/crio"
	DefaultLogLevel      = "warn"
	DefaultMaxFiles      = 1
)

// Request is a command line as it was written: a Config not yet validated, whose
// paths may be relative, and what has to be interpreted first.
type Request struct {
	Config
	API1     bool     // --api-version
	LogPaths []string // --log-path
}

// NewRequest returns what an empty command line asks for.
func NewRequest() *Request {
	return &Request{Config: Config{
		SocketDir:     DefaultSocketDir,
		LogLevel:      DefaultLogLevel,
		AttachBacklog: DefaultAttachBacklog,
		Log: Log{
			MaxFiles: DefaultMaxFiles, MaxLine: DefaultMaxLine, FlushInterval: DefaultFlushInterval,
		},
	}}
}

// System is what validation has to know about the caller.
type System struct {
	WorkDir    string                  // absolute
	Executable func(path string) error // says why a file cannot be executed
	Lookup     func(variable string) (string, bool)
	Root       bool // effective uid 0
}

// Resolve validates r and returns the configuration, which shares r's memory,
// with warnings for the user. The checks come in conmon's order, so that a
// command line with two mistakes gets the same complaint.
func (r *Request) Resolve(sys System) (cfg *Config, warnings []string, err error) {
	for _, check := range []func() error{
		r.checkFlags, r.checkIdentity, func() error { return r.checkRuntime(sys) }, r.resolveDrivers, r.checkLabels,
	} {
		if err := check(); err != nil {
			return nil, nil, err
		}
	}
	if r.Log.NoPartialMessage && !r.Log.Has(Journald) {
		warnings = append(warnings, "--no-container-partial-message has no effect without journald log driver")
	}
	r.RegistryDir = RegistryDir(sys.Lookup, sys.Root)
	r.normalize()
	r.makeAbsolute(sys.WorkDir)
	return &r.Config, warnings, nil
}

// checkFlags makes the checks that come before the container's identity.
func (r *Request) checkFlags() error {
	switch {
	case r.CID == "":
		return UsageError("Container ID not provided. Use --cid")
	case r.Log.MaxFiles < 0:
		return UsageError("log-max-files must be non-negative")
	case r.Log.Rotate && r.Log.MaxFiles == 0:
		return UsageError("log-max-files must be at least 1 when log-rotate is enabled")
	}
	switch r.LogLevel = strings.ToLower(r.LogLevel); r.LogLevel {
	case "error", "fatal", "panic", "warn", "warning", "info", "debug", "trace":
	default:
		return Refusal("No such log level " + r.LogLevel)
	}
	switch {
	case r.Exec && r.Restore != "":
		return Refusal("Cannot use 'exec' and 'restore' at the same time")
	case r.ExecAttach && !r.Exec:
		return Refusal("Attach can only be specified with exec")
	case r.ExecAttach && !r.API1:
		return Refusal("Attach can only be specified for a non-legacy exec session")
	}
	return nil
}

// checkIdentity checks what names files and sockets of this container.
func (r *Request) checkIdentity() error {
	switch {
	case r.CUUID == "" && (!r.Exec || r.API1):
		return Refusal("Container UUID not provided. Use --cuuid")
	case !isName(r.CID):
		// The exit file would land in somebody else's directory.
		return Refusal("Container ID must be a file name, it is '" + r.CID + "'")
	case r.CUUID != "" && !isName(r.CUUID):
		return Refusal("Container UUID must be a file name, it is '" + r.CUUID + "'")
	}
	return nil
}

// isName reports whether s is one component of a path.
func isName(s string) bool {
	return s != "" && s != "." && s != ".." && !strings.Contains(s, "/")
}

// checkRuntime checks how the container is to be started, and the numbers that
// come next in conmon's order.
func (r *Request) checkRuntime(sys System) error {
	if r.Runtime == "" {
		return Refusal("Runtime path not provided. Use --runtime")
	}
	if err := sys.Executable(absolute(sys.WorkDir, r.Runtime)); err != nil {
		return Refusal("Runtime path " + r.Runtime + " is not valid: " + err.Error())
	}
	switch {
	case r.Exec && r.ProcessSpec == "":
		return Refusal("Exec process spec path not provided. Use --exec-process-spec")
	case r.ExitDelay < 0:
		return Refusal("Delay before invoking exit command must be greater than or equal to 0")
	}
	return nil
}

// resolveDrivers turns --log-path into drivers. A driver given twice is one:
// no record is logged twice in the same place.
func (r *Request) resolveDrivers() error {
	if len(r.LogPaths) == 0 {
		return Refusal("Log driver not provided. Use --log-path")
	}
	r.Log.Drivers = nil
	for _, s := range r.LogPaths {
		d, err := ParseDriver(s)
		if err != nil {
			return err
		}
		if !slices.Contains(r.Log.Drivers, d) {
			r.Log.Drivers = append(r.Log.Drivers, d)
		}
	}
	return nil
}

// checkLabels checks what only journald can log.
func (r *Request) checkLabels() error {
	if r.Log.Has(Journald) {
		// Its short form is the first twelve, and must differ from the whole.
		if len(r.CID) <= 12 {
			return Refusal("Container ID must be longer than 12 characters")
		}
		for _, label := range r.Log.Labels {
			if err := checkLabel(label); err != nil {
				return err
			}
		}
		return nil
	}
	for _, kind := range []DriverKind{K8sFile, JSONFile} {
		switch {
		case !r.Log.Has(kind):
		case r.Log.Tag != "":
			return Refusal(string(kind) + " doesn't support --log-tag")
		case len(r.Log.Labels) > 0:
			return Refusal(string(kind) + " doesn't support --log-label")
		}
	}
	return nil
}

// normalize gives "no limit" one spelling; conmon takes any number below 1.
func (r *Request) normalize() {
	if r.API1 {
		r.APIVersion = 1
	}
	r.Timeout = max(r.Timeout, 0)
	r.Log.SizeMax = max(r.Log.SizeMax, 0)
	r.Log.GlobalSizeMax = max(r.Log.GlobalSizeMax, 0)
}
