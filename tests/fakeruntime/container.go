package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// initName is argv[0] of the process that becomes the container: it waits to be
// started, as runc's init does, so that create and start are two steps.
const initName = "fakeruntime-init"

// keeperName is argv[0] of a process that stays the container's parent.
const keeperName = "fakeruntime-keeper"

type process struct {
	Terminal bool     `json:"terminal"`
	Args     []string `json:"args"`
	Env      []string `json:"env"`
}

func loadProcess(c command) (process, error) {
	if path := c.options["--process"]; path != "" {
		var p process
		return p, decode(path, &p)
	}
	var config struct {
		Process process `json:"process"`
	}
	err := decode(filepath.Join(c.options["--bundle"], "config.json"), &config)
	return config.Process, err
}

func decode(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// launch is create, restore and exec.
func launch(c command) error {
	if err := record(); err != nil {
		return err
	}
	if misbehave(c) {
		return nil
	}
	p, err := loadProcess(c)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	gate := "-"
	if c.verb != "exec" && os.Getenv("FAKE_AUTOSTART") == "" {
		if gate, err = makeGate(c); err != nil {
			return err
		}
	}
	cmd := &exec.Cmd{Path: self, Args: append([]string{initName, gate}, p.Args...), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	// The environment of the monitor comes first: its marker tells the tests
	// which processes are theirs.
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if p.Terminal {
		slave, err := terminal(c)
		if err != nil {
			return err
		}
		cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
		cmd.SysProcAttr.Setctty = true
	}
	if os.Getenv("FAKE_MODE") == "keeper" {
		cmd.Args[0] = keeperName
	}
	pid, err := begin(cmd)
	if err != nil {
		return err
	}
	return announce(c, pid)
}

// announce makes the container's pid known, to the monitor and to kill.
func announce(c command, pid string) error {
	if c.verb != "exec" {
		if err := writeState(c, "pid", pid); err != nil {
			return err
		}
	}
	if path := c.options["--pid-file"]; path != "" && os.Getenv("FAKE_MODE") != "nopidfile" {
		return replace(path, pid)
	}
	return nil
}

// begin starts cmd and returns the container's pid: its own, or that of the
// container that it keeps as a keeper.
func begin(cmd *exec.Cmd) (string, error) {
	if cmd.Args[0] != keeperName {
		err := cmd.Start()
		if err != nil {
			return "", err
		}
		return strconv.Itoa(cmd.Process.Pid), nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer r.Close()
	cmd.ExtraFiles = []*os.File{w}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return "", err
	}
	pid, err := io.ReadAll(r)
	return string(pid), err
}

// keep is the life of a keeper: it tells the pid of the container that it
// starts, and reaps it, so that the monitor never gets its status by wait4.
func keep(args []string) {
	w := os.NewFile(3, "pipe")
	unix.CloseOnExec(3) // the container holding it would keep the runtime from its end
	self, err := os.Executable()
	if err != nil {
		os.Exit(125)
	}
	cmd := &exec.Cmd{Path: self, Args: append([]string{initName}, args...), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	if err := cmd.Start(); err != nil {
		os.Exit(125)
	}
	fmt.Fprint(w, cmd.Process.Pid)
	w.Close()
	_ = cmd.Wait()
	os.Exit(0)
}

// replace writes a file that appears whole.
func replace(path, text string) error {
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// runInit waits for start and becomes the container's program.
func runInit(args []string) {
	if gate := args[0]; gate != "-" {
		f, err := os.Open(gate) // blocks until start opens the other end
		if err != nil {
			os.Exit(125)
		}
		f.Close()
	}
	path, err := exec.LookPath(args[1])
	if err == nil {
		err = syscall.Exec(path, args[1:], os.Environ())
	}
	fmt.Fprintln(os.Stderr, "fakeruntime:", err)
	os.Exit(127)
}

func stateFile(c command, id, name string) string {
	return filepath.Join(c.root, "fake-"+id+"."+name)
}

func (c command) id() string {
	if len(c.args) == 0 {
		return ""
	}
	return c.args[0]
}

func writeState(c command, name, text string) error {
	return replace(stateFile(c, c.id(), name), text)
}

func makeGate(c command) (string, error) {
	path := stateFile(c, c.id(), "gate")
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return path, unix.Mkfifo(path, 0o600)
}

func start(c command) error {
	f, err := os.OpenFile(stateFile(c, c.id(), "gate"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

func kill(c command) error {
	text, err := os.ReadFile(stateFile(c, c.id(), "pid"))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		return err
	}
	sig := unix.SIGTERM
	if len(c.args) > 1 {
		if n, err := strconv.Atoi(c.args[1]); err == nil {
			sig = unix.Signal(n)
		} else {
			sig = unix.SignalNum("SIG" + strings.TrimPrefix(c.args[1], "SIG"))
		}
	}
	return unix.Kill(pid, sig)
}

// terminal makes a pty, hands its master to the console socket and returns the
// slave.
func terminal(c command) (*os.File, error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer master.Close()
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, fmt.Errorf("unlocking the pty: %w", err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, fmt.Errorf("numbering the pty: %w", err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil || os.Getenv("FAKE_MODE") == "noterminal" {
		return slave, err
	}
	conn, err := net.DialTimeout("unix", c.options["--console-socket"], 10*time.Second)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_, _, err = conn.(*net.UnixConn).WriteMsgUnix([]byte("/dev/ptmx"), unix.UnixRights(fd), nil)
	return slave, err
}
