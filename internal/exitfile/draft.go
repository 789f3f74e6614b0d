package exitfile

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// draft is a file on its way into a directory: under a hidden name until it is
// complete, so that nobody ever sees a part of it.
type draft struct {
	dir, name string
	content   []byte
	temp      string // the hidden file, "" while there is none
	fileFD    int    // owned, from create to settle
}

// Write puts a file with the given content into dir, whole or not at all: if the
// monitor or the machine dies on the way, the name stands for the old file, for
// none, or for the new one. It takes as long as the file system does.
func Write(dir, name string, content []byte) error {
	d := &draft{dir: dir, name: name, content: content}
	if err := d.create(); err != nil {
		return err
	}
	syncErr := d.sync()
	if err := d.publish(); err != nil {
		return err
	}
	if err := d.settle(); err != nil {
		return err
	}
	return syncErr
}

// path names the file for errors.
func (d *draft) path() string { return d.dir + "/" + d.name }

// create writes the hidden file; after an error nothing is left of it. The
// directory is not opened before settle, as somebody waits for each file.
func (d *draft) create() error {
	if d.name == "" || strings.Contains(d.name, "/") {
		return fmt.Errorf("write %q in %s: %w", d.name, d.dir, unix.EINVAL)
	}
	fd, temp, err := createTemp(d.dir, d.name)
	if err == nil {
		d.temp, d.fileFD = temp, fd
		if err = writeAll(fd, d.content); err == nil {
			return nil
		}
		_ = unix.Close(fd)
		_ = unix.Unlink(temp)
	}
	return fmt.Errorf("write %s: %w", d.path(), err)
}

// sync has the content written to the device, so that after a crash the name
// does not stand for an empty file.
func (d *draft) sync() error {
	if err := fsync(d.fileFD); err != nil {
		return fmt.Errorf("fsync %s: %w", d.path(), err)
	}
	return nil
}

// publish gives the file its name. CRI-O waits for it by fsnotify, whose Create
// stands for a rename into the directory as well; Podman takes the file's ctime,
// which is the moment of the rename, for the end of the container.
func (d *draft) publish() error {
	if err := unix.Rename(d.temp, d.path()); err != nil {
		_ = unix.Unlink(d.temp)
		_ = unix.Close(d.fileFD)
		return fmt.Errorf("rename %s into place: %w", d.path(), err)
	}
	return nil
}

// settle makes the name last. The file is closed only now, as whoever watches the
// directory would be woken up by that before there is anything to see.
func (d *draft) settle() error {
	_ = unix.Close(d.fileFD)
	dirFD, err := unix.Open(d.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open directory %s: %w", d.dir, err)
	}
	defer unix.Close(dirFD)
	if err := fsync(dirFD); err != nil {
		return fmt.Errorf("fsync directory %s: %w", d.dir, err)
	}
	return nil
}

// A temporary name is a dot, the file's name as far as it fits the 255 bytes of
// a name, a dot and a digit. It is always the same one, so that what a monitor
// that was killed between create and publish has left behind is replaced by the
// next one's: nobody has to look for it in a directory of hundreds of exit files.
const longest = 252

// createTemp creates a temporary file for the file name in dir. It returns the
// file's path.
func createTemp(dir, name string) (fd int, temp string, err error) {
	prefix := dir + "/." + name[:min(len(name), longest)] + "."
	for i := range 10 {
		temp = prefix + strconv.Itoa(i)
		fd, err = createNew(temp)
		if err == unix.EEXIST && unix.Unlink(temp) == nil {
			fd, err = createNew(temp)
		}
		if err != unix.EEXIST {
			break
		}
		// Somebody has put there what is no file, and it is not for us to remove.
	}
	if err != nil {
		return -1, "", fmt.Errorf("create temporary file: %w", err)
	}
	return fd, temp, nil
}

func createNew(path string) (fd int, err error) {
	for {
		fd, err = unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// fsync tries again when a signal interrupts it; a file system that knows no
// fsync is none that could lose anything by it.
func fsync(fd int) error {
	for {
		err := unix.Fsync(fd)
		switch err {
		case unix.EINTR:
			continue
		case unix.EINVAL, unix.EROFS:
			return nil
		}
		return err
	}
}
