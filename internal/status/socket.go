package status

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"conmon/internal/clock"
	"conmon/internal/handoff"
	"conmon/internal/poll"
)

// socketName is the socket's name in the bundle.
const socketName = "status"

// backlog is how many connections may wait to be accepted.
const backlog = 16

// Listen makes the status socket in bundle, in place of one that a dead
// predecessor left behind.
func Listen(bundle string, loop poll.Watcher, owner poll.Owner) (*Server, error) {
	fd, inode, err := bind(bundle)
	if err != nil {
		return nil, fmt.Errorf("status socket in %s: %w", bundle, err)
	}
	s := &Server{loop: loop, owner: owner, bundle: bundle, fd: fd, inode: inode}
	if err := loop.Add(fd, poll.Tag{Owner: owner, ID: listener}, poll.In); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// bind returns a listening socket and the inode of its file.
func bind(bundle string) (fd int, inode uint64, err error) {
	dir, err := openDir(bundle)
	if err != nil {
		return -1, 0, err
	}
	defer unix.Close(dir)
	if err := removeStale(dir); err != nil {
		return -1, 0, err
	}
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, 0, fmt.Errorf("socket: %w", err)
	}
	if inode, err = publish(fd, dir); err != nil {
		_ = unix.Close(fd)
		return -1, 0, err
	}
	return fd, inode, nil
}

// publish gives the socket its name in dir.
func publish(fd, dir int) (inode uint64, err error) {
	// The mode of the socket itself is what its file gets, so that there is no
	// moment in which others may connect.
	if err := unix.Fchmod(fd, 0o600); err != nil {
		return 0, fmt.Errorf("fchmod: %w", err)
	}
	// Through the directory's descriptor: a bundle's path may be longer than a
	// socket address. Binding never follows a link in the last place.
	addr := &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(dir) + "/" + socketName}
	if err := unix.Bind(fd, addr); err != nil {
		return 0, fmt.Errorf("bind: %w", err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return 0, fmt.Errorf("listen: %w", err)
	}
	var stat unix.Stat_t
	if err := unix.Fstatat(dir, socketName, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return 0, fmt.Errorf("stat: %w", err)
	}
	return stat.Ino, nil
}

func openDir(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open the bundle: %w", err)
	}
	return fd, nil
}

// removeStale removes the socket that a predecessor left. Anything that is not
// a socket belongs to somebody else and stays.
func removeStale(dir int) error {
	var stat unix.Stat_t
	err := unix.Fstatat(dir, socketName, &stat, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return fmt.Errorf("%s exists and is not a socket", socketName)
	}
	if err := unix.Unlinkat(dir, socketName, 0); err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove the old one: %w", err)
	}
	return nil
}

// Close removes the socket and parts with everybody. The file of a later
// monitor in the same bundle stays.
func (s *Server) Close() {
	if s == nil || s.fd < 0 {
		return
	}
	for i := range s.clients {
		if c := &s.clients[i]; c.id != 0 {
			s.finish(c, []byte("error the container has ended"))
		}
	}
	if dir, err := openDir(s.bundle); err == nil {
		var stat unix.Stat_t
		err := unix.Fstatat(dir, socketName, &stat, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil && stat.Ino == s.inode {
			_ = unix.Unlinkat(dir, socketName, 0)
		}
		_ = unix.Close(dir)
	}
	s.loop.Remove(s.fd)
	_ = unix.Close(s.fd)
	s.fd = -1
}

// Save puts the server with its clients into st; it goes on working should
// there be no handoff.
func (s *Server) Save(st *handoff.State) {
	if s == nil || s.fd < 0 {
		return
	}
	st.PutFD("status.fd", s.fd)
	st.PutString("status.bundle", s.bundle)
	st.PutInt("status.inode", int64(s.inode))
	st.PutInt("status.serial", int64(s.serial))
	for i := range s.clients {
		c := &s.clients[i]
		if c.id == 0 {
			continue
		}
		key := "status.client." + strconv.Itoa(i)
		st.PutFD(key+".fd", c.fd)
		st.PutInt(key+".id", int64(c.id))
		st.PutInt(key+".kind", int64(c.kind))
		st.PutInt(key+".limit", int64(c.limit))
	}
}

// Load takes over the server saved in st, with its descriptors; nil if there
// was none.
func Load(st *handoff.State, loop poll.Watcher, owner poll.Owner) (*Server, error) {
	s := &Server{
		loop: loop, owner: owner, fd: st.FD("status.fd"), bundle: st.String("status.bundle"),
		inode: uint64(st.Int("status.inode")), serial: uint32(st.Int("status.serial")),
	}
	if s.fd < 0 {
		return nil, nil
	}
	if err := loop.Add(s.fd, poll.Tag{Owner: owner, ID: listener}, poll.In); err != nil {
		s.Close()
		return nil, fmt.Errorf("status socket in %s: %w", s.bundle, err)
	}
	for i := range s.clients {
		key := "status.client." + strconv.Itoa(i)
		c := &s.clients[i]
		*c = client{
			id: uint32(st.Int(key + ".id")), fd: st.FD(key + ".fd"),
			kind: Kind(st.Int(key + ".kind")), limit: clock.Mono(st.Int(key + ".limit")),
		}
		if c.id == 0 {
			*c = client{}
			continue
		}
		mask := poll.In
		if c.kind != 0 {
			mask = 0
		}
		if loop.Add(c.fd, poll.Tag{Owner: owner, ID: c.id}, mask) != nil {
			s.drop(c)
		}
	}
	return s, nil
}
