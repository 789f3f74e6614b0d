package inside

import (
	"os"
	"strings"
	"testing"
)

// All on tmpfs, and everything off that the machine has not got: CNI, iptables,
// irqbalance. monitor_cgroup "pod" goes with the cgroup manager cgroupfs.
const crioConf = `
[crio]
root = "DIR/storage"
runroot = "DIR/runroot"
storage_driver = "overlay"
log_dir = "DIR/logs"
version_file = "DIR/version"
version_file_persist = "DIR/version-persist"
clean_shutdown_file = "DIR/clean"
internal_wipe = false
[crio.api]
listen = "DIR/crio.sock"
stream_address = "127.0.0.1"
stream_port = "0"
[crio.runtime]
default_runtime = "crun"
cgroup_manager = "cgroupfs"
container_exits_dir = "DIR/exits"
container_attach_socket_dir = "DIR/socks"
namespaces_dir = "DIR/ns"
pinns_path = "PROGRAMS/pinns"
hooks_dir = []
enable_criu_support = false
disable_hostport_mapping = true
irqbalance_config_restore_file = "disable"
log_level = "warn"
pids_limit = -1
[crio.runtime.runtimes.crun]
runtime_path = "DIR/bin/crun"
runtime_root = "DIR/crun"
monitor_path = "DIR/bin/conmon"
monitor_cgroup = "pod"
monitor_env = []
[crio.runtime.runtimes.runc]
runtime_path = "RUNC"
runtime_root = "DIR/runc"
monitor_path = "DIR/bin/conmon"
monitor_cgroup = "pod"
monitor_env = []
[crio.runtime.runtimes.no-cpu]
runtime_path = "DIR/bin/no-cpu"
runtime_root = "DIR/runc"
monitor_path = "DIR/bin/conmon"
monitor_cgroup = "pod"
monitor_env = []
[crio.image]
pause_image = "PAUSE"
pause_command = ""
signature_policy = "DIR/etc/policy.json"
signature_policy_dir = "DIR/policies"
namespaced_auth_dir = "DIR/auth"
big_files_temporary_dir = "DIR/big"
[crio.network]
network_dir = "DIR/cni"
plugin_dirs = ["/usr/lib/cni"]
[crio.nri]
enable_nri = false
`

const registriesConf = `
[[registry]]
location = "REGISTRY"
insecure = true
`

const storageConf = `
[storage]
driver = "overlay"
graphroot = "DIR/storage"
runroot = "DIR/runroot"
`

// Debian's crun refuses a bundle of a later version of the specification than
// its own; what differs is of no concern here. Programs without libraries start
// faster, which counts in user-mode Linux.
const crunScript = `#!BUSYBOX sh
before=
for a; do
	[ "$before" != --bundle ] || BUSYBOX sed -i 's/"ociVersion": *"[^"]*"/"ociVersion": "1.0.2"/' "$a/config.json"
	before=$a
done
exec CRUN "$@"
`

// CRI-O gives its pause container a share of the CPU, but the machine has no such
// controller, and neither runtime goes on without.
const noCPUScript = `#!/bin/sh
before=
for a; do
	if [ "$before" = --bundle ]; then
		jq 'del(.linux.resources.cpu)' "$a/config.json" >"$a/config.json.new" && mv "$a/config.json.new" "$a/config.json"
	fi
	before=$a
done
exec RUNC "$@"
`

// configure writes CRI-O's files.
func (e *engine) configure(t *testing.T) {
	t.Helper()
	for name, text := range map[string]string{
		"etc/crio.conf": crioConf, "etc/registries.conf": registriesConf, "etc/storage.conf": storageConf,
		"etc/policy.json": `{"default": [{"type": "insecureAcceptAnything"}]}`,
		"bin/crun":        crunScript,
		"bin/no-cpu":      noCPUScript,
		"etc/crictl.yaml": "runtime-endpoint: ENDPOINT\nimage-endpoint: ENDPOINT\ntimeout: 60\n",
	} {
		text = strings.NewReplacer("DIR", e.dir, "PROGRAMS", e.programs, "CRUN", lookPath(t, "crun"), "RUNC", lookPath(t, "runc"), "BUSYBOX", lookPath(t, "busybox"), "PAUSE", pauseImage,
			"REGISTRY", registryAddr, "ENDPOINT", e.endpoint()).Replace(text)
		if err := os.WriteFile(e.dir+"/"+name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}
