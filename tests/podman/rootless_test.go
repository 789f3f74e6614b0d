package podman

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"conmon/tests/harness"
)

// testRootless does a bit of everything as an ordinary user.
func testRootless(t *testing.T) {
	for _, args := range [][]string{
		{"useradd", "-G", "systemd-journal", "-u", fmt.Sprint(userID), "-d", userHome, user},
		{"chown", user, userHome},
		{"loginctl", "enable-linger", user},
	} {
		if r := finish(t, exec.Command(args[0], args[1:]...)); r.code != 0 {
			t.Fatalf("%s: %+v", args, r)
		}
	}
	harness.Eventually(t, "the user's systemd is there", func() bool {
		_, err := os.Stat(fmt.Sprintf("/run/user/%d/bus", userID))
		return err == nil
	})
	p := podman{rootless: true}
	if err := p.importImage(); err != nil {
		t.Fatal(err)
	}
	if r := p.run(t, "run", "--rm", "--name", p.name(t), image, "sh", "-c", "id -u; echo err >&2; exit 7"); r != (outcome{"0\n", "err\n", 7}) {
		t.Errorf("run: %+v", r)
	}
	for path, code := range map[string]int{"/refused": 126, "/missing": 127} {
		if r := p.run(t, "run", "--rm", "--name", p.name(t), image, path); r.code != code {
			t.Errorf("%s: %+v", path, r)
		}
	}
	input, sum := noise(8 << 20)
	cmd := p.command("run", "--rm", "-i", "--name", p.name(t), image, "sha256sum")
	cmd.Stdin = input
	if r := finish(t, cmd); !strings.HasPrefix(r.stdout, sumOf(sum)) {
		t.Errorf("run -i: %+v", r)
	}
	for _, driver := range logDrivers() {
		name := p.name(t)
		p.ok(t, "run", "-d", "--log-driver", driver, "--name", name, image, "sh", "-c", "seq 3; sleep 1000")
		if uid := harness.Status(p.monitorOf(t, name), "Uid"); !strings.HasPrefix(uid, fmt.Sprint(userID)) {
			t.Errorf("the monitor runs as %q", uid)
		}
		harness.Eventually(t, driver+" has the output", func() bool { return p.run(t, "logs", name).stdout == "1\n2\n3\n" })
		if r := p.run(t, "exec", name, "sh", "-c", "echo in; exit 4"); r != (outcome{"in\n", "", 4}) {
			t.Errorf("exec: %+v", r)
		}
		p.ok(t, "stop", "-t", "0", name)
		p.want(t, name, "{{.State.ExitCode}}", "137")
		noMonitor(t, name)
	}
	name := p.name(t)
	s := p.talkOnTerminal(t, 24, 80, "run", "-it", "--name", name, image, "sh")
	s.send(t, "stty size\r")
	s.expect(t, "24 80\r\n")
	s.detach(t)
	s.rest(t)
	s.code(t)
	s = p.talkOnTerminal(t, 33, 99, "attach", name)
	s.send(t, "stty size; exit 5\r")
	s.expect(t, "33 99\r\n")
	s.rest(t)
	s.code(t)
	p.want(t, name, "{{.State.ExitCode}}", "5")
}
