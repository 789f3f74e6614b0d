package client

import (
	"io"
	"strconv"
	"strings"
)

// metric is one metric of the Prometheus form.
type metric struct {
	name, kind, help string
	// samples emits the values of one monitor. labels come in pairs.
	samples func(r *Report, emit func(value float64, labels ...string))
}

// WritePrometheus writes the reports in Prometheus' text format. A metric's
// samples have to stand together, so all monitors are merged for each.
func WritePrometheus(w io.Writer, reports []*Report) error {
	var b []byte
	for _, m := range metrics() {
		start := len(b)
		b = append(b, "# HELP "+m.name+" "+m.help+"\n# TYPE "+m.name+" "+m.kind+"\n"...)
		heading := len(b)
		for _, r := range reports {
			identity := []string{"id", r.ID, "uuid", r.UUID, "name", r.Name}
			m.samples(r, func(value float64, labels ...string) {
				b = appendSample(b, m.name, value, identity, labels)
			})
		}
		if len(b) == heading {
			b = b[:start]
		}
	}
	_, err := w.Write(b)
	return err
}

func appendSample(b []byte, name string, value float64, identity, labels []string) []byte {
	b = append(append(b, name...), '{')
	b = appendLabels(appendLabels(b, identity), labels)
	b[len(b)-1] = '}' // in place of the last comma
	b = append(b, ' ')
	b = strconv.AppendFloat(b, value, 'f', -1, 64)
	return append(b, '\n')
}

func appendLabels(b []byte, pairs []string) []byte {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	for i := 0; i < len(pairs); i += 2 {
		b = append(append(b, pairs[i]...), `="`...)
		b = append(append(b, escape.Replace(pairs[i+1])...), `",`...)
	}
	return b
}

// metrics lists everything there is, in the order of the output.
func metrics() []metric {
	return append(append(monitorMetrics(), streamMetrics()...), logMetrics()...)
}

func monitorMetrics() []metric {
	one := func(name, kind, help string, value func(r *Report) float64) metric {
		return metric{"conmon_" + name, kind, help, func(r *Report, emit func(float64, ...string)) { emit(value(r)) }}
	}
	return []metric{
		{"conmon_monitor_info", "gauge", "Version and state of a container's monitor.", func(r *Report, emit func(float64, ...string)) {
			emit(1, "version", r.Monitor.Version, "state", r.State, "exec", strconv.FormatBool(r.Exec))
		}},
		{"conmon_container_start_time_seconds", "gauge", "When the container's process became known, since the epoch.", func(r *Report, emit func(float64, ...string)) {
			if !r.Container.Started.IsZero() {
				emit(float64(r.Container.Started.UnixMilli()) / 1000)
			}
		}},
		one("monitor_upgrades_total", "counter", "Live upgrades of the monitor that succeeded.", func(r *Report) float64 { return float64(r.Monitor.Upgrades) }),
		one("monitor_resident_memory_bytes", "gauge", "Resident memory of the monitor.", func(r *Report) float64 { return float64(r.Monitor.Memory.RSS) }),
		one("monitor_unique_memory_bytes", "gauge", "Resident memory that only this monitor uses.", func(r *Report) float64 { return float64(r.Monitor.Memory.USS) }),
		one("monitor_anonymous_memory_bytes", "gauge", "Resident memory of the monitor that no file backs.", func(r *Report) float64 { return float64(r.Monitor.Memory.Anonymous) }),
		one("attach_clients", "gauge", "Attach clients that are connected.", func(r *Report) float64 { return float64(r.Attach.Clients) }),
		one("attach_clients_past_limit", "gauge", "Attach clients that lag by more than their backlog.", func(r *Report) float64 { return float64(r.Attach.PastLimit) }),
		one("attach_lag_bytes", "gauge", "Output that attach clients have not taken yet.", func(r *Report) float64 { return float64(r.Attach.Lag) }),
		one("attach_accepted_total", "counter", "Attach clients so far.", func(r *Report) float64 { return float64(r.Attach.Accepted) }),
		one("attach_disconnected_total", "counter", "Attach clients dropped for lagging too far.", func(r *Report) float64 { return float64(r.Attach.Disconnected) }),
		one("attach_input_bytes_total", "counter", "Input received from attach clients.", func(r *Report) float64 { return float64(r.Attach.Input) }),
		one("oom_events_total", "counter", "Times that the container's memory limit could not be held.", func(r *Report) float64 { return float64(r.OOM.Events) }),
		one("oom_kills_total", "counter", "Processes of the container that an OOM killer killed.", func(r *Report) float64 { return float64(r.OOM.Kills) }),
		one("oom_group_kills_total", "counter", "Cgroups of the container that an OOM killer killed as a whole.", func(r *Report) float64 { return float64(r.OOM.GroupKills) }),
	}
}

