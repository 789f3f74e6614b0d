package tests

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"conmon/tests/harness"
)

// homes are the packages that may import each outside library; golang.org/x/sys
// is at home everywhere.
var homes = map[string][]string{
	"github.com/spf13/cobra":               {"cmd/conmon"},
	"github.com/spf13/pflag":               {"cmd/conmon"},
	"github.com/containerd/console":        {"internal/tty"},
	"github.com/containerd/cgroups":        {"internal/oom"},
	"github.com/coreos/go-systemd":         {"internal/launch"},
	"github.com/klauspost/compress":        {"internal/logging/compress"},
	"github.com/inconshreveable/mousetrap": nil,
}

// base are the packages of our own that every other may import.
var base = []string{"clock", "config", "handoff", "poll", "stdio", "offload"}

// above are the packages of our own that import more than the base, and what.
var above = map[string][]string{
	"internal/monitor": {"*"},
	"internal/launch":  {"diag", "logging", "parent", "proc"},
	"internal/stay":    {"monitor"},
	// Parts that people's commands use.
	"internal/attach/client": {"status/client"},
	"cmd/conmon":             {"*"},
}

// brokenOnPile are packages that need a heap proper (see tools/overlay): they ask it
// what is still in use, and equal values are not equal without an answer.
var brokenOnPile = []string{"weak", "unique", "net/netip"}

// The arrows of ARCHITECTURE.md, and each outside library has one home.
func TestImports(t *testing.T) {
	harness.NeedTool(t, "go")
	cmd := exec.Command("go", "list", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", "./cmd/...", "./internal/...")
	cmd.Dir = harness.Repo()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		name := strings.TrimPrefix(words[0], "conmon/")
		for _, imported := range words[1:] {
			if !mayImport(name, imported) {
				t.Errorf("%s imports %s", name, imported)
			}
		}
	}
}

func mayImport(name, imported string) bool {
	if own, ok := strings.CutPrefix(imported, "conmon/internal/"); ok {
		return slices.Contains(base, own) || slices.Contains(above[name], own) || slices.Contains(above[name], "*")
	}
	if slices.Contains(brokenOnPile, imported) {
		return false
	}
	if !strings.Contains(imported, ".") || strings.HasPrefix(imported, "golang.org/x/sys/") {
		return true // the standard library
	}
	for library, names := range homes {
		if imported == library || strings.HasPrefix(imported, library+"/") {
			return slices.Contains(names, name)
		}
	}
	return false
}
