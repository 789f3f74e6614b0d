package oom

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/containerd/cgroups/v3"
)

// place is where the kernel accounts a container's memory.
type place struct {
	version int    // of the cgroup hierarchy with the memory controller: 1 or 2
	dir     string // the cgroup's directory, an absolute path
}

// below reports whether p is q or a cgroup inside it, whose events q counts.
func (p place) below(q place) bool {
	return p.version == q.version && (p.dir == q.dir || strings.HasPrefix(p.dir, q.dir+"/"))
}

// deleted is what the kernel adds to the path of a removed cgroup that a zombie
// is still accounted to.
const deleted = " (deleted)"

var errNoCgroup = errors.New("no cgroup of a memory controller")

// memoryPath picks, of a /proc/PID/cgroup, the cgroup that the process's memory
// is accounted to. The unified hierarchy's line (0::) counts only if no v1
// hierarchy has the controller, wherever it stands among the others: a hybrid
// system mounts cgroup v2 without controllers.
func memoryPath(text string) (version int, path string, err error) {
	v1, v2, err := cgroups.ParseCgroupFromReaderUnified(strings.NewReader(text))
	if err != nil {
		return 0, "", err
	}
	version, path = 2, v2
	if p, ok := v1["memory"]; ok {
		version, path = 1, p
	}
	// A path with .. leads out of what our own cgroup namespace shows.
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "/..") || strings.HasSuffix(path, deleted) {
		return 0, "", errNoCgroup
	}
	return version, path, nil
}

// mountedAt finds, in a /proc/self/mountinfo, the directory that shows the
// cgroup at path of the given version's memory hierarchy. A mount may show only
// a part of the hierarchy; of several that show the cgroup the one that shows
// most wins, and of equals the last mounted, as it may hide the others.
func mountedAt(mountinfo io.Reader, version int, path string) (string, error) {
	dir, root := "", path
	// One short buffer: a node's mountinfo can be hundreds of kilobytes long, and
	// overlay lines longer than any cgroup line is are of no interest.
	r := bufio.NewReaderSize(mountinfo, 2048)
	for {
		line, err := r.ReadSlice('\n')
		if err == nil && bytes.Contains(line, []byte(" - cgroup")) {
			if d, r, ok := shows(string(line), version, path); ok && len(r) <= len(root) {
				dir, root = d, r
			}
		}
		for err == bufio.ErrBufferFull {
			_, err = r.ReadSlice('\n')
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return "", fmt.Errorf("read mountinfo: %w", err)
		}
	}
	if dir == "" {
		return "", fmt.Errorf("find a mount that shows cgroup %s: %w", path, errNoCgroup)
	}
	return dir, nil
}

// shows reads one line of mountinfo: ID, parent, device, root within the file
// system, mount point, options, any number of tags, a dash, type, source, and
// the file system's options. It returns the cgroup's directory and the mount's root.
func shows(line string, version int, path string) (dir, root string, ok bool) {
	mount, fs, found := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
	at, what := strings.Fields(mount), strings.Fields(fs)
	if !found || len(at) < 5 || len(what) < 3 {
		return "", "", false
	}
	switch version {
	case 1:
		if what[0] != "cgroup" || !strings.Contains(","+what[2]+",", ",memory,") {
			return "", "", false
		}
	default:
		if what[0] != "cgroup2" {
			return "", "", false
		}
	}
	root, point := unescape(at[3]), unescape(at[4])
	rest := path
	if root != "/" {
		if rest, found = strings.CutPrefix(path, root); !found || rest != "" && rest[0] != '/' {
			return "", "", false
		}
	}
	return filepath.Join(point, rest), root, true
}

// unescape undoes mountinfo's octal escapes of blanks and backslashes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && octal(s[i+1:i+4]) {
			b = append(b, (s[i+1]-'0')<<6|(s[i+2]-'0')<<3|(s[i+3]-'0'))
			i += 3
			continue
		}
		b = append(b, s[i])
	}
	return string(b)
}

// octal reports whether s is three octal digits that fit a byte.
func octal(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '7' {
			return false
		}
	}
	return s[0] <= '3'
}