func streamMetrics() []metric {
	each := func(name, kind, help string, value func(f *Flow) float64) metric {
		return metric{"conmon_" + name, kind, help, func(r *Report, emit func(float64, ...string)) {
			emit(value(&r.Streams.Stdout), "stream", "stdout")
			emit(value(&r.Streams.Stderr), "stream", "stderr")
		}}
	}
	return []metric{
		each("read_bytes_total", "counter", "Output read from the container.", func(f *Flow) float64 { return float64(f.Read.Bytes) }),
		each("read_lines_total", "counter", "Lines read from the container.", func(f *Flow) float64 { return float64(f.Read.Lines) }),
		each("rate_limited_bytes_total", "counter", "Output dropped because of the rate limit.", func(f *Flow) float64 { return float64(f.RateLimited.Bytes) }),
		each("rate_limited_lines_total", "counter", "Lines dropped because of the rate limit.", func(f *Flow) float64 { return float64(f.RateLimited.Lines) }),
		each("stream_paused", "gauge", "Whether the monitor waits for room before it reads on.", func(f *Flow) float64 { return number(f.Paused) }),
	}
}

func logMetrics() []metric {
	// Two drivers may be of one kind, and have one path: their place tells them apart.
	labels := func(i int, l *Log) []string {
		return []string{"log", strconv.Itoa(i), "driver", l.Driver, "path", l.Path}
	}
	each := func(name, kind, help string, value func(l *Log) float64) metric {
		return metric{"conmon_log_" + name, kind, help, func(r *Report, emit func(float64, ...string)) {
			for i := range r.Logs {
				emit(value(&r.Logs[i]), labels(i, &r.Logs[i])...)
			}
		}}
	}
	stream := func(name, kind, help string, value func(o *Outcome) uint64) metric {
		return metric{"conmon_log_" + name, kind, help, func(r *Report, emit func(float64, ...string)) {
			for i := range r.Logs {
				l := &r.Logs[i]
				emit(float64(value(&l.Stdout)), append(labels(i, l), "stream", "stdout")...)
				emit(float64(value(&l.Stderr)), append(labels(i, l), "stream", "stderr")...)
			}
		}}
	}
	return []metric{
		stream("written_bytes_total", "counter", "Output in the log.", func(o *Outcome) uint64 { return o.Written.Bytes }),
		stream("written_lines_total", "counter", "Lines in the log.", func(o *Outcome) uint64 { return o.Written.Lines }),
		stream("lost_bytes_total", "counter", "Output that the log could not take.", func(o *Outcome) uint64 { return o.Lost.Bytes }),
		stream("lost_lines_total", "counter", "Lines that the log could not take.", func(o *Outcome) uint64 { return o.Lost.Lines }),
		stream("capped_bytes_total", "counter", "Output beyond the global size limit.", func(o *Outcome) uint64 { return o.Capped.Bytes }),
		stream("capped_lines_total", "counter", "Lines beyond the global size limit.", func(o *Outcome) uint64 { return o.Capped.Lines }),
		stream("pending_bytes", "gauge", "Output on its way into the log.", func(o *Outcome) uint64 { return o.Pending.Bytes }),
		each("rotations_total", "counter", "Log files renamed away or started over for their size.", func(l *Log) float64 { return float64(l.Rotations) }),
		each("reopenings_total", "counter", "Times that the log was opened again.", func(l *Log) float64 { return float64(l.Reopens) }),
		each("errors_total", "counter", "Attempts to write or rotate the log that did not succeed.", func(l *Log) float64 { return float64(l.Errors) }),
		each("restarts_total", "counter", "Restarts of a logger process, and reconnections to the journal.", func(l *Log) float64 { return float64(l.Restarts) }),
		each("waiting", "gauge", "Whether output waits because the log takes none.", func(l *Log) float64 { return number(l.Waiting) }),
	}
}

func number(truth bool) float64 {
	if truth {
		return 1
	}
	return 0
}
