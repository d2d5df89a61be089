// Package backup makes one file of a control plane's data directory, while the
// server runs, and puts such a file back. The file is a tar archive that ends
// in checksums of everything in it; people can look into it with tar and
// sha256sum. It holds the CA's key and hashes of tokens: whoever has it can let
// hosts in, so it is readable by its owner alone.
//
//	m, err := backup.Write(ctx, backup.Source{Dir: dir, Packages: true, Now: now}, "kernwave.backup")
//	m, err := backup.Check("kernwave.backup")
//	res, err := backup.Restore(ctx, backup.Target{Dir: dir, Force: true, Now: now}, "kernwave.backup")
//
// What was put back begins as restored: the database in the file says that it
// is a copy.
package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/backup/archive"
	"github.com/kernwave/kernwave/internal/store/sqlite"
)

// Manifest says what a file holds.
type Manifest = archive.Manifest

const (
	dbName    = archive.DBName
	tokenName = archive.TokenName
	caDir     = archive.CADir
	blobsDir  = archive.BlobsDir
)

// Source is what a backup is made of.
type Source struct {
	Dir      string
	Packages bool
	By       string // the program and the machine, for people
	Now      time.Time
}

// Size is what came out.
type Size struct {
	Bytes    int64 `json:"bytes"`
	Packages int   `json:"packages_count"`
}

// Write makes the file of a data directory, whether its server runs or not. The file appears whole, synced and under
// its name, or not at all; one that was there is replaced.
func Write(ctx context.Context, src Source, file string) (m Manifest, size Size, err error) {
	op := "back up " + src.Dir
	if _, err := os.Stat(filepath.Join(src.Dir, dbName)); err != nil {
		return m, size, &fleet.Error{Op: op, Err: fmt.Errorf("there is no control plane in it: %w", err), Next: "name the directory that the server was given with --data"}
	}
	partial := file + ".partial"
	out, err := claim(partial)
	if err != nil {
		return m, size, err
	}
	defer out.Close()
	defer os.Remove(partial) // after the rename there is none
	m, size, err = write(ctx, src, out, partial+".db")
	if err != nil {
		return m, size, failed(ctx, op, err)
	}
	if err := errors.Join(out.Sync(), out.Close()); err != nil {
		return m, size, failed(ctx, op, err)
	}
	if err := os.Rename(partial, file); err != nil {
		return m, size, failed(ctx, op, err)
	}
	return m, size, syncDir(filepath.Dir(file))
}

// failed explains what cut a backup short.
func failed(ctx context.Context, op string, err error) error {
	if _, ok := errors.AsType[*fleet.Error](err); ok || ctx.Err() != nil {
		return err
	}
	next := "see that the directory can be read and the file's directory written, with room for a copy of the database"
	if errors.Is(err, fs.ErrPermission) {
		next = "run it as the server's user, or as root"
	}
	return &fleet.Error{Op: op, Err: errors.New(err.Error()), Next: next}
}

// claim opens a name for one process at a time. What an earlier one left there when it was killed is overwritten.
func claim(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, &fleet.Error{Op: "write the backup " + name, Err: err, Next: "name a file in a directory that can be written"}
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, &fleet.Error{Op: "write the backup " + name, Err: errors.New("another process writes it"), Next: "wait for that one, or name another file"}
	}
	if err := errors.Join(f.Chmod(0o600), f.Truncate(0)); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func write(ctx context.Context, src Source, out io.Writer, temp string) (m Manifest, size Size, err error) {
	// The database first: what it speaks of is on the disk before it is in it, and packages are never removed.
	db, content, err := copyDB(ctx, src, temp)
	if err != nil {
		return m, size, err
	}
	defer db.Close()
	m = Manifest{
		Format: archive.Format, MadeAt: src.Now.UTC(), MadeBy: src.By, Packages: src.Packages, Schema: content.Schema,
		Incarnation: content.Epoch.Incarnation, Term: content.Epoch.Term, Hosts: content.Hosts, OpenRollouts: content.OpenRollouts,
		LastEvent: content.LastEvent,
	}
	w, err := archive.NewWriter(out, m)
	if err != nil {
		return m, size, err
	}
	if err := w.File(dbName, db); err != nil {
		return m, size, err
	}
	if err := tree(ctx, w, src.Dir, caDir); err != nil {
		return m, size, err
	}
	if err := tree(ctx, w, src.Dir, tokenName); err != nil && !errors.Is(err, fs.ErrNotExist) { // read and removed by its operator
		return m, size, err
	}
	if src.Packages {
		before := w.Files()
		if err := tree(ctx, w, src.Dir, blobsDir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return m, size, err
		}
		size.Packages = w.Files() - before
	}
	size.Bytes, err = w.Close()
	return m, size, err
}

// tree adds the regular files at and below name, in order.
func tree(ctx context.Context, w *archive.Writer, dir, name string) error {
	return filepath.WalkDir(filepath.Join(dir, name), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if archive.Allowed(filepath.ToSlash(rel)) != nil {
			return nil // half-written files have a dot in front
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return w.File(filepath.ToSlash(rel), f)
	})
}

// copyDB makes a copy that has no name any more.
func copyDB(ctx context.Context, src Source, temp string) (*os.File, sqlite.Content, error) {
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, sqlite.Content{}, err
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // SQLite would let others read it
	if err != nil {
		return nil, sqlite.Content{}, err
	}
	defer os.Remove(temp)
	if err := f.Close(); err != nil {
		return nil, sqlite.Content{}, err
	}
	content, err := sqlite.Backup(ctx, src.Dir, temp, sqlite.Mark{At: src.Now.UTC(), By: src.By})
	if err != nil {
		return nil, content, err
	}
	db, err := os.Open(temp)
	return db, content, err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
