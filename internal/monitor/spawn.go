package monitor

import (
	"golang.org/x/sys/unix"

	"conmon/internal/proc"
)

// spawner starts the log's helpers; their ends come back through reap.
type spawner struct{ m *Monitor }

// Spawn implements logging.Spawner.
func (s spawner) Spawn(path string, argv, env []string, fds []int, idle bool) (int, error) {
	if s.m.log != nil { // else it is being loaded
		if err := s.m.hanging(); err != nil {
			return 0, err // and so would the child, closing our files before its exec
		}
	}
	null, err := proc.OpenNull()
	if err != nil {
		return 0, err
	}
	defer unix.Close(null)
	files := make([]int, max(len(fds), 3))
	for i := range files {
		if files[i] = null; i < len(fds) && fds[i] >= 0 {
			files[i] = fds[i]
		}
	}
	pid, pidfd, err := proc.Start(&proc.Command{
		Path: path, Argv: argv, Env: append(callerEnv(), env...), Files: files, CloseOthers: true,
		Idle: idle, OOMScoreAdj: s.m.self.oomScoreAdj,
	})
	if err != nil {
		return 0, err
	}
	// SIGCHLD tells of its end soon enough.
	return pid, unix.Close(pidfd)
}
