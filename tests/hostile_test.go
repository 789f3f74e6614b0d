package tests

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"conmon/internal/status/client"
	"conmon/tests/harness"
)

// maxMemory is what a monitor may keep for itself after whatever a container and
// its clients did to it: far more than at rest, far less than what was done.
const maxMemory = 6 << 20

// checkMemory waits for a monitor to be at rest and looks at what it occupies.
func checkMemory(t *testing.T, m *harness.Monitor) {
	t.Helper()
	harness.Eventually(t, "the monitor has given its memory back", func() bool {
		return status(t, m).Monitor.Memory.USS < maxMemory
	})
}

// ticks returns the processor time of a process in clock ticks (10 ms).
func ticks(pid int) int {
	user, _ := strconv.Atoi(harness.StatField(pid, 14))
	system, _ := strconv.Atoi(harness.StatField(pid, 15))
	return user + system
}

// Binary output on both streams at any rate, without regard to lines.
func TestHostileFlood(t *testing.T) {
	harness.NeedOurs(t)
	const size = 60_000_000
	script := "head -c %d /dev/zero & head -c %d /dev/urandom >&2 & wait; echo; echo; exec sleep 1000"
	r := volumeRuntime()
	b := harness.NewBundle(t, r, harness.Shell(fmt.Sprintf(script, size, size)))
	m := create(t, b, harness.Launch{})
	p := newTap(t, m)
	b.Start(t)
	waitStatus(t, m, "all is read and written", func(s *client.Report) bool {
		l := s.Logs[0]
		return l.Stdout.Written.Bytes == size+2 && l.Stderr.Written.Bytes == size
	})
	checkMemory(t, m)
	b.Kill(t, "KILL")
	m.Finish(t)
	p.wait(t)
	var errs bytes.Buffer
	if err := harness.Reassemble(io.Discard, &errs, m.LogPath); err != nil {
		t.Fatal(err)
	}
	if p.stdout.n != size+2 || errs.String() != p.stderr.String() || errs.Len() != size {
		t.Errorf("client %d and %d bytes, log %d", p.stdout.n, p.stderr.Len(), errs.Len())
	}
}

// Streams that are closed and opened again, and then closed for good: nothing is
// lost, and a monitor without streams does nothing.
// What a container leaves in its pipes does not delay its exit file, however much
// work it is: empty lines become many times as long, and fill file after file.
func TestHostileLastWords(t *testing.T) {
	harness.NeedOurs(t)
	for name, args := range map[string][]string{
		"k8s-file":  {"--log-size-max=10000", "--log-rotate", "--log-max-files=20"},
		"json-file": {"--log-size-max=65536", "--log-rotate", "--log-max-files=50", "--log-compress=gzip"},
	} {
		t.Run(name, func(t *testing.T) {
			r := harness.FakeRuntime()
			done := t.TempDir() + "/done"
			b := harness.NewBundle(t, r, payload(t, r, "stuff", done))
			m := b.Run(t, harness.Launch{Log: []string{name + ":" + b.LogPath}, Args: args})
			if status := m.ExitFile(t); status != 0 {
				t.Errorf("exit status %d", status)
			}
			exit, err := os.Stat(b.ExitDir + "/" + b.ID)
			if err != nil {
				t.Fatal(err)
			}
			died, err := os.Stat(done)
			if err != nil {
				t.Fatal(err)
			}
			// Two seconds, and one for a machine that is busy.
			if late := exit.ModTime().Sub(died.ModTime()); late > 3*time.Second {
				t.Errorf("exit file after %v", late)
			}
			m.Gone(t)
		})
	}
}

func TestHostileStreams(t *testing.T) {
	harness.EachRuntime(t, func(t *testing.T, r harness.Runtime) {
		b := harness.NewBundle(t, r, payload(t, r, "churn", 2000))
		m := b.Run(t, harness.Launch{})
		m.WaitLog(t, "F 1999\n")
		before := ticks(m.Pid(t))
		if status := m.ExitFile(t); status != 0 {
			t.Errorf("exit status %d", status)
		}
		if used := ticks(m.Pid(t)) - before; used > 10 {
			t.Errorf("the monitor was busy for %d ms without anything to do", 10*used)
		}
		m.Gone(t)
		if got := m.Log(t); len(got) != 2000 {
			t.Errorf("%d records: %q", len(got), got[max(len(got)-3, 0):])
		}
	})
}

