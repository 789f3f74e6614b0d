package logging

import (
	"errors"
	"strings"
)

// Spawner starts the helpers of logging. The monitor does it, because only it
// waits for children.
type Spawner interface {
	// Spawn starts path. env is added to the monitor's own environment. fds[i]
	// becomes the child's descriptor i (they are borrowed; -1 is /dev/null), and it
	// gets no others. idle asks for the lowest CPU and disk priority. The child's
	// end is to be passed to Log.ChildExited.
	Spawn(path string, argv, env []string, fds []int, idle bool) (pid int, err error)
}

// CompressEnv is set to "gzip" or "zstd" in the environment of the child that
// compresses a backup: the monitor's own binary, with the backup (open for
// reading, and locked) as descriptor 0, its directory as descriptor 1 and its
// name there as its last argument. See package compress.
const CompressEnv = "_CONMON_COMPRESS"

// errChild is a child that ended with a status other than 0.
var errChild = errors.New("the child did not succeed")

// spawnCompressor starts the compressing child for op's source.
func spawnCompressor(s Spawner, op *fileOp) (pid int, err error) {
	name := op.path[strings.LastIndexByte(op.path, '/')+1:]
	return s.Spawn("/proc/self/exe", []string{"conmon", "compress", backup(name, 1)},
		[]string{CompressEnv + "=" + op.compress}, []int{op.source, op.sourceDir, -1}, true)
}
