// Package notify relays the container's sd-notify messages to the host.
package notify

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"conmon/internal/handoff"
	"conmon/internal/poll"
	"conmon/internal/stdio"
)

const (
	// dir and name make up the socket's path in the bundle. The engine makes the
	// directory and mounts it into the container.
	dir, name = "notify", "notify.sock"
	// batch bounds the messages relayed at one go: a container that floods the
	// socket must not keep the loop from its output.
	batch = 16
	// drainLimit bounds what is relayed after the container's end: as much as
	// the kernel queues for a datagram socket, and more.
	drainLimit = 1024
)

// Relay passes messages on. It owns its descriptors.
type Relay struct {
	w     poll.Watcher
	owner poll.Owner
	in    int // the container's socket
	out   int // unconnected: the host's socket may come and go
	host  unix.SockaddrUnix
	dir   int // the directory of the container's socket, O_PATH
}

// Listen makes the container's socket in bundle and relays to the host's socket,
// a path or, with a leading @, an abstract name.
func Listen(bundle, host string, w poll.Watcher, owner poll.Owner) (*Relay, error) {
	r := &Relay{w: w, owner: owner, in: -1, out: -1, dir: -1, host: unix.SockaddrUnix{Name: host}}
	if err := r.open(bundle); err != nil {
		r.Close()
		return nil, fmt.Errorf("notify socket in %s/%s: %w", bundle, dir, err)
	}
	return r, nil
}

func (r *Relay) open(bundle string) (err error) {
	if r.dir, err = unix.Open(bundle+"/"+dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	const kind = unix.SOCK_DGRAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	if r.in, err = unix.Socket(unix.AF_UNIX, kind, 0); err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	if r.out, err = unix.Socket(unix.AF_UNIX, kind, 0); err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	if err := unix.Unlinkat(r.dir, name, 0); err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove the old one: %w", err)
	}
	// Through the directory's descriptor: a bundle's path may be longer than a
	// socket's address.
	path := "/proc/self/fd/" + strconv.Itoa(r.dir) + "/" + name
	if err := unix.Bind(r.in, &unix.SockaddrUnix{Name: path}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if err := r.openToAll(); err != nil {
		return err
	}
	return r.watch()
}

// openToAll lets any user of the container write to the socket. The directory
// is the container's too, which might put a link to somebody else's file in the
// socket's place: a descriptor of what lies there tells, and cannot be exchanged.
func (r *Relay) openToAll() error {
	fd, err := unix.Openat(r.dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return fmt.Errorf("%s is not the socket that was made", name)
	}
	// fchmod takes no such descriptor; its name in /proc leads to the same file.
	if err := unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), 0o777); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	return nil
}

func (r *Relay) watch() error {
	return r.w.Add(r.in, poll.Tag{Owner: r.owner}, poll.In)
}

// Load takes over a predecessor's relay, nil if it had none.
func Load(st *handoff.State, w poll.Watcher, owner poll.Owner) (*Relay, error) {
	if st.FD("notify.in") < 0 {
		return nil, nil
	}
	r := &Relay{
		w: w, owner: owner, in: st.FD("notify.in"), out: st.FD("notify.out"), dir: st.FD("notify.dir"),
		host: unix.SockaddrUnix{Name: st.String("notify.host")},
	}
	return r, r.watch()
}

// Save stores the relay for another image.
func (r *Relay) Save(st *handoff.State) {
	st.PutFD("notify.in", r.in)
	st.PutFD("notify.out", r.out)
	st.PutFD("notify.dir", r.dir)
	st.PutString("notify.host", r.host.Name)
}

// Ready relays what has arrived, a bounded number of messages: the rest is
// reported again.
func (r *Relay) Ready(poll.Event) { r.relay(batch) }

// Drain relays what the container sent before its end.
func (r *Relay) Drain() { r.relay(drainLimit) }

func (r *Relay) relay(limit int) {
	var in, out [4096]byte
	for range limit {
		n, state := stdio.Read(r.in, in[:])
		if state == stdio.Dry {
			return
		}
		message := filter(out[:0], in[:n])
		if len(message) == 0 {
			continue
		}
		// A host that does not listen, or does not keep up, misses the message, as
		// it would miss a service's own.
		_ = unix.Sendto(r.out, message, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, &r.host)
	}
}

// Close removes the container's socket and closes all descriptors.
func (r *Relay) Close() {
	if r.in >= 0 {
		r.w.Remove(r.in)
		_ = unix.Unlinkat(r.dir, name, 0)
	}
	for _, fd := range []*int{&r.in, &r.out, &r.dir} {
		if *fd >= 0 {
			_ = unix.Close(*fd)
			*fd = -1
		}
	}
}
