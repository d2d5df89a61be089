package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/backup/archive"
	"github.com/kernwave/kernwave/internal/store/sqlite"
)

// Target is where a backup is put.
type Target struct {
	Dir string // made if need be
	// Force moves a control plane that is in it aside.
	Force bool
	Now   time.Time

	// at is called before each step that a kill can come between; tests end it there.
	at func(step string)
}

func (t Target) step(name string) {
	if t.at != nil {
		t.at(name)
	}
}

// Result is what a restore did.
type Result struct {
	Manifest Manifest
	// Aside is where the control plane that was in the directory lies now; empty: there was none.
	Aside string
}

// A restore is prepared in newDir. Its renaming to readyDir is the one instant at which it becomes true: before, the
// directory is what it was; after, whoever comes next finishes it.
const (
	newDir   = ".restore-new"
	readyDir = ".restore-ready"
	// planFile in readyDir says what is to be done: [plan].
	planFile = "plan.json"
)

// plan is what a restore that became true still has to do.
type plan struct {
	// Aside is the name of the directory for the old files, in the data directory.
	Aside string `json:"aside"`
	// Token says whether the backup brings an operator's token; an old one must not stay either way.
	Token bool `json:"token"`
}

// Restore puts a backup into a data directory. The whole file is checked before anything is touched. A directory whose
// server runs is refused, and without Force one that holds a control plane. Killed at any instant it leaves the
// directory as it was, or finished at the next start.
func Restore(ctx context.Context, to Target, file string) (Result, error) {
	op := "restore " + to.Dir
	m, err := Check(file)
	if err != nil {
		return Result{}, err
	}
	if err := os.MkdirAll(to.Dir, 0o700); err != nil {
		return Result{}, &fleet.Error{Op: op, Err: err, Next: "choose a directory with --data that can be written"}
	}
	lock, err := sqlite.Lock(to.Dir)
	if err != nil {
		return Result{}, err
	}
	defer lock.Close()
	if err := to.finish(); err != nil { // of a restore that was killed
		return Result{}, err
	}
	if err := ownedLike(to.Dir, filepath.Join(to.Dir, "lock")); err != nil {
		return Result{}, err
	}
	res := Result{Manifest: m}
	aside := "before-restore-" + to.Now.UTC().Format("20060102T150405Z")
	if old := present(to.Dir); old != "" {
		if !to.Force {
			return res, &fleet.Error{
				Op: op, Err: fmt.Errorf("there is a control plane in it already: %s", old),
				Next: "name an empty directory, or add --force: what is there is then moved aside, not removed",
			}
		}
		res.Aside = filepath.Join(to.Dir, aside)
	}
	if err := to.unpack(ctx, file, m, aside); err != nil {
		return res, errors.Join(damaged(file, err), os.RemoveAll(filepath.Join(to.Dir, newDir)))
	}
	if err := outbid(ctx, to.Dir); err != nil {
		return res, &fleet.Error{Op: op, Err: err, Next: "nothing was changed; if the database that is there is damaged, move the directory away and restore into an empty one"}
	}
	to.step("make it true")
	if err := errors.Join(os.Rename(filepath.Join(to.Dir, newDir), filepath.Join(to.Dir, readyDir)), syncDir(to.Dir)); err != nil {
		return res, err
	}
	return res, to.finish()
}

// outbid makes the restored store begin above whatever was in the directory: after an earlier restore hosts obey that.
func outbid(ctx context.Context, dir string) error {
	e, err := sqlite.Epoch(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return sqlite.Outbid(ctx, filepath.Join(dir, newDir), e)
}

// present names a file of a control plane in dir; empty: there is none.
func present(dir string) string {
	for _, name := range []string{dbName, caDir, tokenName} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return name
		}
	}
	return ""
}

// unpack writes everything below newDir, synced. The checksums are compared again: the file may have changed.
func (t Target) unpack(ctx context.Context, file string, want Manifest, aside string) error {
	dir, root := t.Dir, filepath.Join(t.Dir, newDir)
	if err := os.RemoveAll(root); err != nil {
		return err
	}
	if err := os.Mkdir(root, 0o700); err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	todo := plan{Aside: aside}
	m, err := archive.Read(f, func(name string, content io.Reader) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if name == archive.ManifestName {
			return nil
		}
		t.step("write " + name)
		todo.Token = todo.Token || name == tokenName
		return writeSynced(root, name, content)
	})
	if err != nil {
		return err
	}
	if m != want {
		return errors.New("it was replaced while it was read")
	}
	b, err := json.Marshal(todo)
	if err != nil {
		return err
	}
	if err := errors.Join(writeSynced(root, planFile, bytes.NewReader(b)), ownedLike(dir, root)); err != nil {
		return err
	}
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return syncDir(path)
	})
}

func writeSynced(root, name string, content io.Reader) error {
	path := filepath.Join(root, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// ownedLike gives what root wrote, at and below path, to the owner of dir, who is to run the server.
func ownedLike(dir, path string) error {
	var s syscall.Stat_t
	if err := syscall.Stat(dir, &s); err != nil {
		return err
	}
	if os.Geteuid() != 0 || s.Uid == 0 && s.Gid == 0 {
		return nil
	}
	return filepath.WalkDir(path, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(s.Uid), int(s.Gid))
	})
}
