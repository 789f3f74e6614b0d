package inside

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"conmon/tests/harness"
)

// pod is a sandbox on the host's network: CNI is no business of the monitor.
type pod struct {
	e      *engine
	id     string
	config *cri.PodSandboxConfig
	count  int
}

// container is what a pod runs.
type container struct {
	p      *pod
	id     string
	log    string // the CRI log
	bundle string
}

// spec says what a container is to be.
type spec struct {
	args      []string // default: sh -c script
	script    string
	stdin     bool
	stdinOnce bool
	tty       bool
	memory    int64 // limit in bytes, 0: none
}

// newPod makes a pod of the default runtime, crun.
func (e *engine) newPod(t *testing.T) *pod {
	t.Helper()
	return e.newPodWith(t, "", cri.NamespaceMode_CONTAINER)
}

// newPodWith makes a pod for a runtime handler. With pid namespace POD it has a
// pause container, which has a monitor as well. It is removed with the test.
func (e *engine) newPodWith(t *testing.T, handler string, pid cri.NamespaceMode) *pod {
	t.Helper()
	p := &pod{e: e, config: e.podConfig(pid)}
	r, err := e.runtime().RunPodSandbox(limited(t), &cri.RunPodSandboxRequest{Config: p.config, RuntimeHandler: handler})
	if err != nil {
		t.Fatalf("running a pod: %v", err)
	}
	p.id = r.PodSandboxId
	t.Cleanup(func() { p.remove(t) })
	return p
}

func (e *engine) podConfig(pid cri.NamespaceMode) *cri.PodSandboxConfig {
	e.pods++
	name := fmt.Sprintf("pod%d", e.pods)
	return &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: name, Uid: "uid-" + name, Namespace: "test"}, LogDirectory: filepath.Join(e.logs, name),
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent: "/pods/" + name,
			SecurityContext: &cri.LinuxSandboxSecurityContext{
				NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE, Pid: pid},
			},
		},
	}
}

// remove kills the pod's containers and removes it.
func (p *pod) remove(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithTimeout(context.WithoutCancel(t.Context()), harness.Patience)
	defer stop()
	// Stopping the pod would give them half a minute each.
	list, err := p.e.runtime().ListContainers(ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{PodSandboxId: p.id}})
	if err != nil {
		t.Errorf("listing the pod's containers: %v", err)
	}
	for _, c := range list.GetContainers() {
		if _, err := p.e.runtime().StopContainer(ctx, &cri.StopContainerRequest{ContainerId: c.Id}); err != nil {
			t.Errorf("killing a container: %v", err)
		}
	}
	if _, err := p.e.runtime().StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.id}); err != nil {
		t.Errorf("stopping the pod: %v", err)
	}
	if _, err := p.e.runtime().RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.id}); err != nil {
		t.Errorf("removing the pod: %v", err)
	}
}

// limited is the context of a call that should not take long.
func limited(t *testing.T) context.Context {
	ctx, stop := context.WithTimeout(t.Context(), harness.Patience)
	t.Cleanup(stop)
	return ctx
}

// shell makes and starts a container that runs a script.
func (p *pod) shell(t *testing.T, script string) *container {
	t.Helper()
	return p.run(t, spec{script: script})
}

// run makes and starts a container.
func (p *pod) run(t *testing.T, s spec) *container {
	t.Helper()
	c, err := p.create(limited(t), s)
	if err == nil {
		err = c.start(limited(t))
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (p *pod) containerConfig(s spec) *cri.ContainerConfig {
	p.count++
	name := fmt.Sprintf("c%d", p.count)
	if s.args == nil {
		s.args = []string{"sh", "-c", s.script}
	}
	return &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: name}, Image: &cri.ImageSpec{Image: image, UserSpecifiedImage: image}, Command: s.args,
		LogPath: name + ".log", Stdin: s.stdin, StdinOnce: s.stdinOnce, Tty: s.tty,
		Linux: &cri.LinuxContainerConfig{
			Resources: &cri.LinuxContainerResources{MemoryLimitInBytes: s.memory},
			SecurityContext: &cri.LinuxContainerSecurityContext{
				NamespaceOptions: p.config.Linux.SecurityContext.NamespaceOptions,
			},
		},
	}
}

