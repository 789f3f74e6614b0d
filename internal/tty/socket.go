// Package tty is the container's terminal: receiving it from the runtime,
// reading it, its size; and, for `conmon attach`, a person's own terminal.
package tty

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"conmon/internal/handoff"
	"conmon/internal/poll"
)

// maxPath is the longest path that every runtime can put in a socket address.
const maxPath = 107

// The descriptors of a ConsoleSocket, by the ID of their poll.Tag.
const (
	idListener = iota
	idConn
)

// ErrNoTerminal says that a runtime connected to the console socket and left
// without sending a terminal.
var ErrNoTerminal = errors.New("runtime sent no terminal over the console socket")

// ConsoleSocket is where the runtime sends the master of the container's
// terminal to. It owns its descriptors and its temporary directory.
type ConsoleSocket struct {
	w        poll.Watcher
	owner    poll.Owner
	parent   string // where the directory was made, TMPDIR
	name     string // the directory's name in parent
	dir      int    // the directory, O_PATH
	listener int
	conn     int // the runtime's connection, -1: none yet
}

// socketName is short, since it counts against maxPath.
const socketName = "console"

// Listen makes a console socket in a new directory, mode 0700, below parent.
func Listen(parent string, w poll.Watcher, owner poll.Owner) (*ConsoleSocket, error) {
	s := &ConsoleSocket{w: w, owner: owner, parent: parent, dir: -1, listener: -1, conn: -1}
	if err := s.makeDir(); err != nil {
		return nil, err
	}
	if err := s.listen(); err != nil {
		s.Close()
		return nil, fmt.Errorf("console socket in %s: %w", parent, err)
	}
	return s, nil
}

// Load takes over a predecessor's console socket; nil if it had none.
func Load(st *handoff.State, w poll.Watcher, owner poll.Owner) (*ConsoleSocket, error) {
	if st.FD("tty.listener") < 0 {
		return nil, nil
	}
	s := &ConsoleSocket{
		w: w, owner: owner, parent: st.String("tty.parent"), name: st.String("tty.name"),
		dir: st.FD("tty.dir"), listener: st.FD("tty.listener"), conn: st.FD("tty.conn"),
	}
	err := s.watch(s.listener, idListener)
	if err == nil && s.conn >= 0 {
		err = s.watch(s.conn, idConn)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("watch console socket: %w", err)
	}
	return s, nil
}

// makeDir makes the socket's directory under a name that nobody can have
// guessed, and opens it.
func (s *ConsoleSocket) makeDir() error {
	for range 16 {
		var r [8]byte
		if _, err := unix.Getrandom(r[:], 0); err != nil {
			return fmt.Errorf("getrandom: %w", err)
		}
		s.name = "conmon-term."
		for _, b := range r {
			s.name += string("abcdefghijklmnopqrstuvwxyz234567"[b&31])
		}
		err := unix.Mkdir(s.parent+"/"+s.name, 0o700)
		if err == unix.EEXIST {
			continue
		}
		if err != nil {
			return fmt.Errorf("make directory for the console socket in %s: %w", s.parent, err)
		}
		if s.dir, err = unix.Open(s.parent+"/"+s.name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
			_ = unix.Rmdir(s.parent + "/" + s.name)
			return fmt.Errorf("open directory of the console socket: %w", err)
		}
		return nil
	}
	return fmt.Errorf("make directory for the console socket in %s: every name is taken", s.parent)
}

