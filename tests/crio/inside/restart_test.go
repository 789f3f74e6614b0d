package inside

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"conmon/tests/harness"
)

// testRestart kills CRI-O while containers run, are attached to, execute
// sessions and end, and starts it again. It then has to find everything as if
// it had been there.
func testRestart(t *testing.T, e *engine) {
	p := e.newPod(t)
	const counting = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.05; done"
	running := p.shell(t, "trap 'exit 21' TERM; "+counting)
	attached := p.run(t, spec{script: "while read line; do echo got $line; done", stdin: true})
	terminal := p.run(t, spec{script: "while read line; do echo got $line; done; exit 4", stdin: true, tty: true})
	ends := p.shell(t, "trap 'exit 22' TERM; echo up; while :; do sleep 0.1; done")
	starves := p.run(t, spec{script: "read line; exec dd if=/dev/zero of=/dev/null bs=256M count=1", stdin: true, memory: 32 << 20})

	client := attached.attach(t, "-i")
	client.send(t, "one\n")
	client.want(t, "got one")
	typist := terminal.attachTerminal(t, 24, 80)
	typist.send(t, "one\n")
	typist.want(t, "got one")
	feeder := starves.attach(t, "-i")
	ends.waitLog(t, "stdout F up")
	// Sessions that nobody waits for any more: nothing of them may stay.
	ends.beginExec(t, "sleep 2; echo late")
	running.beginExec(t, "sleep 2; echo late")
	waits, err := p.create(limited(t), spec{script: "exit 23"})
	if err != nil {
		t.Fatal(err)
	}
	endsPid, starvesPid := ends.pid(t), starves.pid(t)
	monitor, started := running.monitor(t), harness.StatField(running.monitor(t), startTime)
	feeder.send(t, "eat\n") // arrives before or after CRI-O's death
	harness.Eventually(t, "the container begins to eat", func() bool { return harness.Status(starvesPid, "Name") != "sh" })

	e.killDaemon(t)
	kill(t, endsPid, "TERM")
	harness.WaitProcess(t, endsPid)
	harness.WaitProcess(t, starvesPid)
	mark := len(running.records(t))
	harness.Eventually(t, "the log goes on without CRI-O", func() bool { return len(running.records(t)) > mark+10 })
	e.startDaemon(t)

	ends.wantEnd(t, 22, "Error")
	starves.wantEnd(t, 137, "OOMKilled")
	for _, c := range []*container{running, attached, terminal} {
		c.wantRunning(t)
	}
	if err := waits.start(limited(t)); err != nil {
		t.Error(err)
	}
	waits.wantEnd(t, 23, "Error")
	if now := harness.StatField(monitor, startTime); running.monitor(t) != monitor || now != started {
		t.Errorf("the monitor was %d of %s, and is %d of %s", monitor, started, running.monitor(t), now)
	}
	running.wantExec(t, "echo hello", "hello\n", "", 0)
	if !harness.Peer() { // it would begin a new log
		running.reopen(t)
	}
	for _, s := range []*session{client, typist} {
		s.kill()
	}
	again := attached.attach(t, "-i")
	again.send(t, "two\n")
	again.want(t, "got two")
	typist = terminal.attachTerminal(t, 24, 80)
	typist.send(t, "two\n")
	typist.want(t, "got two")
	running.stop(t, untilKill)
	running.wantEnd(t, 21, "Error")
	wantCounting(t, running)
	attached.stop(t, 1)
	attached.wantEnd(t, 137, "Error")
}

// startTime is the number of a process's start time in /proc/PID/stat. CRI-O
// knows a monitor by its pid and this.
const startTime = 22

// wantCounting checks that the log of a container that counts has every line.
func wantCounting(t *testing.T, c *container) {
	t.Helper()
	for i, r := range c.records(t) {
		if want := fmt.Sprintf("stdout F %d", i+1); r != want {
			t.Fatalf("record %d is %q, want %q", i, r, want)
		}
	}
}

// testUpgrade has monitors replace themselves by a new program in the midst of
// output, a session, a terminal and a client, and CRI-O notice nothing.
func testUpgrade(t *testing.T, e *engine) {
	needOurs(t)
	p := e.newPod(t)
	const lines = 600_000
	busy := p.shell(t, fmt.Sprintf("seq 1 %d; sleep 1000", lines))
	talk := p.run(t, spec{script: "while read line; do echo got $line; done", stdin: true})
	terminal := p.run(t, spec{script: "while read line; do echo got $line; [ $line = quit ] && exit 6; done", stdin: true, tty: true})
	client := talk.attach(t, "-i")
	client.send(t, "one\n")
	client.want(t, "got one")
	typist := terminal.attachTerminal(t, 24, 80)
	typist.send(t, "one\n")
	typist.want(t, "got one")

	session := talk.beginExec(t, "echo begun; until [ -e /tmp/end ]; do sleep 0.05; done; echo ended; exit 9")

	for range 3 {
		e.installMonitor(t)
		monitors := e.monitors()
		if len(monitors) != 4 {
			t.Errorf("monitors %v, want those of three containers and of a session", monitors)
		}
		for _, pid := range monitors {
			e.upgrade(t, pid)
		}
	}
	talk.wantExec(t, "touch /tmp/end", "", "", 0)
	if o := <-session; o.err != nil || string(o.r.Stdout) != "begun\nended\n" || o.r.ExitCode != 9 {
		t.Errorf("the session: %v, %v", o.r, o.err)
	}
	client.send(t, "two\n")
	client.want(t, "got two")
	typist.send(t, "quit\n")
	typist.want(t, "got quit")
	terminal.wantEnd(t, 6, "Error")
	busy.reopen(t)
	busy.wantExec(t, "echo hello", "hello\n", "", 0)
	busy.waitLog(t, fmt.Sprintf("stdout F %d", lines))
	busy.wantRunning(t)
	wantCounting(t, busy)
	kill(t, busy.pid(t), "KILL")
	busy.wantEnd(t, 137, "Error")
	client.stdin.Close()
	client.wantEnd(t)
	talk.wantRunning(t)
	// CRI-O looks after its monitors every ten seconds, and complains of one that
	// it does not know any more; so it does after its own restart.
	e.killDaemon(t)
	e.startDaemon(t)
	talk.wantRunning(t)
	talk.stop(t, 1)
	talk.wantEnd(t, 137, "Error")
	if log, _ := os.ReadFile(e.daemonLog.Name()); strings.Contains(string(log), "is stopped, although") {
		t.Error("CRI-O lost sight of a monitor")
	}
}

// upgrade makes a monitor execute the program now at its path and waits until it
// has.
func (e *engine) upgrade(t *testing.T, pid int) {
	t.Helper()
	before := harness.StatField(pid, startTime)
	kill(t, pid, "USR2")
	// In the midst of an execve a process has its new program, but no arguments.
	harness.Eventually(t, "the monitor runs the new program and is listed by its name", func() bool {
		return sameFile(e.monitor, fmt.Sprintf("/proc/%d/exe", pid)) && slices.Contains(e.monitors(), pid)
	})
	if now := harness.StatField(pid, startTime); now != before {
		t.Errorf("after its upgrade the monitor's start time is %s, was %s", now, before)
	}
}

func sameFile(a, b string) bool {
	var sa, sb unix.Stat_t
	return unix.Stat(a, &sa) == nil && unix.Stat(b, &sb) == nil && sa.Dev == sb.Dev && sa.Ino == sb.Ino
}
