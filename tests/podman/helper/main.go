// Command helper is what the Podman suite needs beside Podman and busybox. The
// name that it is called by decides what it is: crun or runc is an OCI runtime
// that asks for no resource limits, anything else a tool for use in containers.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

func main() {
	var err error
	switch name := filepath.Base(os.Args[0]); {
	case name == "crun" || name == "runc":
		err = beRuntime(name)
	case len(os.Args) > 2 && os.Args[1] == "notify":
		err = notify(os.Args[2:])
	default:
		err = errors.New("usage: helper notify MESSAGE [MESSAGE]")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "helper:", err)
		os.Exit(1)
	}
}

// beRuntime becomes the real runtime, after taking the resource limits out of
// the bundle: in a private systemd the controllers for them may be missing.
func beRuntime(name string) error {
	if i := slices.Index(os.Args, "--bundle"); i >= 0 && i+1 < len(os.Args) && slices.Contains(os.Args, "create") {
		if err := dropLimits(filepath.Join(os.Args[i+1], "config.json")); err != nil {
			return err
		}
	}
	path := "/usr/bin/" + name
	if _, err := os.Stat(path); err != nil {
		path = "/usr/sbin/" + name
	}
	return fmt.Errorf("executing %s: %w", path, syscall.Exec(path, append([]string{path}, os.Args[1:]...), os.Environ()))
}

func dropLimits(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var spec map[string]any
	if err := json.Unmarshal(text, &spec); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	if linux, ok := spec["linux"].(map[string]any); ok {
		delete(linux, "resources")
	}
	// Podman's own is 1.0.2-dev, which some releases of runc refuse.
	spec["ociVersion"] = "1.0.2"
	if text, err = json.Marshal(spec); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// notify sends each message as one datagram, as sd_notify(3) does.
func notify(messages []string) error {
	c, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		return err
	}
	defer c.Close()
	for _, m := range messages {
		if _, err := c.Write([]byte(m)); err != nil {
			return err
		}
	}
	return nil
}
