package status

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Register links uuid to bundle in the directory dir, so that a person can find
// this monitor without knowing the engine. It belongs behind Listen: whoever
// follows a link and finds nobody there removes it. dir is made if it is
// missing, for its owner only. A link of that name is replaced, since an engine
// starts a container again under its old uuid.
func Register(dir, uuid, bundle string) error {
	if err := checkEntry(dir, uuid); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the registry: %w", err)
	}
	path := dir + "/" + uuid
	err := unix.Symlink(bundle, path)
	if err != unix.EEXIST {
		return linkError(path, err)
	}
	if target, err := os.Readlink(path); err == nil && target == bundle {
		return nil
	}
	// Made beside it and renamed, so that the name always leads somewhere.
	temporary := dir + "/." + uuid
	_ = unix.Unlink(temporary)
	if err := unix.Symlink(bundle, temporary); err != nil {
		return linkError(temporary, err)
	}
	if err := unix.Rename(temporary, path); err != nil {
		_ = unix.Unlink(temporary)
		return linkError(path, err)
	}
	return nil
}

// Unregister removes the link if it still is the one to this bundle: a later
// monitor may have registered in the meantime.
func Unregister(dir, uuid, bundle string) error {
	if err := checkEntry(dir, uuid); err != nil {
		return err
	}
	path := dir + "/" + uuid
	if target, err := os.Readlink(path); err != nil || target != bundle {
		return nil
	}
	if err := unix.Unlink(path); err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

func linkError(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("link %s: %w", path, err)
}

// checkEntry refuses a uuid that would lead out of the registry, or hide in it.
func checkEntry(dir, uuid string) error {
	if dir == "" {
		return fmt.Errorf("no registry directory")
	}
	if uuid == "" || uuid[0] == '.' || strings.Contains(uuid, "/") {
		return fmt.Errorf("uuid %q cannot be a file's name", uuid)
	}
	return nil
}