// create makes a container. It may be called by several goroutines if they do
// not share a pod.
func (p *pod) create(ctx context.Context, s spec) (*container, error) {
	config := p.containerConfig(s)
	r, err := p.e.runtime().CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: p.id, Config: config, SandboxConfig: p.config})
	if err != nil {
		return nil, fmt.Errorf("creating a container: %w", err)
	}
	return &container{
		p: p, id: r.ContainerId, log: filepath.Join(p.config.LogDirectory, config.LogPath),
		bundle: filepath.Join(p.e.bundles, r.ContainerId, "userdata"),
	}, nil
}

func (c *container) start(ctx context.Context) error {
	if _, err := c.p.e.runtime().StartContainer(ctx, &cri.StartContainerRequest{ContainerId: c.id}); err != nil {
		return fmt.Errorf("starting a container: %w", err)
	}
	return nil
}

// stop stops the container: TERM, and KILL after some seconds.
func (c *container) stop(t *testing.T, seconds int64) {
	t.Helper()
	if _, err := c.p.e.runtime().StopContainer(limited(t), &cri.StopContainerRequest{ContainerId: c.id, Timeout: seconds}); err != nil {
		t.Fatalf("stopping a container: %v", err)
	}
}

func (c *container) remove(ctx context.Context) error {
	_, err := c.p.e.runtime().RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: c.id})
	return err
}

func (c *container) status(ctx context.Context) (*cri.ContainerStatus, error) {
	r, err := c.p.e.runtime().ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: c.id})
	return r.GetStatus(), err
}

// ended waits until CRI-O says that the container has ended.
func (c *container) ended(ctx context.Context) (*cri.ContainerStatus, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := c.status(ctx)
		if err != nil || s.State == cri.ContainerState_CONTAINER_EXITED {
			return s, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return s, fmt.Errorf("container is still %v: %w", s.State, ctx.Err())
		}
	}
}

// wantEnd waits for the end of the container and checks what CRI-O says of it.
func (c *container) wantEnd(t *testing.T, code int32, reason string) {
	t.Helper()
	s, err := c.ended(limited(t))
	if err != nil {
		t.Fatal(err)
	}
	if s.ExitCode != code || s.Reason != reason {
		t.Errorf("CRI-O says exit code %d, %s; want %d, %s", s.ExitCode, s.Reason, code, reason)
	}
}

// wantRunning checks that for CRI-O the container is running.
func (c *container) wantRunning(t *testing.T) {
	t.Helper()
	s, err := c.status(limited(t))
	if err != nil {
		t.Fatal(err)
	}
	if s.State != cri.ContainerState_CONTAINER_RUNNING {
		t.Errorf("CRI-O says %v, %d, %s: want a running container", s.State, s.ExitCode, s.Reason)
	}
}

// pid is the container's first process, as the host sees it.
func (c *container) pid(t *testing.T) int {
	t.Helper()
	r, err := c.p.e.runtime().ContainerStatus(limited(t), &cri.ContainerStatusRequest{ContainerId: c.id, Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	var info struct{ Pid int }
	if err := json.Unmarshal([]byte(r.Info["info"]), &info); err != nil || info.Pid == 0 {
		t.Fatalf("no pid in %q: %v", r.Info["info"], err)
	}
	return info.Pid
}

// monitor is the pid of the container's monitor, as CRI-O read it.
func (c *container) monitor(t *testing.T) int {
	t.Helper()
	return harness.ReadNumber(t, c.bundle+"/conmon-pidfile")
}

// records returns what is in the log, one "stdout F text" a record.
func (c *container) records(t *testing.T) []string {
	t.Helper()
	var lines []string
	for _, r := range harness.ReadLog(t, c.log) {
		lines = append(lines, r.String())
	}
	return lines
}

// waitLog waits until a record of the log is the given one.
func (c *container) waitLog(t *testing.T, record string) {
	t.Helper()
	harness.Eventually(t, fmt.Sprintf("the log has the record %q", record), func() bool {
		f, err := os.Open(c.log)
		if errors.Is(err, fs.ErrNotExist) {
			return false
		}
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		found := false
		// The last record may be half written: an error is no failure here.
		_ = harness.EachRecord(f, func(r harness.Record) error {
			found = found || r.String() == record
			return nil
		})
		return found
	})
}

// processes returns the processes there are, without those of the kernel.
func processes() map[int]bool {
	found := map[int]bool{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if _, err := os.Readlink("/proc/" + e.Name() + "/exe"); err == nil && harness.Alive(pid) {
			found[pid] = true
		}
	}
	return found
}
