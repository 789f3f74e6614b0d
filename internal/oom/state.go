package oom

import (
	"fmt"
	"strconv"

	"conmon/internal/clock"
	"conmon/internal/handoff"
	"conmon/internal/poll"
)

// Save puts the watcher into st; it goes on working should there be no handoff.
func (w *Watcher) Save(st *handoff.State) {
	if w == nil {
		return
	}
	st.PutFD("oom.proc", w.proc)
	st.PutFD("oom.events", w.files.events)
	st.PutFD("oom.local", w.files.local)
	st.PutFD("oom.members", w.files.members)
	st.PutFD("oom.bell", w.files.bell)
	st.PutFD("oom.dirfd", w.files.dir)
	st.PutInt("oom.version", int64(w.at.version))
	st.PutString("oom.dir", w.at.dir)
	st.PutInt("oom.again", int64(w.again))
	for i, n := range w.numbers() {
		st.PutInt("oom.n."+strconv.Itoa(i), int64(*n))
	}
}

// numbers lists what is counted, in the order of the saved state: append only.
func (w *Watcher) numbers() [8]*int {
	return [...]*int{
		&w.last.oom, &w.last.local, &w.last.kill, &w.last.group,
		&w.report.OOMs, &w.report.Local, &w.report.Kills, &w.report.GroupKills,
	}
}

// Load takes over the watcher saved in st, with its descriptors; nil if there
// was none.
func Load(st *handoff.State, loop poll.Watcher, owner poll.Owner) (*Watcher, error) {
	w := &Watcher{
		loop: loop, owner: owner, proc: st.FD("oom.proc"),
		at: place{int(st.Int("oom.version")), st.String("oom.dir")},
		files: files{
			st.FD("oom.events"), st.FD("oom.local"), st.FD("oom.members"), st.FD("oom.bell"), st.FD("oom.dirfd"),
		},
		again: clock.Mono(st.Int("oom.again")),
	}
	if w.proc < 0 {
		return nil, nil
	}
	for i, n := range w.numbers() {
		*n = int(st.Int("oom.n." + strconv.Itoa(i)))
	}
	if err := w.register(w.files); err != nil {
		w.Close()
		return nil, fmt.Errorf("watch the memory of %s: %w", w.at.dir, err)
	}
	return w, nil
}
