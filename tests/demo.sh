#!/bin/bash
# demo.sh: one container by hand, the way an engine does it: runc runs it, conmon
# looks after it. `make demo` runs this. Exit status 0 only if every step showed
# what it should.
#
# CONMON=/path takes another monitor than bin/conmon, and builds nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

bold='' plain=''
if [ -t 1 ]; then bold=$'\033[1m' plain=$'\033[0m'; fi
say() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }

if [ "$(id -u)" != 0 ]; then
	fail 'root is needed: runc makes namespaces, mounts and a cgroup. Try: sudo make demo'
fi

# Everything from here on in a mount namespace of its own: what is mounted goes
# away by itself.
if [ "${DEMO_INSIDE:-}" != 1 ]; then
	DEMO_INSIDE=1 exec unshare --mount --propagation private "$PWD/tests/demo.sh" "$@"
fi

# install PROGRAM PACKAGE: what a fresh Debian lacks.
install() {
	command -v "$1" >/dev/null && return
	command -v apt-get >/dev/null || fail "no $1, and no apt-get to install $2 with"
	say "installing $2"
	export DEBIAN_FRONTEND=noninteractive
	apt-get -qq update && apt-get -qq -y --no-install-recommends install "$2" >/dev/null ||
		fail "installing $2 went wrong"
}
install runc runc
install busybox busybox-static
if [ -z "${CONMON:-}" ]; then
	install make make
	CONMON=$PWD/bin/conmon
	make --no-print-directory build || fail 'the build went wrong'
fi

# The demo has no limits to set. On an old hierarchy (cgroup v1) it leaves the
# memory controller, which every process of the machine lives in, alone.
if mountpoint -q /sys/fs/cgroup/memory; then
	umount /sys/fs/cgroup/memory
fi

dir=$(mktemp -d /tmp/conmon-demo.XXXXXX)
id=demo-$$
bundle=$dir/bundle
log=$dir/ctr.log
monitor=

cleanup() {
	runc --root "$dir/runc" delete --force "$id" 2>/dev/null || true
	# The container's end is the monitor's; this is for a demo that failed.
	[ -z "$monitor" ] || await 5 gone "$monitor" || kill -KILL "$monitor" 2>/dev/null || true
	rm -rf "$dir"
}
# await SECONDS COMMAND: until the command succeeds.
await() {
	local tries=$(($1 * 20))
	shift
	until "$@"; do
		[ $((tries -= 1)) -gt 0 ] || return 1
		sleep 0.05
	done
}
# A zombie counts as gone: in a container nobody may be there to reap it.
gone() { ! grep -q '^State:.[^ZX]' "/proc/$1/status" 2>/dev/null; }
lines() { [ "$(wc -l <"$log")" -ge "$1" ]; }
trap cleanup EXIT
trap 'exit 1' INT TERM

say 'the bundle: a root file system of one busybox, and what to run in it'
mkdir -p "$bundle"/rootfs/{bin,proc} "$dir/exits" "$dir/persist"
cp "$(command -v busybox)" "$bundle/rootfs/bin/busybox"
for applet in sh sleep echo; do ln -s busybox "$bundle/rootfs/bin/$applet"; done
program='i=1; while [ $i -le 8 ]; do echo "line $i"; i=$((i+1)); sleep 0.5; done; echo "that was all" >&2; exit 7'
cat >"$bundle/config.json" <<JSON
{
  "ociVersion": "1.0.2",
  "process": {
    "user": {"uid": 0, "gid": 0},
    "args": ["/bin/sh", "-c", "${program//\"/\\\"}"],
    "env": ["PATH=/bin"],
    "cwd": "/"
  },
  "root": {"path": "rootfs"},
  "hostname": "demo",
  "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
  "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}]}
}
JSON
echo "$program"

say 'conmon starts runc create, and detaches: it prints nothing'
# The engine's end of the sync pipe. Descriptor 9 is open for reading and
# writing, so that opening waits for nobody.
mkfifo "$dir/sync"
exec 9<>"$dir/sync"
set -- --api-version 1 --cid "$id" --cuuid "$id" --name demo \
	--runtime "$(command -v runc)" --runtime-arg "--root=$dir/runc" \
	--bundle "$bundle" --full-attach --log-path "k8s-file:$log" \
	--container-pidfile "$dir/ctr.pid" --conmon-pidfile "$dir/conmon.pid" \
	--exit-dir "$dir/exits" --persist-dir "$dir/persist"
echo "conmon $*"
_OCI_SYNCPIPE=3 "$CONMON" "$@" 3>&9 9>&- >"$dir/said" 2>&1 </dev/null || fail "conmon: $(cat "$dir/said")"
[ ! -s "$dir/said" ] || fail "conmon said: $(cat "$dir/said")"
monitor=$(cat "$dir/conmon.pid" 2>/dev/null) || fail 'no --conmon-pidfile was written'

say 'the sync pipe tells the pid of the container, which waits to be started'
read -r -t 30 message <&9 || fail 'no message on the sync pipe'
echo "$message"
[ "$message" = "{\"data\": $(cat "$dir/ctr.pid" 2>/dev/null)}" ] || fail 'that is not the pid'
echo "conmon has pid $monitor; the container is $(runc --root "$dir/runc" state "$id" | sed -n 's/.*"status": "\(.*\)".*/\1/p')"

say 'runc start: the log grows, in the format that Kubernetes reads (time, stream, F for a full line)'
runc --root "$dir/runc" start "$id"
for n in 1 2 3; do
	await 10 lines "$n" || fail "no line $n in the log: $(cat "$log")"
	sed -n "${n}p" "$log"
done
grep -qE '^[0-9-]{10}T[0-9:]{8}\.[0-9]{9}[+-][0-9:]{5} stdout F line 1$' "$log" || fail 'that is not the CRI format'

# The C monitor has no attach command and no exit.json; engines bring their own client.
ours=
case $("$CONMON" --help) in *--log-max-line*) ours=1 ;; esac

if [ -n "$ours" ]; then
	say 'conmon attach shows what comes from now on; leaving does not disturb the container'
	timeout 1.7 "$CONMON" attach -b "$bundle" --no-stdin | tee "$dir/attached" || true
	grep -q '^line ' "$dir/attached" || fail 'the attach client saw nothing'
fi

say 'the container ends with status 7: the exit files say so, and conmon leaves'
await 20 test -e "$dir/exits/$id" || fail "no exit file; the log: $(cat "$log")"
echo "$dir/exits/$id holds $(cat "$dir/exits/$id")"
echo "$dir/persist/exit holds $(cat "$dir/persist/exit")"
[ "$(cat "$dir/exits/$id")" = 7 ] || fail 'that is not 7'
[ "$(cat "$dir/persist/exit")" = 7 ] || fail 'that is not 7'
await 10 gone "$monitor" || fail 'conmon is still there'

if [ -n "$ours" ]; then
	say 'exit.json has the whole story'
	cat "$dir/persist/exit.json"
	echo
	grep -q '"status": *7' "$dir/persist/exit.json" || fail 'exit.json does not have the status'
fi

say 'the whole log: all was written before the exit file appeared'
cat "$log"
[ "$(wc -l <"$log")" = 9 ] || fail 'that is not 9 records'
grep -q ' stderr F that was all$' "$log" || fail 'the last line is missing'

say 'all seen'
