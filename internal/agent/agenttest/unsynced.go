package agenttest

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"

	"github.com/kernwave/kernwave/internal/agent/disk"
)

// Volatile is a disk whose power can be cut: what was written and not synced is then lost, a file's bytes (of which
// half may have got there) as well as its name.
type Volatile struct {
	disk.FS

	mu    sync.Mutex
	files map[string][]byte // name → what a power cut leaves of it; a name that is here may be torn
	names []rename          // not yet in a synced directory, oldest first
}

// rename is a change of a directory that a power cut undoes.
type rename struct {
	dir  string
	undo func() error
}

// NewVolatile is inner with everything on it synced.
func NewVolatile(inner disk.FS) *Volatile {
	return &Volatile{FS: inner, files: map[string][]byte{}}
}

// PowerCut leaves on the disk what a power cut would leave. The disk must not be used any more.
func (v *Volatile) PowerCut() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	var errs []error
	for name, synced := range v.files {
		now, err := v.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		left := synced
		if more, ok := bytes.CutPrefix(now, synced); ok {
			left = append(bytes.Clone(synced), more[:len(more)/2]...)
		}
		errs = append(errs, v.put(name, left))
	}
	for _, n := range slices.Backward(v.names) {
		errs = append(errs, n.undo())
	}
	return errors.Join(errs...)
}

func (v *Volatile) put(name string, data []byte) error {
	f, err := v.FS.Create(name, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// began remembers what is on disk of a file that is opened. The caller holds the lock.
func (v *Volatile) began(name string) error {
	data, err := v.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		v.names = append(v.names, rename{filepath.Dir(name), func() error { return v.FS.Remove(name) }})
	} else if err != nil {
		return err
	}
	if _, known := v.files[name]; !known {
		v.files[name] = data
	}
	return nil
}

// OpenAppend is the inner disk's.
func (v *Volatile) OpenAppend(name string) (disk.File, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.began(name); err != nil {
		return nil, err
	}
	f, err := v.FS.OpenAppend(name)
	return volatileFile{f, v, name}, err
}

// Create is the inner disk's.
func (v *Volatile) Create(name string, mode fs.FileMode) (disk.File, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.began(name); err != nil {
		return nil, err
	}
	f, err := v.FS.Create(name, mode)
	return volatileFile{f, v, name}, err
}

// Rename is the inner disk's.
func (v *Volatile) Rename(from, to string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	was, err := v.ReadFile(to)
	gone := errors.Is(err, fs.ErrNotExist)
	if err != nil && !gone {
		return err
	}
	if err := v.FS.Rename(from, to); err != nil {
		return err
	}
	v.names = append(v.names, rename{filepath.Dir(to), func() error {
		if err := v.FS.Rename(to, from); err != nil || gone {
			return err
		}
		return v.put(to, was)
	}})
	if synced, ok := v.files[from]; ok {
		v.files[to] = synced
		delete(v.files, from)
	}
	return nil
}

// Remove is the inner disk's.
func (v *Volatile) Remove(name string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	was, err := v.ReadFile(name)
	if err == nil {
		v.names = append(v.names, rename{filepath.Dir(name), func() error { return v.put(name, was) }})
	}
	delete(v.files, name)
	return v.FS.Remove(name)
}

// SyncDir keeps the names in dir.
func (v *Volatile) SyncDir(dir string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.FS.SyncDir(dir); err != nil {
		return err
	}
	v.names = slices.DeleteFunc(v.names, func(r rename) bool { return r.dir == dir })
	return nil
}

type volatileFile struct {
	disk.File
	v    *Volatile
	name string
}

func (f volatileFile) Sync() error {
	f.v.mu.Lock()
	defer f.v.mu.Unlock()
	if err := f.File.Sync(); err != nil {
		return err
	}
	data, err := f.v.ReadFile(f.name)
	f.v.files[f.name] = data
	return err
}
