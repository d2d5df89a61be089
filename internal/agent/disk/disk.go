// Package disk is the little that the agent needs of a file system, so that
// tests can make it fail on command, and the two ways in which the agent
// writes: appended and synced ([FS.OpenAppend]), or replaced whole ([Replace]).
// Both are durable when they return, the directory entry included.
package disk

import (
	"io/fs"
	"os"
	"path/filepath"
)

// FS is a file system. Names are paths of the machine. Errors wrap fs.ErrNotExist where a file is missing.
type FS interface {
	MkdirAll(dir string) error
	ReadDir(dir string) ([]string, error) // names, sorted; a missing directory has none
	ReadFile(name string) ([]byte, error)
	// OpenAppend opens for reading nothing and writing at the end, creating the file with mode 0600.
	OpenAppend(name string) (File, error)
	// Create truncates or creates with the mode.
	Create(name string, mode fs.FileMode) (File, error)
	Rename(from, to string) error
	Remove(name string) error // a missing file is no error
	SyncDir(dir string) error
}

// File is an open file.
type File interface {
	Write(p []byte) (int, error)
	Size() (int64, error)
	Truncate(size int64) error
	Sync() error
	Close() error
}

// Replace writes a file whole: readers, also after a power cut, see the old content or the new one, never a part.
func Replace(fsys FS, name string, data []byte, mode fs.FileMode) (err error) {
	tmp := name + ".new"
	f, err := fsys.Create(tmp, mode)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = fsys.Rename(tmp, name)
	}
	if err != nil {
		_ = fsys.Remove(tmp) // the error above is the one to tell
		return err
	}
	return fsys.SyncDir(filepath.Dir(name))
}

// OS is the machine's file system.
type OS struct{}

func (OS) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o700) }

func (OS) ReadDir(dir string) ([]string, error) {
	es, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil, nil
	}
	names := make([]string, 0, len(es))
	for _, e := range es {
		names = append(names, e.Name())
	}
	return names, err
}

func (OS) ReadFile(name string) ([]byte, error) { return os.ReadFile(name) }

func (OS) OpenAppend(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (OS) Create(name string, mode fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (OS) Rename(from, to string) error { return os.Rename(from, to) }

func (OS) Remove(name string) error {
	if err := os.Remove(name); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

func (OS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}
