package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/store/sqlite"
)

// Finish ends a restore that was killed after its instant; the server calls it before it opens the directory. It says
// whether there was one.
func Finish(dir string) (was bool, err error) {
	if _, err := os.Lstat(filepath.Join(dir, readyDir)); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	lock, err := sqlite.Lock(dir)
	if err != nil {
		return false, err
	}
	defer lock.Close()
	return true, Target{Dir: dir}.finish()
}

// finish moves the old files aside and the new ones into their place. Every step of it may have been done already.
func (t Target) finish() error {
	dir, ready := t.Dir, filepath.Join(t.Dir, readyDir)
	if _, err := os.Lstat(ready); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(ready, planFile))
	if errors.Is(err, fs.ErrNotExist) {
		t.step("tidy up")
		return errors.Join(os.RemoveAll(ready), syncDir(dir)) // all but the tidying up was done
	}
	var p plan
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err == nil {
		err = t.carryOut(p, ready)
	}
	if err != nil {
		return &fleet.Error{
			Op: "finish the restore of " + dir, Err: err,
			Next: "mend what is named; the next start of the server, or the next restore, goes on from here",
		}
	}
	return nil
}

func (t Target) carryOut(p plan, ready string) error {
	dir, old := t.Dir, filepath.Join(t.Dir, filepath.Base(p.Aside))
	// The database's log goes with the database: beside another one it would be played into that.
	if err := t.exchange(ready, old, dbName, dbName+"-wal", dbName+"-shm"); err != nil {
		return err
	}
	if err := t.exchange(ready, old, caDir); err != nil {
		return err
	}
	token := func() error { return t.exchange(ready, old, tokenName) }
	if !p.Token {
		token = func() error { return t.moveAside(old, tokenName) }
	}
	if err := token(); err != nil {
		return err
	}
	if err := t.mergeBlobs(ready); err != nil {
		return err
	}
	if _, err := os.Lstat(old); err == nil {
		if err := ownedLike(dir, old); err != nil {
			return err
		}
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	t.step("forget the plan")
	// Without the plan the rest is only to be tidied up.
	if err := os.Remove(filepath.Join(ready, planFile)); err != nil {
		return err
	}
	if err := syncDir(ready); err != nil {
		return err
	}
	t.step("tidy up")
	return errors.Join(os.RemoveAll(ready), syncDir(dir))
}

// exchange moves what is at names aside, and then the new first one into its place. As long as the new one is not in
// its place, whatever is there is old.
func (t Target) exchange(ready, old string, names ...string) error {
	from := filepath.Join(ready, names[0])
	if _, err := os.Lstat(from); errors.Is(err, fs.ErrNotExist) {
		return nil // it is in its place already: the backup has it
	}
	if err := t.moveAside(old, names...); err != nil {
		return err
	}
	t.step("place " + names[0])
	return os.Rename(from, filepath.Join(t.Dir, names[0]))
}

// moveAside moves what there is of names, and waits until that is on the disk.
func (t Target) moveAside(old string, names ...string) error {
	moved := false
	for _, name := range names {
		path := filepath.Join(t.Dir, name)
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.MkdirAll(old, 0o700); err != nil {
			return err
		}
		t.step("move aside " + name)
		if err := os.Rename(path, filepath.Join(old, name)); err != nil {
			return err
		}
		moved = true
	}
	if !moved {
		return nil
	}
	return errors.Join(syncDir(old), syncDir(t.Dir))
}

// mergeBlobs adds the packages that are not there yet: under one name there is one content.
func (t Target) mergeBlobs(ready string) error {
	dir, root := t.Dir, filepath.Join(ready, blobsDir)
	if _, err := os.Lstat(root); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(ready, path)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, rel)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		t.step("place " + rel)
		if err := os.Rename(path, to); err != nil {
			return fmt.Errorf("put %s into its place: %w", rel, err)
		}
		return syncDir(filepath.Dir(to))
	})
	if err != nil {
		return err
	}
	return errors.Join(syncDir(filepath.Join(dir, blobsDir)), ownedLike(dir, filepath.Join(dir, "blobs")))
}
