package main

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// toolName is the base name of the program in tool/, in C or in Go.
const toolName = "bench-tool"

//go:embed tool/tool.c
var toolSource []byte

// buildTool makes the program in dir and returns its path: compiled from C
// where a compiler is, else a link to this program, whose start-up then is part
// of both sides' figures.
func buildTool(dir string) (string, error) {
	path := filepath.Join(dir, toolName)
	if gcc, err := exec.LookPath("gcc"); err == nil {
		source := path + ".c"
		if err := os.WriteFile(source, toolSource, 0o644); err != nil {
			return "", err
		}
		out, err := exec.Command(gcc, "-O2", "-static", "-o", path, source).CombinedOutput()
		if err == nil {
			return path, nil
		}
		fmt.Fprintf(os.Stderr, "bench: compile the runtime: %v: %s; using the slower one in Go\n", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	return path, os.Symlink(self, path)
}
