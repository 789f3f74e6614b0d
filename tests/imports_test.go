package tests

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// homes says which package an outside module may be imported by. Each has one
// home, so that what it costs is known and what it does can be replaced.
var homes = map[string][]string{
	"github.com/spf13/cobra":           {"cmd/conmon"},
	"github.com/spf13/pflag":           {"cmd/conmon"},
	"github.com/containerd/console":    {"internal/tty"},
	"github.com/containerd/cgroups/v3": {"internal/oom"},
	"github.com/coreos/go-systemd/v22": {"internal/launch"},
	"github.com/klauspost/compress":    {"internal/logging/compress"},
	"golang.org/x/sys":                 nil, // everywhere
	"conmon/internal/monitor":          {"internal/stay"},
	"conmon/internal/stay":             {"cmd/conmon"},
	"conmon/internal/launch":           {"cmd/conmon"},
	"conmon/internal/logging/compress": {"cmd/conmon"},
	"conmon/internal/status/client":    {"cmd/conmon", "internal/attach/client"},
	"conmon/internal/attach/client":    {"cmd/conmon"},
	"conmon/internal/ociruntime":       {"internal/monitor"},
	"conmon/internal/exitfile":         {"internal/monitor"},
	"conmon/internal/oom":              {"internal/monitor"},
	"conmon/internal/notify":           {"internal/monitor"},
	"conmon/internal/ctl":              {"internal/monitor"},
	"conmon/internal/attach":           {"internal/monitor"},
	"conmon/internal/logging":          {"internal/monitor", "internal/launch", "cmd/conmon"},
	"conmon/internal/status":           {"internal/monitor", "internal/status/client", "cmd/conmon"},
	"conmon/internal/tty":              {"internal/monitor", "internal/attach/client", "cmd/conmon"},
	"conmon/internal/proc":             {"internal/monitor", "internal/launch"},
	"conmon/internal/parent":           {"internal/monitor", "internal/launch"},
	"conmon/internal/diag":             {"internal/monitor"},
	"conmon/internal/version":          {"internal/monitor", "cmd/conmon"},
	"conmon/internal/offload":          {"internal/monitor", "internal/logging", "internal/oom"},
	"conmon/internal/config":           nil,
	"conmon/internal/clock":            nil,
	"conmon/internal/handoff":          nil,
	"conmon/internal/poll":             nil,
	"conmon/internal/stdio":            nil,
}

// The arrows of ARCHITECTURE.md: nobody imports what is not meant for them.
func TestImports(t *testing.T) {
	for _, root := range []string{"../cmd", "../internal"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
			if err != nil {
				return err
			}
			importer := strings.TrimPrefix(filepath.Dir(path), "../")
			for _, spec := range file.Imports {
				name, _ := strconv.Unquote(spec.Path.Value)
				checkImport(t, importer, name)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func checkImport(t *testing.T, importer, name string) {
	t.Helper()
	if first, _, _ := strings.Cut(name, "/"); first != "conmon" && !strings.Contains(first, ".") {
		return // the standard library
	}
	best := ""
	for module := range homes {
		if (name == module || strings.HasPrefix(name, module+"/")) && len(module) > len(best) {
			best = module
		}
	}
	switch allowed := homes[best]; {
	case best == "":
		t.Errorf("%s imports %s, which has no home in this list", importer, name)
	case allowed != nil && !slices.Contains(allowed, importer):
		t.Errorf("%s imports %s, whose home is %s", importer, name, strings.Join(allowed, ", "))
	}
}
