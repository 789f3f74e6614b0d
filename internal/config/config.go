// Package config holds what the engine asked for as one validated value. It
// does no input or output: what it must know about the machine is handed in.
package config

// Config is everything the command line and the environment said, after
// validation: paths are absolute, sizes are bytes, and a limit that does not
// exist is 0. It does not change while a monitor lives.
type Config struct {
	APIVersion       int    // 0 or 1: the keys of the sync pipe's messages
	Bundle           string // "" for an exec session without --bundle: no sockets, no fifos
	CID              string
	CUUID            string // "" for a legacy exec session only
	Name             string
	MonitorPidFile   string // --conmon-pidfile; "": none
	ContainerPidFile string // written by the runtime
	Exec             bool
	ExecAttach       bool
	ProcessSpec      string // of an exec session
	ExitCommand      string
	ExitCommandArgs  []string
	ExitDelay        int // seconds
	ExitDir          string
	PersistDir       string
	LeaveStdinOpen   bool
	LogLevel         string // a word that diag knows, lower case
	Log              Log
	NoNewKeyring     bool
	NoPivot          bool
	ReplaceListenPid bool
	Restore          string // checkpoint directory; "": create
	Runtime          string
	RuntimeArgs      []string // before the subcommand
	RuntimeOpts      []string // after the subcommand's own
	SdNotifySocket   string   // may be abstract ("@name")
	SocketDir        string
	FullAttach       bool
	Stdin            bool
	Sync             bool
	Syslog           bool
	SystemdCgroup    bool
	Terminal         bool
	Timeout          int // seconds, 0: none

	AttachBacklog    int64  // bytes that a client may lag
	AttachDisconnect bool   // --attach-on-full=disconnect
	RegistryDir      string // where running monitors are linked; "": nowhere
}

// Log is what concerns the log drivers.
type Log struct {
	Drivers          []Driver // no two the same
	SizeMax          int64    // bytes in one file
	GlobalSizeMax    int64    // formatted bytes in total
	Rotate           bool
	MaxFiles         int // backups
	AllowlistDirs    []string
	Tag              string
	Labels           []string // LABEL=VALUE
	NoPartialMessage bool
	NoSync           bool
	MaxLine          int    // bytes, without the newline
	FlushInterval    int64  // nanoseconds; 0: an unfinished line is written at once
	Block            bool   // --log-on-full=block
	Compress         string // "", "gzip" or "zstd"
	RateLimit        int64  // bytes per second
	RateBurst        int64  // bytes
	RateDrop         bool   // --log-rate-policy=drop
}

// Passthrough reports whether the container gets the monitor's own standard
// streams: then there are no pipes, no attach socket and no fifos.
func (c *Config) Passthrough() bool { return c.Log.Has(Passthrough) }

// Has reports whether one of the drivers is of this kind.
func (l *Log) Has(kind DriverKind) bool {
	for _, d := range l.Drivers {
		if d.Kind == kind {
			return true
		}
	}
	return false
}