func (s *ConsoleSocket) listen() error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	s.listener = fd
	// The mode of a socket's file is that of the socket, less the umask.
	if err := unix.Fchmod(fd, 0o700); err != nil {
		return fmt.Errorf("fchmod: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(s.dir) + "/" + socketName}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if err := unix.Listen(fd, 1); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	return s.watch(fd, idListener)
}

func (s *ConsoleSocket) watch(fd int, id uint32) error {
	return s.w.Add(fd, poll.Tag{Owner: s.owner, ID: id}, poll.In)
}

// Path is the path for the runtime's --console-socket. Where TMPDIR is too long
// for a socket address, it leads through the monitor's own descriptor of the
// directory, so it must be asked for in the process that stays.
func (s *ConsoleSocket) Path() string {
	path := s.parent + "/" + s.name + "/" + socketName
	if len(path) > maxPath {
		path = "/proc/" + strconv.Itoa(unix.Getpid()) + "/fd/" + strconv.Itoa(s.dir) + "/" + socketName
	}
	return path
}

// Ready returns the terminal's master once the runtime has sent it, -1 before;
// the caller owns it and calls Close. After ErrNoTerminal the socket goes on
// listening: a runtime that gives up says so by its exit.
func (s *ConsoleSocket) Ready(ev poll.Event) (master int, err error) {
	switch {
	case ev.Tag.ID == idListener && s.conn < 0:
		return -1, s.accept()
	case ev.Tag.ID == idConn && s.conn >= 0:
		return s.receive()
	}
	return -1, nil
}

// Last is Ready for whatever has arrived by now: a runtime may send the terminal
// and end before the loop has seen either.
func (s *ConsoleSocket) Last() (master int, err error) {
	if s.conn < 0 {
		if err := s.accept(); err != nil {
			return -1, err
		}
	}
	if s.conn < 0 {
		return -1, nil
	}
	return s.receive()
}

func (s *ConsoleSocket) accept() error {
	fd, _, err := unix.Accept4(s.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err == unix.EAGAIN || err == unix.EINTR || err == unix.ECONNABORTED {
		return nil
	}
	if err != nil {
		return fmt.Errorf("accept on the console socket: %w", err)
	}
	s.conn = fd
	// One at a time: the listener would be reported until it is accepted from.
	s.w.Remove(s.listener)
	return s.watch(fd, idConn)
}

func (s *ConsoleSocket) receive() (int, error) {
	// Runtimes send the slave's name along, of which nothing is used.
	var name [4096]byte
	oob := make([]byte, unix.CmsgSpace(4*4))
	_, n, _, _, err := unix.Recvmsg(s.conn, name[:], oob, unix.MSG_CMSG_CLOEXEC)
	if err == unix.EAGAIN || err == unix.EINTR {
		return -1, nil
	}
	master := -1
	if err == nil {
		master = firstFD(oob[:n])
	}
	if master >= 0 {
		return master, nil
	}
	s.w.Remove(s.conn)
	_ = unix.Close(s.conn)
	s.conn = -1
	if werr := s.watch(s.listener, idListener); werr != nil {
		return -1, werr
	}
	if err != nil {
		return -1, fmt.Errorf("receive from the console socket: %w", err)
	}
	return -1, ErrNoTerminal
}

// firstFD returns the first descriptor of a control message and closes others.
func firstFD(oob []byte) int {
	first := -1
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return -1
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			if first < 0 {
				first = fd
				continue
			}
			_ = unix.Close(fd)
		}
	}
	return first
}

// Save stores the socket for the live upgrade.
func (s *ConsoleSocket) Save(st *handoff.State) {
	st.PutString("tty.parent", s.parent)
	st.PutString("tty.name", s.name)
	st.PutFD("tty.dir", s.dir)
	st.PutFD("tty.listener", s.listener)
	st.PutFD("tty.conn", s.conn)
}

// Close closes the socket and removes it and its directory.
func (s *ConsoleSocket) Close() {
	if s.dir >= 0 {
		_ = unix.Unlinkat(s.dir, socketName, 0)
		_ = unix.Rmdir(s.parent + "/" + s.name)
	}
	for _, fd := range []*int{&s.conn, &s.listener, &s.dir} {
		if *fd >= 0 {
			s.w.Remove(*fd)
			_ = unix.Close(*fd)
			*fd = -1
		}
	}
}
