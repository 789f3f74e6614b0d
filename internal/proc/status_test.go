package proc

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestExitStatus(t *testing.T) {
	for _, c := range []struct {
		name           string
		ws             unix.WaitStatus
		status, signal int
		core           bool
	}{
		{"success", 0, 0, 0, false},
		{"one", 0x0100, 1, 0, false},
		{"largest", 0xff00, 255, 0, false},
		{"killed", 9, 137, 9, false},
		{"terminated", 15, 143, 15, false},
		{"core", 11 | 0x80, 139, 11, true},
		{"real-time signal", 64, 192, 64, false},
		{"stopped is no end", 0x137f, -1, 0, false},
		{"continued is no end", 0xffff, -1, 0, false},
	} {
		status, signal, core := ExitStatus(c.ws)
		if status != c.status || signal != c.signal || core != c.core {
			t.Errorf("%s: ExitStatus(%#x) = %d, %d, %v, want %d, %d, %v",
				c.name, c.ws, status, signal, core, c.status, c.signal, c.core)
		}
	}
}

func FuzzExitStatus(f *testing.F) {
	for _, seed := range []uint32{0, 9, 0x8b, 0x100, 0xff00, 0x137f, 0xffff} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw uint32) {
		ws := unix.WaitStatus(raw & 0xffff) // the kernel's are 16 bits wide
		status, signal, _ := ExitStatus(ws)
		if status == 0 && ws != 0 && !ws.Exited() {
			t.Errorf("%#x reads as success", raw)
		}
		if status < -1 || status > 255 || (signal != 0) != ws.Signaled() {
			t.Errorf("%#x: status %d, signal %d", raw, status, signal)
		}
	})
}
