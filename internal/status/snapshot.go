package status

import "time"

// Schema is the version of the snapshot's JSON form. It changes only when a
// field changes its meaning or goes away, not when one is added.
const Schema = 1

// Limits on what one snapshot lists, so that an answer fits into one packet
// whatever the container and its clients do.
const (
	maxLags = 64  // attach clients listed one by one
	maxText = 512 // bytes of an error's text
)

// Snapshot is what a monitor says about itself at one moment.
// docs/status.json.md describes its JSON form field by field.
type Snapshot struct {
	Time      time.Time // of the snapshot
	ID        string    // the container's id
	UUID      string
	Name      string
	Bundle    string
	Exec      bool // an exec session's monitor
	Terminal  bool
	State     string // creating, running, stopping or ended
	Container Container
	Monitor   Self
	Streams   [2]Stream // by stdio.Stream.Index
	Drivers   []Driver
	Attach    Attach
	OOM       OOM
}

// Container is the watched process.
type Container struct {
	PID     int       // 0: not known yet
	Started time.Time // when its pid became known; zero: not yet
}

// Self is the monitor's own process.
type Self struct {
	PID          int
	Version      string
	Commit       string
	Upgrades     int    // live upgrades that succeeded
	UpgradeError string // why the last attempt did not, "" if it did or there was none
	Memory       Memory
}

// Count is an amount of container output.
type Count struct {
	Bytes uint64
	Lines uint64
}

// Stream is what happened to one output before any driver saw it.
type Stream struct {
	Read        Count // what the container wrote
	RateLimited Count // dropped by --log-rate-policy=drop
	Paused      bool  // not read at present, because a log or a client must not lose any
}

// Outcome is what became of one stream in one driver, in raw bytes.
type Outcome struct {
	Written Count
	Lost    Count // given up: full disk, dead journal or logger
	Capped  Count // left out because of --log-global-size-max
	Pending Count // in memory: an unfinished line, or a queue
}

// Driver is one --log-path.
type Driver struct {
	Kind      string
	Path      string
	Streams   [2]Outcome // by stdio.Stream.Index
	Rotations uint64
	Reopens   uint64
	Errors    uint64
	LastError string
	Restarts  uint64 // of an external logger; reconnections to the journal
	Waiting   bool   // holds output because its target takes none
}

// Attach is about the attach clients.
type Attach struct {
	Lags         []uint64 // for each client the bytes it has not taken yet
	PastLimit    int      // clients past their backlog
	Accepted     uint64   // clients so far
	Disconnected uint64   // of these, dropped for lagging too far
	Input        uint64   // bytes received for the container's standard input
}

// OOM counts the container's memory events.
type OOM struct {
	Events     int // the limit could not be held
	Kills      int // processes killed
	GroupKills int // cgroups killed as a whole
}
