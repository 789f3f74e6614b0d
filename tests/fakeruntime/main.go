// Command fakeruntime is an OCI runtime without containers, for tests that need
// thousands of them or one that misbehaves. It understands the command lines
// that a monitor builds (create, restore, exec) and what an engine needs beside
// (start, kill, state, delete). The "container" is an ordinary child process: it runs
// process.args of the bundle's config.json, or of the --process file, on the
// host's own root directory.
//
// These variables, which reach it through the monitor's environment, change
// what it does:
//
//	FAKE_MODE=fail        print FAKE_MESSAGE on standard error, exit with FAKE_STATUS (1)
//	FAKE_MODE=hang        never return from create, restore or exec
//	FAKE_MODE=nopidfile   start the container, write no pid file
//	FAKE_MODE=emptypidfile  start nothing, leave an empty pid file, exit with FAKE_STATUS
//	FAKE_MODE=badpidfile  start nothing, write "12x" as the pid file
//	FAKE_MODE=noterminal  never send a terminal
//	FAKE_MODE=keeper      the container's parent stays alive, so that the monitor never becomes it
//	FAKE_STATUS=N         exit status of the runtime itself (with a container too)
//	FAKE_ARGV=FILE        append the arguments to FILE, one JSON array a line
//	FAKE_ENVIRON=FILE     write the environment to FILE, one variable a line
//	FAKE_AUTOSTART=1      create and restore do not wait for start
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	switch os.Args[0] {
	case initName:
		runInit(os.Args[1:])
	case keeperName:
		keep(os.Args[1:])
	}
	c := parse(os.Args[1:])
	var err error
	switch c.verb {
	case "create", "restore", "exec":
		err = launch(c)
	case "start":
		err = start(c)
	case "kill":
		err = kill(c)
	case "state", "delete", "list":
	default:
		err = fmt.Errorf("unknown command %q", c.verb)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fakeruntime:", err)
		os.Exit(1)
	}
	os.Exit(number("FAKE_STATUS", 0))
}

// command is a parsed command line.
type command struct {
	verb    string
	root    string            // --root, where containers are remembered
	options map[string]string // of the subcommand; a switch has the value ""
	args    []string          // the rest: container id, signal
}

// valued are the options that take a value; all others are switches.
var valued = []string{
	"--root", "--log", "--log-format", "--bundle", "--pid-file", "--process", "--console-socket",
	"--image-path", "--work-path", "--preserve-fds",
}

func parse(args []string) command {
	c := command{root: os.TempDir(), options: map[string]string{}}
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		name, value, glued := strings.Cut(word, "=")
		switch {
		case !strings.HasPrefix(word, "-") && c.verb == "":
			c.verb = word
			continue
		case !strings.HasPrefix(word, "-"):
			c.args = append(c.args, word)
			continue
		case !glued && slices.Contains(valued, name) && len(args) > 0:
			value, args = args[0], args[1:]
		}
		if name == "--root" {
			c.root = value
		}
		c.options[name] = value
	}
	return c
}

func number(variable string, fallback int) int {
	n, err := strconv.Atoi(os.Getenv(variable))
	if err != nil {
		return fallback
	}
	return n
}

// record writes down how we were called, for tests that look at it.
func record() error {
	if path := os.Getenv("FAKE_ARGV"); path != "" {
		line, err := json.Marshal(os.Args[1:])
		if err != nil {
			return err
		}
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	if path := os.Getenv("FAKE_ENVIRON"); path != "" {
		return os.WriteFile(path, []byte(strings.Join(os.Environ(), "\n")+"\n"), 0o644)
	}
	return nil
}

// misbehave carries out the modes that start no container; it reports whether
// that was all.
func misbehave(c command) bool {
	pidFile := c.options["--pid-file"]
	switch os.Getenv("FAKE_MODE") {
	case "fail":
		fmt.Fprint(os.Stderr, os.Getenv("FAKE_MESSAGE"))
		os.Exit(number("FAKE_STATUS", 1))
	case "hang":
		for {
			time.Sleep(time.Hour)
		}
	case "emptypidfile":
		_ = os.WriteFile(pidFile, nil, 0o644)
	case "badpidfile":
		_ = os.WriteFile(pidFile, []byte("12x"), 0o644)
	default:
		return false
	}
	return true
}
