package agenttest

import (
	"io/fs"

	"github.com/kernwave/kernwave/internal/agent/disk"
)

// Disk is inner as the agent's process sees it: nothing is written any more once the process or its boot is over, or
// while the kernel's Behaviour says read-only.
func (r *Running) Disk(inner disk.FS) disk.FS {
	return Guard(inner, func(op, name string) error {
		r.h.mu.Lock()
		defer r.h.mu.Unlock()
		switch {
		case r.over:
			return errOver
		case r.h.m.Kernels[r.h.m.Running].ReadOnly:
			return &fs.PathError{Op: op, Path: name, Err: errReadOnly}
		}
		return nil
	})
}

type readOnlyError struct{}

func (readOnlyError) Error() string { return "read-only file system" }

var errReadOnly = readOnlyError{}

// Guard asks before each operation that changes something: create, open, write, truncate, sync, rename, remove,
// syncdir. An error that before returns is the operation's, and nothing is done: a test's point to kill, or to
// have the disk full.
func Guard(inner disk.FS, before func(op, name string) error) disk.FS {
	return guard{inner, before}
}

type guard struct {
	disk.FS
	before func(op, name string) error
}

func (g guard) OpenAppend(name string) (disk.File, error) {
	return g.open("open", name, func() (disk.File, error) { return g.FS.OpenAppend(name) })
}

func (g guard) Create(name string, mode fs.FileMode) (disk.File, error) {
	return g.open("create", name, func() (disk.File, error) { return g.FS.Create(name, mode) })
}

func (g guard) open(op, name string, f func() (disk.File, error)) (disk.File, error) {
	if err := g.before(op, name); err != nil {
		return nil, err
	}
	file, err := f()
	if err != nil {
		return nil, err
	}
	return guardFile{file, g.before, name}, nil
}

func (g guard) Rename(from, to string) error {
	if err := g.before("rename", to); err != nil {
		return err
	}
	return g.FS.Rename(from, to)
}

func (g guard) Remove(name string) error {
	if err := g.before("remove", name); err != nil {
		return err
	}
	return g.FS.Remove(name)
}

func (g guard) SyncDir(dir string) error {
	if err := g.before("syncdir", dir); err != nil {
		return err
	}
	return g.FS.SyncDir(dir)
}

type guardFile struct {
	disk.File
	before func(op, name string) error
	name   string
}

func (f guardFile) Write(p []byte) (int, error) {
	if err := f.before("write", f.name); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

func (f guardFile) Truncate(n int64) error {
	if err := f.before("truncate", f.name); err != nil {
		return err
	}
	return f.File.Truncate(n)
}

func (f guardFile) Sync() error {
	if err := f.before("sync", f.name); err != nil {
		return err
	}
	return f.File.Sync()
}
