package attach

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxSocketPath is the longest path in a socket address.
const maxSocketPath = 107

// connectionQueue is how many clients may wait to be accepted.
const connectionQueue = 128

// socketName is the socket's name in the bundle.
const socketName = "attach"

// endpoint is the listening socket and the names that lead to it. The stamps
// keep a monitor from removing what the next monitor in the bundle has made.
type endpoint struct {
	fd        int
	path      string
	stamp     string
	link      string // "" if there is none
	linkStamp string
}

// listen binds the socket, and makes the symbolic link unless --full-attach.
func listen(opts *Options) (endpoint, error) {
	e := endpoint{fd: -1, path: opts.Bundle + "/" + socketName}
	if err := e.bind(opts.Bundle); err != nil {
		e.close()
		return endpoint{fd: -1}, fmt.Errorf("attach socket %s: %w", e.path, err)
	}
	if opts.FullAttach {
		return e, nil
	}
	if err := e.makeLink(opts.Bundle, linkPath(opts.SocketDir, opts.CUUID)); err != nil {
		e.close()
		return endpoint{fd: -1}, err
	}
	return e, nil
}

func (e *endpoint) bind(bundle string) error {
	dir, err := unix.Open(bundle, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open bundle: %w", err)
	}
	defer unix.Close(dir)
	if err := unix.Unlinkat(dir, socketName, 0); err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove old one: %w", err)
	}
	if e.fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	// The mode of the file is that of the socket, less the umask: set before
	// bind, there is no moment at which others can connect.
	if err := unix.Fchmod(e.fd, 0o700); err != nil {
		return fmt.Errorf("fchmod: %w", err)
	}
	// The bundle's own path may be longer than an address holds.
	if err := unix.Bind(e.fd, &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(dir) + "/" + socketName}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	e.stamp = stamp(e.path)
	if err := unix.Listen(e.fd, connectionQueue); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	return nil
}

// linkPath is the path of the link to the bundle. One that is exactly as long as
// a socket address can be loses its last character: engines cut the path of the
// socket behind it in the same way, and the two must not be the same.
func linkPath(dir, cuuid string) string {
	link := strings.TrimRight(dir, "/") + "/" + cuuid
	if len(link) == maxSocketPath {
		link = link[:maxSocketPath-1]
	}
	return link
}

func (e *endpoint) makeLink(bundle, link string) error {
	if i := strings.LastIndexByte(link, '/'); i > 0 {
		if err := os.MkdirAll(link[:i], 0o755); err != nil {
			return fmt.Errorf("make directory for attach links: %w", err)
		}
	}
	if err := unix.Unlink(link); err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove old link %s: %w", link, err)
	}
	if err := unix.Symlink(bundle, link); err != nil {
		return fmt.Errorf("link %s to the bundle: %w", link, err)
	}
	e.link, e.linkStamp = link, stamp(link)
	return nil
}

// close closes the socket and removes the names that are still its own.
func (e *endpoint) close() {
	if e.fd < 0 {
		return
	}
	if e.stamp != "" && stamp(e.path) == e.stamp {
		_ = unix.Unlink(e.path)
	}
	if e.link != "" && stamp(e.link) == e.linkStamp {
		_ = unix.Unlink(e.link)
	}
	_ = unix.Close(e.fd)
	e.fd = -1
}

// stamp identifies what is at path, which may itself be a link; "" if there is
// nothing. Inode numbers alone are soon used again.
func stamp(path string) string {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return ""
	}
	return strconv.FormatUint(st.Ino, 10) + "." + strconv.FormatInt(st.Mtim.Nano(), 10)
}
