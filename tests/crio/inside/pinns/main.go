// Command pinns is as much of CRI-O's program of that name as the scenarios
// need: it makes namespaces for a pod and pins them as files.
//
//	pinns -d DIR -f NAME [-s SYSCTL=VALUE]... [--uts|--ipc|--net[=host]]...
//
// pins each kind at DIR/KINDns/NAME; with =host it is the caller's own one.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	// A namespace belongs to the thread that made it.
	runtime.LockOSThread()
	if err := pin(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pinns:", err)
		os.Exit(1)
	}
}

func pin(args []string) error {
	flags := map[string]int{"--uts": unix.CLONE_NEWUTS, "--ipc": unix.CLONE_NEWIPC, "--net": unix.CLONE_NEWNET}
	var dir, name string
	var kinds, sysctls []string
	var fresh int
	for i := 0; i < len(args); i++ {
		kind, host, _ := strings.Cut(args[i], "=")
		flag, isKind := flags[kind]
		switch {
		case isKind:
			kinds = append(kinds, strings.TrimPrefix(kind, "--"))
			if host != "host" {
				fresh |= flag
			}
			continue
		case i+1 == len(args):
			return fmt.Errorf("argument %q is not understood", args[i])
		}
		switch i++; args[i-1] {
		case "-d":
			dir = args[i]
		case "-f":
			name = args[i]
		case "-s":
			sysctls = append(sysctls, args[i])
		default:
			return fmt.Errorf("argument %q is not understood", args[i-1])
		}
	}
	if err := unix.Unshare(fresh); err != nil {
		return fmt.Errorf("making namespaces: %w", err)
	}
	for _, s := range sysctls {
		key, value, _ := strings.Cut(s, "=")
		if err := os.WriteFile("/proc/sys/"+strings.ReplaceAll(key, ".", "/"), []byte(value), 0); err != nil {
			return err
		}
	}
	for _, kind := range kinds {
		if err := bind(kind, filepath.Join(dir, kind+"ns", name)); err != nil {
			return err
		}
	}
	return nil
}

func bind(kind, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	if err := unix.Mount("/proc/thread-self/ns/"+kind, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("pinning %s: %w", path, err)
	}
	return nil
}
