package logging

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"conmon/internal/config"
	"conmon/internal/handoff"
	"conmon/internal/offload"
)

// openLimit is how long opening one log file may take.
const openLimit = 5 * time.Second

// errNoAnswer is a file system that does not answer.
var errNoAnswer = errors.New("no answer from the file system")

// Targets are the opened log files, on their way to the staying image.
type Targets struct{ files []target }

type target struct {
	fd      int // -1: the driver needs none
	size    int64
	regular bool
}

// Open opens what the drivers of cfg write to, and checks what can be checked,
// while there is still somebody to read an error. It never waits for a fifo's
// reader or for a dead file system.
func Open(cfg *config.Config) (*Targets, error) {
	t := new(Targets)
	for _, d := range cfg.Log.Drivers {
		file := target{fd: -1}
		var err error
		switch d.Kind {
		case config.K8sFile, config.JSONFile:
			if file, err = openTarget(place{d.Path, cfg.Log.AllowlistDirs}); err != nil {
				// Scripts look for the first five words.
				err = fmt.Errorf("Failed to open log file %s: %w", d.Path, err) //lint:ignore ST1005 see above
			}
		case config.ExecLogger:
			err = checkLogger(d.Path)
		}
		if err != nil {
			t.close()
			return nil, err
		}
		t.files = append(t.files, file)
	}
	return t, nil
}

func (t *Targets) close() {
	for _, f := range t.files {
		if f.fd >= 0 {
			_ = unix.Close(f.fd)
		}
	}
}

// Save puts the descriptors into st; they belong to the image that loads it.
func (t *Targets) Save(st *handoff.State) {
	for i, f := range t.files {
		if f.fd < 0 {
			continue
		}
		key := driverKey(i)
		st.PutFD(key+"fd", f.fd)
		st.PutInt(key+"size", f.size)
		st.PutBool(key+"regular", f.regular)
	}
}

// driverKey is the prefix of the i-th driver's state.
func driverKey(i int) string { return "log." + strconv.Itoa(i) + "." }

// opening is the job of opening a log file.
type opening struct {
	place
	target
	err error
}

// Run opens the file.
func (o *opening) Run() {
	dir, name, err := o.dir()
	if err != nil {
		o.err = err
		return
	}
	defer unix.Close(dir)
	if o.fd, _, o.err = o.open(dir, name); o.err != nil {
		if errors.Is(o.err, unix.ENXIO) {
			o.err = errors.New("a fifo without a reader, or no such device")
		}
		return
	}
	var st unix.Stat_t
	if o.err = unix.Fstat(o.fd, &st); o.err == nil {
		o.size = st.Size
		o.regular = st.Mode&unix.S_IFMT == unix.S_IFREG
		if st.Mode&unix.S_IFMT == unix.S_IFIFO && !inDevices(o.path) {
			o.err = errors.New("a fifo cannot be a log file")
		}
	}
	if o.err != nil {
		_ = unix.Close(o.fd)
	}
}

func openTarget(p place) (target, error) {
	o := &opening{place: p}
	w := offload.New(func() {})
	defer w.Close()
	if !w.Do(o, openLimit) {
		return target{}, errNoAnswer
	}
	return o.target, o.err
}
