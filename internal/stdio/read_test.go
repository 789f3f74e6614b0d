package stdio

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestRead(t *testing.T) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	b := make([]byte, 8)
	if n, state := Read(p[0], b); n != 0 || state != Dry {
		t.Errorf("empty: %d, %d", n, state)
	}
	if _, err := unix.Write(p[1], []byte("abc")); err != nil {
		t.Fatal(err)
	}
	unix.Close(p[1])
	if n, state := Read(p[0], b); n != 3 || state != More {
		t.Errorf("data: %d, %d", n, state)
	}
	if n, state := Read(p[0], b); n != 0 || state != Ended {
		t.Errorf("closed: %d, %d", n, state)
	}
}

func TestReadOfATerminalWithoutUser(t *testing.T) {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(master)
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	slave, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		t.Fatal(errno)
	}
	unix.Close(int(slave))
	if n, state := Read(master, make([]byte, 8)); n != 0 || state != Ended {
		t.Errorf("input/output error: %d, %d", n, state)
	}
}

func TestBufferIsGivenBack(t *testing.T) {
	b, err := NewBuffer()
	if err != nil {
		t.Fatal(err)
	}
	b.Take()[0] = 1
	b.Release()
	if got := b.Take()[0]; got != 0 {
		t.Errorf("the memory still holds %d", got)
	}
}
