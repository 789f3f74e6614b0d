// Package ociruntime knows how an OCI runtime (runc, crun) is called and what
// it leaves behind.
package ociruntime

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"conmon/internal/config"
)

// Argv returns the runtime's command line for what cfg asks for: create,
// restore or exec. consoleSocket is "" without a terminal.
func Argv(cfg *config.Config, consoleSocket string) []string {
	argv := []string{cfg.Runtime}
	if cfg.SystemdCgroup && !cfg.Exec {
		argv = append(argv, "--systemd-cgroup")
	}
	argv = append(argv, cfg.RuntimeArgs...)
	switch {
	case cfg.Exec:
		argv = append(argv, "exec", "--pid-file", cfg.ContainerPidFile, "--process", cfg.ProcessSpec, "--detach")
	case cfg.Restore != "":
		argv = append(appendContainer(argv, "restore", cfg), "--detach", "--image-path", cfg.Restore, "--work-path", cfg.Bundle)
	default:
		argv = appendContainer(argv, "create", cfg)
	}
	argv = append(argv, cfg.RuntimeOpts...)
	if consoleSocket != "" {
		argv = append(argv, "--console-socket", consoleSocket)
	}
	return append(argv, cfg.CID)
}

// appendContainer appends what create and restore have in common.
func appendContainer(argv []string, verb string, cfg *config.Config) []string {
	argv = append(argv, verb, "--bundle", cfg.Bundle, "--pid-file", cfg.ContainerPidFile)
	if cfg.NoPivot {
		argv = append(argv, "--no-pivot")
	}
	if cfg.NoNewKeyring {
		argv = append(argv, "--no-new-keyring")
	}
	return argv
}

// PassesListenPid reports whether the runtime is to find its own pid in
// LISTEN_PID: when the engine's socket activation named us, or if cfg says so
// whoever was named. env is the engine's environment, self our launcher's pid.
func PassesListenPid(cfg *config.Config, env []string, self int) bool {
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, listenPid); ok {
			return cfg.ReplaceListenPid || v == strconv.Itoa(self)
		}
	}
	return false
}

const listenPid = "LISTEN_PID="

// WithoutListenPid returns env less LISTEN_PID.
func WithoutListenPid(env []string) []string {
	out := make([]string, 0, len(env))
	for _, kv := range env {
		if !strings.HasPrefix(kv, listenPid) {
			out = append(out, kv)
		}
	}
	return out
}

// ForgetPid removes a pid file that names a process, before the runtime starts:
// the process is of an earlier run, and a runtime that fails to write its own
// must not be taken to mean it. An empty one stays, CRI-O has made it.
func ForgetPid(path string) {
	if st, err := os.Lstat(path); err == nil && st.Mode().IsRegular() && st.Size() > 0 {
		_ = os.Remove(path)
	}
}

// ReadPid reads the pid file that the runtime was told to write.
func ReadPid(path string) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read the container's pid: %w", err)
	}
	text := strings.TrimSpace(string(b))
	if text == "" {
		return 0, fmt.Errorf("the container's pid file %s is empty", path)
	}
	pid, err := strconv.Atoi(text)
	if err != nil || pid <= 0 {
		return 0, fmt.Errorf("the container's pid file %s holds %q, not a pid", path, text)
	}
	return pid, nil
}