// Whoever else holds the pipes does not delay the container's end, however much
// it writes.
func TestHostileGrandchild(t *testing.T) {
	for _, script := range []string{"sleep 1000", "yes", "trap '' TERM HUP INT PIPE; yes >&2"} {
		b := harness.NewBundle(t, harness.FakeRuntime(), harness.Shell("setsid sh -c \"echo \\$\\$ >$DIR/left; "+script+"\" & while [ ! -s $DIR/left ]; do sleep 0.01; done; sleep 0.1; echo last words; exit 5"))
		m := create(t, b, harness.Launch{Env: []string{"DIR=" + b.Base}})
		b.Start(t)
		harness.WaitFile(t, b.Base+"/left")
		start := time.Now()
		status := m.ExitFile(t)
		if took := time.Since(start); status != 5 || took > 3*time.Second {
			t.Errorf("%s: exit status %d after %v", script, status, took)
		}
		m.Gone(t)
		if text, err := os.ReadFile(m.LogPath); err != nil || !bytes.Contains(text, []byte("last words\n")) {
			t.Errorf("%s: the last words are missing, %v", script, err)
		}
		for _, pid := range b.Processes() {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// Thousands of orphans come to the monitor, which reaps them all while the
// container lives.
func TestHostileOrphans(t *testing.T) {
	count := harness.Count(2000, 20_000)
	b := harness.NewBundle(t, harness.FakeRuntime(), payload(t, harness.FakeRuntime(), "orphans", count))
	m := b.Run(t, harness.Launch{Args: []string{"--log-level=debug"}})
	pid := m.Pid(t)
	done := make(chan struct{})
	most := make(chan int, 1)
	go func() {
		worst := 0
		for {
			select {
			case <-done:
				most <- worst
				return
			case <-time.After(50 * time.Millisecond):
				worst = max(worst, zombies(pid))
			}
		}
	}()
	status := m.ExitFile(t)
	close(done)
	if worst := <-most; status != 0 || worst > 100 {
		t.Errorf("exit status %d, up to %d zombies at once", status, worst)
	}
	m.Gone(t)
}

// zombies counts the children of a process that wait to be reaped.
func zombies(parent int) (n int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", parent, parent))
	for _, word := range strings.Fields(string(text)) {
		if pid, err := strconv.Atoi(word); err == nil && harness.StatField(pid, 3) == "Z" {
			n++
		}
	}
	return n
}

// Symlinks in the places of everything that the monitor makes lead nowhere: what
// they point to stays as it is.
func TestHostileSymlinks(t *testing.T) {
	harness.NeedOurs(t)
	b := harness.NewBundle(t, harness.FakeRuntime(), payload(t, harness.FakeRuntime(), "flood", 1, 3_000_000))
	victim := b.Base + "/victim"
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	dangling := b.Base + "/dangling"
	var planted []string
	for _, name := range []string{
		"/bundle/attach", "/bundle/ctl", "/bundle/winsz", "/bundle/status", "/bundle/oom", "/ctr.log.1", "/ctr.log.2", "/ctr.log.3", "/ctr.log.tmp",
		"/persist/oom", "/persist/exit", "/persist/exit.json", "/persist/exit.tmp", "/persist/exit.json.tmp", "/exits/" + b.ID, "/exits/" + b.ID + ".tmp", "/container.pid", "/monitor.pid", "/socks/" + b.ID,
	} {
		planted = append(planted, b.Base+name)
	}
	for i, path := range planted {
		if err := os.Symlink([]string{victim, dangling}[i%2], path); err != nil {
			t.Fatal(err)
		}
	}
	m := b.Run(t, harness.Launch{Engine: harness.CRIO, Args: []string{"--log-rotate", "--log-size-max=100000", "--log-max-files=5"}})
	harness.WaitProcess(t, m.Pid(t))
	for _, path := range []string{b.ExitDir + "/" + b.ID, b.Persist + "/exit"} {
		if st, err := os.Lstat(path); err != nil || !st.Mode().IsRegular() {
			t.Errorf("%s is %v, %v", path, st, err)
		}
	}
	if text, err := os.ReadFile(victim); err != nil || string(text) != "precious" {
		t.Errorf("the file that was pointed to is %.40q, %v", text, err)
	}
	if _, err := os.Lstat(dangling); err == nil {
		t.Error("a file was made through a dangling symlink")
	}
	for _, path := range planted { // what nobody replaced, such as a socket's link, is not ours
		if target, err := os.Readlink(path); err == nil && (target == victim || target == dangling) {
			_ = os.Remove(path)
		}
	}
}

// Rubbish on the notify socket costs nothing, and only what is allowed arrives
// at the host's, even if nobody reads there for a while.
func TestHostileNotify(t *testing.T) {
	r := harness.FakeRuntime()
	b := harness.NewBundle(t, r, harness.Spec{})
	if err := os.Mkdir(b.Dir+"/notify", 0o755); err != nil {
		t.Fatal(err)
	}
	b.SetSpec(t, payload(t, r, "notify", b.Dir+"/notify/notify.sock", harness.Count(3000, 50_000)))
	host := b.Base + "/host.sock"
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: host})
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	defer os.Remove(host)
	m := b.Run(t, harness.Launch{Args: []string{"--sdnotify-socket", host}})
	if status := m.ExitFile(t); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<20)
	for {
		n, err := unix.Read(fd, buf)
		if err != nil {
			break
		}
		for line := range strings.Lines(string(buf[:n])) {
			if line != "READY=1" && line != "READY=1\n" && !strings.HasPrefix(line, "STATUS=") {
				t.Fatalf("the host got %.60q", line)
			}
		}
	}
	m.Gone(t)
}

