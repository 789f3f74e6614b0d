package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// toolMain is tool/tool.c in Go, which says what each command does. The
// container is a process of its own here, as Go cannot fork.
func toolMain(args []string) int {
	if err := tool(args); err != nil {
		fmt.Fprintln(os.Stderr, toolName+":", err)
		return 1
	}
	return 0
}

func tool(args []string) error {
	if i := slices.Index(args, "create"); i > 0 {
		return toolCreate(args[:i], args[i+1:])
	}
	if len(args) > 1 && args[0] == "container" {
		return toolContainer(args[1:])
	}
	switch {
	case len(args) == 3 && args[0] == "feed":
		return toolWrite(args[1:])
	case len(args) == 3 && args[0] == "copy":
		return toolCopy(args[1], args[2])
	case len(args) == 1 && args[0] == "drain":
		return toolDrain()
	case len(args) == 3 && args[0] == "watch":
		return toolWatch(args[1], args[2])
	}
	return fmt.Errorf("arguments %q", args)
}

// readyFD is where the container's process says that it listens to SIGUSR1.
const readyFD = 3

func toolCreate(mode, opts []string) error {
	var pidFile, console string
	for i := 0; i+1 < len(opts); i++ {
		switch opts[i] {
		case "--pid-file":
			pidFile = opts[i+1]
		case "--console-socket":
			console = opts[i+1]
		}
	}
	stdio := []uintptr{0, 1, 2}
	if console != "" {
		slave, err := toolTerminal(console)
		if err != nil {
			return err
		}
		stdio = []uintptr{uintptr(slave), uintptr(slave), uintptr(slave)}
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	pid, err := syscall.ForkExec("/proc/self/exe", append([]string{toolName, "container"}, mode...), &syscall.ProcAttr{
		Files: append(stdio, w.Fd()),
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: console != ""},
	})
	if err != nil {
		return fmt.Errorf("start the container: %w", err)
	}
	w.Close()
	if _, err := r.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("wait for the container: %w", err)
	}
	if err := os.WriteFile(pidFile+".tmp", []byte(strconv.Itoa(pid)), 0o600); err != nil {
		return err
	}
	return os.Rename(pidFile+".tmp", pidFile)
}

// toolTerminal opens a terminal, sends its master to the monitor and returns
// the slave.
func toolTerminal(console string) (int, error) {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open /dev/ptmx: %w", err)
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return -1, fmt.Errorf("unlock the terminal: %w", err)
	}
	slave, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return -1, fmt.Errorf("number of the terminal: %w", err)
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Net: "unix", Name: console})
	if err != nil {
		return -1, err
	}
	defer conn.Close()
	if _, _, err := conn.WriteMsgUnix([]byte("pty"), unix.UnixRights(master), nil); err != nil {
		return -1, err
	}
	return unix.Open(fmt.Sprintf("/dev/pts/%d", slave), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
}

func toolContainer(mode []string) error {
	begin := make(chan os.Signal, 1)
	signal.Notify(begin, unix.SIGUSR1)
	if _, err := unix.Write(readyFD, []byte{0}); err != nil {
		return err
	}
	unix.Close(readyFD)
	if mode[0] == "pause" {
		select {}
	}
	<-begin
	if mode[0] == "tick" {
		return toolTick(mode[1:])
	}
	err := toolWrite(mode[1:])
	if mode[0] == "fill" && err == nil {
		select {}
	}
	return err
}

func toolWrite(args []string) error {
	length, err1 := strconv.Atoi(args[0])
	total, err2 := strconv.Atoi(args[1])
	if err1 != nil || err2 != nil || length < 1 {
		return fmt.Errorf("arguments %q", args)
	}
	line := append(bytes.Repeat([]byte("x"), length-1), '\n')
	block := bytes.Repeat(line, max(64<<10/length, 1))
	for ; total >= len(block); total -= len(block) {
		if _, err := os.Stdout.Write(block); err != nil {
			return err
		}
	}
	_, err := os.Stdout.Write(block[:total-total%length])
	return err
}

func toolTick(args []string) error {
	count, err1 := strconv.Atoi(args[0])
	micros, err2 := strconv.Atoi(args[1])
	if err1 != nil || err2 != nil {
		return fmt.Errorf("arguments %q", args)
	}
	ticker := time.NewTicker(time.Duration(micros) * time.Microsecond)
	defer ticker.Stop()
	for range count {
		<-ticker.C
		if _, err := fmt.Println(monotonic()); err != nil {
			return err
		}
	}
	return nil
}

// monotonic is CLOCK_MONOTONIC in nanoseconds, the same in every process.
func monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

func toolCopy(lengthArg, path string) error {
	length, err := strconv.Atoi(lengthArg)
	if err != nil {
		return err
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	in := make([]byte, 64<<10)
	block := make([]byte, len(in)*(1+recordHead))
	for {
		n, err := os.Stdin.Read(in)
		if err == io.EOF {
			return out.Close()
		}
		if err != nil {
			return err
		}
		if _, err := out.Write(block[:n+n*recordHead/length]); err != nil {
			return err
		}
	}
}

func toolDrain() error {
	buf, total := make([]byte, 64<<10), 0
	for {
		n, err := unix.Read(0, buf)
		if err != nil && err != unix.EINTR {
			return err
		}
		if n == 0 {
			_, err := fmt.Println(total)
			return err
		}
		if n > 0 {
			total += n - 1
		}
	}
}

func toolWatch(path, countArg string) error {
	count, err := strconv.Atoi(countArg)
	if err != nil {
		return err
	}
	log, err := os.Open(path)
	if err != nil {
		return err
	}
	var ages []int64
	buf, at := make([]byte, 64<<10), int64(0)
	for giveUp := time.Now().Add(patience); len(ages) < count; {
		n, err := log.ReadAt(buf, at)
		now := monotonic()
		if err != nil && err != io.EOF {
			return err
		}
		if time.Now().After(giveUp) {
			return fmt.Errorf("%d of %d lines after %v", len(ages), count, patience)
		}
		for end := bytes.IndexByte(buf[:n], '\n'); end >= 0; end = bytes.IndexByte(buf[:n], '\n') {
			text := buf[:end]
			if stamp, err := strconv.ParseInt(string(text[bytes.LastIndexByte(text, ' ')+1:]), 10, 64); err == nil {
				ages = append(ages, now-stamp)
			}
			at += int64(end + 1)
			n = copy(buf, buf[end+1:n])
		}
	}
	out := bufio.NewWriter(os.Stdout)
	for _, age := range ages {
		fmt.Fprintln(out, age)
	}
	return out.Flush()
}
