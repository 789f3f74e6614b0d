package podman

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"conmon/tests/harness"
)

// journaldUnits are what has to stop for journald to be gone: its sockets would
// start it again.
func journaldUnits() []string {
	return []string{
		"systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-journald-audit.socket",
	}
}

// slowLines is how many lines a talker prints, 20 ms and more apart, before its
// burst and after it.
const slowLines = 200

// talker starts a container that prints numbered lines: slowly, then a burst of
// 200-byte ones, then slowly again. It returns how many in all.
func (p podman) talker(t *testing.T, name string, burst int) int {
	t.Helper()
	p.ok(t, "run", "-d", "--log-driver", "journald", "--name", name, image, "sh", "-c", fmt.Sprintf(`
		slowly() { i=$1; while [ $i -lt $2 ]; do i=$((i+1)); echo $i; usleep 20000; done; }
		slowly 0 %[1]d
		awk 'BEGIN { for (i = %[1]d + 1; i <= %[2]d; i++) printf "%%d %%0192d\n", i, 0 }'
		slowly %[2]d %[3]d`, slowLines, slowLines+burst, 2*slowLines+burst))
	return 2*slowLines + burst
}

// accounted checks that the journal and the exit record of a talker together
// explain every line, but for at most inFlight that journald had accepted and
// not read when its socket went: no sender hears of those.
func (p podman) accounted(t *testing.T, name string, sent, inFlight int) {
	t.Helper()
	// The monitor has 2 s for its log at the end.
	p.ok(t, "wait", name)
	record := p.exitRecord(t, name)
	entries := journalOf(t, name, 1)
	last := 0
	for _, e := range entries {
		if e.get("CONTAINER_PARTIAL_MESSAGE") != "" {
			t.Errorf("a piece: %v", e)
		}
		number, _, _ := strings.Cut(e.message(), " ")
		n := atoi(t, number)
		if n <= last {
			t.Fatalf("%d comes after %d", n, last)
		}
		last = n
	}
	t.Logf("%d lines sent, %d in the journal; the monitor says %+v", sent, len(entries), record)
	if gone := int(record.LinesLogged) - len(entries); gone < 0 || gone > inFlight || record.LinesLogged+record.LinesLost != int64(sent) {
		t.Errorf("%d lines sent, %d in the journal, but the monitor says %+v", sent, len(entries), record)
	}
	if last != sent {
		t.Errorf("the last line of the journal is %d: logging has not begun again", last)
	}
}

// silence lets the time pass in which journald is not there: 5 s at least, and
// until the container is through with its burst. It must not be held up.
func silence(t *testing.T, bundle string, burst int) {
	t.Helper()
	pause(5 * time.Second)
	harness.Eventually(t, "the container goes on without journald", func() bool {
		return statusOf(t, bundle).Streams.Stdout.Read.Lines > int64(slowLines+burst)
	})
}

// testJournalHangs stops journald's process. The container must not be held up,
// and its output is accounted for.
func testJournalHangs(t *testing.T) {
	harness.NeedOurs(t)
	p := root()
	for _, burst := range []int{1000, 50_000} {
		name := p.name(t)
		sent := p.talker(t, name, burst)
		monitor, bundle := p.monitorOf(t, name), p.inspect(t, name, "{{.StaticDir}}")
		pid := atoi(t, strings.TrimSpace(finish(t, exec.Command("systemctl", "show", "-P", "MainPID", "systemd-journald")).stdout))
		pause(time.Second)
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		// Until it goes on nobody may log anything, Podman's events included.
		silence(t, bundle, burst)
		if err := unix.Kill(pid, unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
		harness.WaitProcess(t, monitor)
		p.accounted(t, name, sent, 0)
	}
}

// testJournalRestarts takes journald away, sockets and all.
func testJournalRestarts(t *testing.T) {
	harness.NeedOurs(t)
	p := root()
	systemctl := func(verb string, units ...string) {
		t.Helper()
		if r := finish(t, exec.Command("systemctl", append([]string{verb}, units...)...)); r.code != 0 {
			t.Fatalf("systemctl %s: %+v", verb, r)
		}
	}
	for _, burst := range []int{1000, 50_000} {
		name := p.name(t)
		sent := p.talker(t, name, burst)
		monitor, bundle := p.monitorOf(t, name), p.inspect(t, name, "{{.StaticDir}}")
		pause(time.Second)
		systemctl("stop", journaldUnits()...)
		silence(t, bundle, burst)
		systemctl("start", journaldUnits()[1:]...)
		systemctl("start", journaldUnits()[0])
		harness.WaitProcess(t, monitor)
		p.accounted(t, name, sent, 50)
	}
	// An ordinary restart, as by an update, keeps the socket: nothing is lost.
	name := p.name(t)
	sent := p.talker(t, name, 1000)
	monitor := p.monitorOf(t, name)
	pause(time.Second)
	systemctl("restart", "systemd-journald.service")
	harness.WaitProcess(t, monitor)
	p.accounted(t, name, sent, 0)
	if record := p.exitRecord(t, name); record.LinesLost != 0 {
		t.Errorf("a restart of journald lost %d lines", record.LinesLost)
	}
}