// Clients of every kind that come, misbehave and go: no descriptor is left, and
// no memory.
func TestHostileChurn(t *testing.T) {
	harness.NeedOurs(t)
	r := volumeRuntime()
	b := harness.NewBundle(t, r, harness.Shell("while :; do echo tick; sleep 0.01; done"))
	m := b.Run(t, harness.Launch{Args: []string{"-i", "--leave-stdin-open", "--log-rotate", "--log-size-max=10000", "--log-max-files=3"}})
	pid := m.Pid(t)
	m.WaitLog(t, "tick")
	upgrade(t, m) // see TestUpgradeKeepsItsFace
	before := descriptors(pid)
	for i := range harness.Count(100, 1000) {
		c := m.Attach(t)
		switch i % 4 {
		case 0:
			if i < 12 { // nobody reads that; what does not fit is waited for
				c.Send(t, bytes.Repeat([]byte{0}, 30_000))
			}
		case 1:
			c.CloseInput(t)
		case 2:
			_, _ = c.Receive()
		}
		c.Close()
		ctl(t, m, []string{"2 0 0\n", strings.Repeat("9", 4000) + "\n", "1 2 2 " + strings.Repeat("#", 60_000) + "\n", "\x00\xff 1 1", "\n\n\n"}[i%5])
		if _, err := client.Status(m.Dir); err != nil {
			t.Fatal(err)
		}
		if i%20 == 0 {
			upgrade(t, m)
			_, _ = client.Upgrade(m.Dir, "/bin/true")
		}
		strange(t, m.Dir+"/status", i)
	}
	defer func() {
		if t.Failed() {
			t.Logf("descriptors before\n%q, and now\n%q", before, descriptors(pid))
		}
	}()
	harness.Eventually(t, "the descriptors are as many as before", func() bool { return len(descriptors(pid)) <= len(before)+3 })
	checkMemory(t, m)
	b.Kill(t, "KILL")
	if status := m.Finish(t); status != 137 {
		t.Errorf("exit status %d", status)
	}
}

// strange is a client of the status socket that does not know its protocol.
func strange(t *testing.T, path string, i int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	}
	if err != nil {
		t.Fatalf("connecting to %s: %v", path, err)
	}
	defer unix.Close(fd)
	words := [][]byte{nil, {0}, []byte("upgrade \x00"), []byte("status status"), bytes.Repeat([]byte("upgrade "), 5000)}
	_ = unix.Sendto(fd, words[i%len(words)], unix.MSG_NOSIGNAL, nil)
}
