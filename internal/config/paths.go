package config

// makeAbsolute fills in the paths that default to the working directory, and
// makes all of them independent of it. A path that is absolute stays as it is
// written, since the runtime's arguments and messages repeat it.
func (r *Request) makeAbsolute(workDir string) {
	if r.Bundle == "" && !r.Exec {
		// An exec session only has attach socket and fifos if it names a bundle.
		r.Bundle = workDir
	}
	if r.ContainerPidFile == "" {
		r.ContainerPidFile = "pidfile-" + r.CID
	}
	for _, path := range []*string{
		&r.Bundle, &r.MonitorPidFile, &r.ContainerPidFile, &r.ProcessSpec, &r.ExitCommand, &r.ExitDir,
		&r.PersistDir, &r.Restore, &r.Runtime, &r.SdNotifySocket, &r.SocketDir, &r.RegistryDir,
	} {
		*path = absolute(workDir, *path)
	}
	for i, dir := range r.Log.AllowlistDirs {
		r.Log.AllowlistDirs[i] = absolute(workDir, dir)
	}
	for i := range r.Log.Drivers {
		r.Log.Drivers[i].Path = absolute(workDir, r.Log.Drivers[i].Path)
	}
}

// absolute returns path seen from dir. An empty path stays empty, and so does
// the name of an abstract socket ("@…").
func absolute(dir, path string) string {
	switch {
	case path == "" || path[0] == '/' || path[0] == '@':
		return path
	case dir == "/":
		return dir + path
	}
	return dir + "/" + path
}

// RegistryDir returns the directory in which every running monitor links its
// bundle, "" if this user has none.
func RegistryDir(lookup func(variable string) (string, bool), root bool) string {
	if dir, _ := lookup("CONMON_REGISTRY_DIR"); dir != "" {
		return dir
	}
	if root {
		return "/run/conmon"
	}
	if dir, _ := lookup("XDG_RUNTIME_DIR"); dir != "" {
		return dir + "/conmon"
	}
	return ""
}
