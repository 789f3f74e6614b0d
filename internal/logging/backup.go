package logging

import "golang.org/x/sys/unix"

// awaitsCompression reports whether a rotation is put off because the first backup
// is being compressed. A container that writes faster than that would fill the
// disk: at twice the limit the compression is given up, and once its child is
// reaped, the backup stays as it is.
func (f *file) awaitsCompression() bool {
	if most := 2 * f.cfg.SizeMax; f.compressing != 0 && most > 0 && f.op.size >= most {
		_ = unix.Kill(f.compressing, unix.SIGKILL) // not reaped yet, so it is ours
	}
	return f.compressing != 0
}

// compressBackup starts the child that compresses a backup just made.
func (f *file) compressBackup() {
	op := &f.op
	if op.source < 0 {
		return
	}
	pid, err := spawnCompressor(f.spawner, op)
	_ = unix.Close(op.source)
	_ = unix.Close(op.sourceDir)
	op.source, op.sourceDir = -1, -1
	if err != nil {
		f.note("compress a backup of", err)
		return
	}
	f.compressing = pid
}

// childExited takes note of the compressing child's end.
func (f *file) childExited(pid int, status unix.WaitStatus) bool {
	if f.compressing == 0 || pid != f.compressing {
		return false
	}
	f.compressing = 0
	if status != 0 {
		f.note("compress a backup of", errChild)
	}
	return true
}
