package exitfile

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestRecord(t *testing.T) {
	e := &Exit{ID: "cid", Status: 143, Signal: 15}
	for _, c := range []struct {
		name string
		to   func(persist, exit, bundle string) Destinations
		want []string // paths, "p", "e" and "b" for the directories
		errs int
	}{
		{"all", func(p, e, b string) Destinations { return destinations(p, e, b) }, []string{"p/exit", "p/exit.json", "e/cid"}, 0},
		{"no persist dir", func(p, e, b string) Destinations { return destinations("", e, b) }, []string{"e/cid", "b/exit.json"}, 0},
		{"persist dir missing", func(p, e, b string) Destinations { return destinations(p+"/x", e, b) }, []string{"e/cid"}, 2},
		{"exit dir missing", func(p, e, b string) Destinations { return destinations(p, e+"/x", b) }, []string{"p/exit", "p/exit.json"}, 1},
		{"exec session", func(p, e, b string) Destinations { return Destinations{} }, nil, 0},
	} {
		for _, inMemory := range []bool{false, true} {
			dirs := map[string]string{"p": t.TempDir(), "e": t.TempDir(), "b": t.TempDir()}
			to := c.to(dirs["p"], dirs["e"], dirs["b"])
			to.InMemory = inMemory
			if errs := Record(to, e, 2*time.Second); len(errs) != c.errs {
				t.Errorf("%s: errors %v", c.name, errs)
			}
			if got := present(t, dirs); !slices.Equal(got, c.want) {
				t.Errorf("%s: files %q, want %q", c.name, got, c.want)
			}
			for _, f := range c.want {
				checkRecord(t, dirs[f[:1]]+f[1:])
			}
		}
	}
}

func destinations(persist, exit, bundle string) Destinations {
	return Destinations{PersistDir: persist, ExitDir: exit, Bundle: bundle}
}

func TestVolatile(t *testing.T) {
	memory, device := t.TempDir(), "/proc"
	if os.Geteuid() != 0 {
		t.Skip("mounting a tmpfs needs root")
	}
	if err := unix.Mount("tmpfs", memory, "tmpfs", 0, ""); err != nil {
		t.Skip("mount a tmpfs: ", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(memory, 0) })
	for _, c := range []struct {
		to   Destinations
		want bool
	}{
		{destinations(memory, memory, device), true}, // the bundle gets nothing
		{destinations("", memory, device), false},
		{destinations("", memory, memory), true},
		{destinations(memory, "", device), true},
		{destinations(memory, device, memory), false},
		{destinations(memory, memory+"/missing", memory), false},
		{Destinations{}, true}, // no records at all
	} {
		if got := c.to.Volatile(); got != c.want {
			t.Errorf("%+v: %v", c.to, got)
		}
	}
}

// present lists the files in the directories.
func present(t *testing.T, dirs map[string]string) []string {
	t.Helper()
	var all []string
	for _, key := range []string{"p", "e", "b"} {
		entries, err := os.ReadDir(dirs[key])
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			all = append(all, key+"/"+e.Name())
		}
	}
	return all
}

// checkRecord reads a record of status 143 back.
func checkRecord(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(path, ".json") {
		if string(b) != "143" {
			t.Errorf("%s: %q", path, b)
		}
		return
	}
	var got struct{ Schema, Status, Signal int }
	if err := json.Unmarshal(b, &got); err != nil || got.Schema != 1 || got.Status != 143 || got.Signal != 15 {
		t.Errorf("%s: %+v, %v", path, got, err)
	}
}

func TestRecordOnFullDevice(t *testing.T) {
	e := &Exit{ID: "cid", Status: 143, Signal: 15}
	full, good := smallTmpfs(t), t.TempDir()
	errs := Record(Destinations{PersistDir: full, ExitDir: good}, e, 2*time.Second)
	if len(errs) != 2 || !errors.Is(errs[0], unix.ENOSPC) || !errors.Is(errs[1], unix.ENOSPC) {
		t.Errorf("persist dir full: %v", errs)
	}
	checkRecord(t, good+"/cid")
	errs = Record(Destinations{PersistDir: good, ExitDir: full}, e, 2*time.Second)
	if len(errs) != 1 || !errors.Is(errs[0], unix.ENOSPC) {
		t.Errorf("exit dir full: %v", errs)
	}
	checkRecord(t, good+"/exit")
	checkRecord(t, good+"/exit.json")
}

// fake is a file whose stages hang or fail on demand.
type fake struct {
	name   string
	hang   string // the stage that hangs, for ever
	fail   string // the stage that fails
	events *journal
}

type journal struct {
	mu   sync.Mutex
	done []string // guarded by mu
}

func (j *journal) has(what string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Index(j.done, what)
}

var errFake = errors.New("fake")

func (f *fake) stage(name string) error {
	if f.hang == name {
		select {}
	}
	if f.fail == name {
		return errFake
	}
	f.events.mu.Lock()
	defer f.events.mu.Unlock()
	f.events.done = append(f.events.done, name+" "+f.name)
	return nil
}

func (f *fake) path() string   { return f.name }
func (f *fake) create() error  { return f.stage("create") }
func (f *fake) sync() error    { return f.stage("sync") }
func (f *fake) publish() error { return f.stage("publish") }
func (f *fake) settle() error  { return f.stage("settle") }

func TestRecordWhenDisksHang(t *testing.T) {
	const limit = 240 * time.Millisecond
	all := []string{"a", "b", "c"}
	for _, c := range []struct {
		name       string
		hang, fail [3]string
		visible    []string
		slow       int // errors for being late
		failed     int // other errors
	}{
		{"nothing", [3]string{}, [3]string{}, all, 0, 0},
		{"fsync of the first", [3]string{"sync"}, [3]string{}, all, 1, 0},
		{"fsync of all", [3]string{"sync", "sync", "sync"}, [3]string{}, all, 3, 0},
		{"opening the first", [3]string{"create"}, [3]string{}, []string{"b", "c"}, 1, 0},
		{"opening the first two", [3]string{"create", "create"}, [3]string{}, []string{"c"}, 2, 0},
		{"renaming the second", [3]string{"", "publish"}, [3]string{}, []string{"a", "c"}, 1, 0},
		{"fsync of the last directory", [3]string{"", "", "settle"}, [3]string{}, all, 1, 0},
		{"failing fsync", [3]string{}, [3]string{"sync"}, all, 0, 1},
		{"failing create and rename", [3]string{}, [3]string{"create", "publish"}, []string{"c"}, 0, 2},
		{"one hangs, one fails", [3]string{"sync"}, [3]string{"", "create"}, []string{"a", "c"}, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			j := &journal{}
			var jobs []stages
			for i, name := range all {
				jobs = append(jobs, &fake{name, c.hang[i], c.fail[i], j})
			}
			start := time.Now()
			errs := record(jobs, limit)
			if took := time.Since(start); took > limit+100*time.Millisecond {
				t.Errorf("took %v", took)
			}
			slow := 0
			for _, err := range errs {
				if errors.Is(err, errSlow) {
					slow++
				}
			}
			if slow != c.slow || len(errs)-slow != c.failed {
				t.Errorf("errors %v", errs)
			}
			last := -1
			for _, name := range all {
				at := j.has("publish " + name)
				if (at >= 0) != slices.Contains(c.visible, name) {
					t.Errorf("%s visible: %v", name, at >= 0)
				}
				if at >= 0 && at < last {
					t.Errorf("%s appeared too early: %q", name, j.done)
				}
				last = max(last, at)
			}
		})
	}
}
