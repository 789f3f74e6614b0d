package client

import (
	"encoding/json"
	"fmt"
	"time"
)

// Report is a monitor's answer as this version understands it. Fields that a
// later monitor adds are ignored.
type Report struct {
	Schema    int        `json:"schema"`
	Time      time.Time  `json:"time"`
	ID        string     `json:"id"`
	UUID      string     `json:"uuid"`
	Name      string     `json:"name"`
	Bundle    string     `json:"bundle"`
	Exec      bool       `json:"exec"`
	Terminal  bool       `json:"terminal"`
	State     string     `json:"state"`
	Container Container  `json:"container"`
	Monitor   Monitor    `json:"monitor"`
	Streams   Pair[Flow] `json:"streams"`
	Logs      []Log      `json:"logs"`
	Attach    Attach     `json:"attach"`
	OOM       OOM        `json:"oom"`
}

// Container is the watched process.
type Container struct {
	PID     int       `json:"pid"`
	Started time.Time `json:"started"` // zero: not yet
}

// Monitor is the process that answered.
type Monitor struct {
	PID          int    `json:"pid"`
	Version      string `json:"version"`
	Commit       string `json:"commit"`
	Upgrades     uint64 `json:"upgrades"`
	UpgradeError string `json:"upgrade_error"`
	Memory       Memory `json:"memory"`
}

// Memory is what the monitor occupies.
type Memory struct {
	RSS       uint64 `json:"rss_bytes"`
	PSS       uint64 `json:"pss_bytes"`
	USS       uint64 `json:"uss_bytes"`
	Anonymous uint64 `json:"anonymous_bytes"`
}

// Count is an amount of output.
type Count struct {
	Bytes uint64 `json:"bytes"`
	Lines uint64 `json:"lines"`
}

func (c Count) plus(d Count) Count { return Count{c.Bytes + d.Bytes, c.Lines + d.Lines} }

// Pair has one value for each of the container's outputs.
type Pair[T any] struct {
	Stdout T `json:"stdout"`
	Stderr T `json:"stderr"`
}

// Flow is what happened to one output before any log saw it.
type Flow struct {
	Read        Count `json:"read"`
	RateLimited Count `json:"rate_limited"`
	Paused      bool  `json:"paused"`
}

// Outcome is what became of one output in one log.
type Outcome struct {
	Written Count `json:"written"`
	Lost    Count `json:"lost"`
	Capped  Count `json:"capped"`
	Pending Count `json:"pending"`
}

// Log is one log driver.
type Log struct {
	Driver string  `json:"driver"`
	Path   string  `json:"path"`
	Stdout Outcome `json:"stdout"`
	Stderr Outcome `json:"stderr"`

	Rotations uint64 `json:"rotations"`
	Reopens   uint64 `json:"reopens"`
	Errors    uint64 `json:"errors"`
	LastError string `json:"last_error"`
	Restarts  uint64 `json:"restarts"`
	Waiting   bool   `json:"waiting"`
}

// Attach is about the attach clients.
type Attach struct {
	Clients      int    `json:"clients"`
	PastLimit    int    `json:"past_limit"`
	Accepted     uint64 `json:"accepted"`
	Disconnected uint64 `json:"disconnected"`
	Input        uint64 `json:"input_bytes"`
	Lag          uint64 `json:"lag_bytes"`
	MaxLag       uint64 `json:"max_lag_bytes"`
}

// OOM counts the container's memory events.
type OOM struct {
	Events     uint64 `json:"events"`
	Kills      uint64 `json:"kills"`
	GroupKills uint64 `json:"group_kills"`
}

// Parse reads a monitor's answer.
func Parse(answer []byte) (*Report, error) {
	r := new(Report)
	if err := json.Unmarshal(answer, r); err != nil {
		return nil, fmt.Errorf("read the monitor's answer: %w", err)
	}
	if r.Schema != 1 {
		return nil, fmt.Errorf("the monitor answers in schema %d, this program reads 1", r.Schema)
	}
	return r, nil
}

// logged returns what the first log holds of the container's output, and what
// is missing from it. Others, if any, are copies.
func (r *Report) logged() (written, lost Count) {
	if len(r.Logs) == 0 {
		return Count{}, Count{}
	}
	l := &r.Logs[0]
	lost = l.Stdout.Lost.plus(l.Stderr.Lost)
	lost = lost.plus(r.Streams.Stdout.RateLimited).plus(r.Streams.Stderr.RateLimited)
	return l.Stdout.Written.plus(l.Stderr.Written), lost
}

// uptime is how long the container's process has been known, 0 if it is not.
func (r *Report) uptime() time.Duration {
	if r.Container.Started.IsZero() {
		return 0
	}
	return max(r.Time.Sub(r.Container.Started), 0)
}
