package podman

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"conmon/tests/harness"
)

// testAttach has several clients on one container, some of which misbehave.
func testAttach(t *testing.T) {
	harness.NeedOurs(t) // the peer stops for a client that does not read
	p := root()
	name := p.name(t)
	p.ok(t, "run", "-d", "-i", "--name", name, image, "sh", "-c",
		"while read l; do echo \"got $l\"; echo \"error $l\" >&2; done; echo the end; exit 4")
	attached := func(n int) {
		t.Helper()
		harness.Eventually(t, fmt.Sprintf("%d clients are attached", n), func() bool {
			return p.status(t, name).Attach.Clients == n
		})
	}
	writer := p.talk(t, "attach", name)
	// Not --no-stdin: that closes the container's input at once.
	watcher := p.talk(t, "attach", "--sig-proxy=false", name)
	dying := p.talk(t, "attach", "--sig-proxy=false", name)
	lazy := p.talk(t, "attach", "--sig-proxy=false", name)
	attached(4)
	writer.send(t, "one\n")
	for _, s := range []*session{writer, watcher, dying, lazy} {
		s.expect(t, "got one\n")
		s.expect(t, "error one\n")
	}
	dying.send(t, "two\n")
	writer.expect(t, "got two\n")
	// Its leaving closes the input of nobody else.
	if err := dying.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	attached(3)
	if err := lazy.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	const more = 5000
	sent := strings.Repeat("x", 79) + "\n"
	go func() {
		for range more {
			if _, err := writer.in.WriteString(sent); err != nil {
				return // the reading side notices
			}
		}
		writer.in.Close()
	}()
	// The end of one client's input is the end of the container's. All that came
	// before has been delivered.
	if got := strings.Count(writer.rest(t), "got x"); got != more {
		t.Errorf("the client that sent %d lines has seen %d answers", more, got)
	}
	if got := watcher.rest(t); strings.Count(got, "got x") != more || !strings.Contains(got, "the end\n") {
		t.Errorf("the watching client has seen %d answers and %q", strings.Count(got, "got x"), tail(got))
	}
	if got := p.ok(t, "wait", name); got != "4" {
		t.Errorf("podman wait says %s", got)
	}
	if err := lazy.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(p.ok(t, "logs", name), "got x"); got != more {
		t.Errorf("the log has %d of %d answers", got, more)
	}
}
