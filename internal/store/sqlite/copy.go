package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kernwave/kernwave/internal/store"
)

// Copy writes a consistent copy of everything that was committed in the store of dir to a new file, which must not be
// there, or be empty. Another process may have the store open and go on. The copy is not synced.
func Copy(ctx context.Context, dir, file string) (err error) {
	path := filepath.Join(dir, fileName)
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("copy the store: %w", err) // SQLite would make an empty one
	}
	db, err := sql.Open("sqlite", dsn(path, "FULL"))
	if err != nil {
		return fmt.Errorf("copy %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, "VACUUM INTO ?", file); err != nil {
		return &store.Error{Op: "copy the store to " + file, Err: err}
	}
	return nil
}

// Dir is where the store lies.
func (s *Store) Dir() string { return s.dir }

// Snapshot is everything that a store had committed at one instant.
type Snapshot struct{ db []byte }

// Snapshot keeps the store as it is now, in memory: for simulators and tests, which put it back with [OpenSnapshot].
func (s *Store) Snapshot(ctx context.Context) (Snapshot, error) {
	dir, err := tempDir()
	if err != nil {
		return Snapshot{}, fmt.Errorf("keep a snapshot: %w", err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, fileName)
	if err := Copy(ctx, s.dir, file); err != nil {
		return Snapshot{}, err
	}
	db, err := os.ReadFile(file)
	if err != nil {
		return Snapshot{}, fmt.Errorf("keep a snapshot: %w", err)
	}
	return Snapshot{db}, nil
}

// OpenSnapshot opens a store of its own that holds what the snapshot does and ends with Close, as [OpenTemp]'s. It is
// what a data directory is that was copied, or put back from a backup: whoever begins on it says with its
// [store.Place] whether it counts as one.
func OpenSnapshot(from Snapshot, o Options) (*Store, error) {
	if len(from.db) == 0 {
		return nil, errors.New("sqlite: the snapshot is empty")
	}
	return openTemp(from.db, o)
}

// tempDir makes a directory in memory, where there is any.
func tempDir() (string, error) {
	base := "/dev/shm"
	if fi, err := os.Stat(base); err != nil || !fi.IsDir() {
		base = ""
	}
	return os.MkdirTemp(base, "kernwave-store-*")
}
