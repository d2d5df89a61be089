package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// FileName is the database's in a data directory.
const FileName = fileName

// metaBackup marks a copy: whoever begins on it begins as restored, wherever it lies.
const metaBackup = "backup" // Mark; no row: not a backup

// Mark says of a copy that it is one.
type Mark struct {
	At time.Time `json:"at"`
	By string    `json:"by"` // the program and the machine that made it, for people
}

// Content is what a copy holds, for people and for whoever puts it back.
type Content struct {
	Schema       int
	Epoch        fleet.Incarnation
	Hosts        int
	OpenRollouts int
	LastEvent    int64 // its number
}

// Backup is [Copy], and marks the copy: it begins in a new incarnation, with everything stopped, without anybody having
// to say that it was restored.
func Backup(ctx context.Context, dir, file string, m Mark) (c Content, err error) {
	if err := Copy(ctx, dir, file); err != nil {
		return c, err
	}
	db, err := sql.Open("sqlite", "file:"+escaped(file)+"?_pragma=journal_mode(DELETE)&_pragma=synchronous(OFF)")
	if err != nil {
		return c, fmt.Errorf("open the copy %s: %w", file, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	mark, err := json.Marshal(m)
	if err != nil {
		return c, err
	}
	if _, err := db.ExecContext(ctx, "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
		metaBackup, string(mark)); err != nil {
		return c, fmt.Errorf("mark the copy %s: %w", file, err)
	}
	var epoch string
	row := db.QueryRowContext(ctx, `SELECT (SELECT user_version FROM pragma_user_version),
		coalesce((SELECT value FROM meta WHERE key = 'epoch'), '{}'), (SELECT count(*) FROM host),
		(SELECT count(*) FROM rollout WHERE open = 1), coalesce((SELECT max(seq) FROM event), 0)`)
	if err := row.Scan(&c.Schema, &epoch, &c.Hosts, &c.OpenRollouts, &c.LastEvent); err != nil {
		return c, fmt.Errorf("look into the copy %s: %w", file, err)
	}
	if err := json.Unmarshal([]byte(epoch), &c.Epoch); err != nil {
		return c, fmt.Errorf("look into the copy %s: %w", file, err)
	}
	return c, nil
}

// Epoch reads what the store in dir began with last, whoever has it open.
func Epoch(ctx context.Context, dir string) (e fleet.Incarnation, err error) {
	path := filepath.Join(dir, fileName)
	if _, err := os.Stat(path); err != nil {
		return e, err
	}
	db, err := sql.Open("sqlite", dsn(path, "FULL"))
	if err != nil {
		return e, fmt.Errorf("open %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var row string
	if err := db.QueryRowContext(ctx, "SELECT coalesce((SELECT value FROM meta WHERE key = ?), '{}')", metaEpoch).Scan(&row); err != nil {
		return e, fmt.Errorf("read the epoch of %s: %w", path, err)
	}
	return e, json.Unmarshal([]byte(row), &e)
}

// Outbid makes the store in dir, which nobody has open, begin above an incarnation when it begins as restored.
func Outbid(ctx context.Context, dir string, i fleet.Incarnation) (err error) {
	db, err := sql.Open("sqlite", "file:"+escaped(filepath.Join(dir, fileName))+"?_pragma=journal_mode(DELETE)&_pragma=synchronous(FULL)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	row, had := "", fleet.Incarnation{}
	if err := db.QueryRowContext(ctx, "SELECT coalesce((SELECT value FROM meta WHERE key = ?), '{}')", metaObeyed).Scan(&row); err != nil {
		return fmt.Errorf("read who was obeyed: %w", err)
	}
	if err := json.Unmarshal([]byte(row), &had); err != nil || !later(i, had) {
		return err
	}
	b, err := json.Marshal(i)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", metaObeyed, string(b))
	return err
}

// Schema is the newest version that this program knows.
func Schema() int {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	return len(files)
}

// Lock takes the lock of a data directory, which every server holds, until it is closed or the process ends. The error
// names the process that has it.
func Lock(dir string) (io.Closer, error) { return lockDir(dir) }

// Files are what a store keeps in a data directory: all of them go together.
func Files(dir string) []string {
	f := filepath.Join(dir, fileName)
	return []string{f, f + "-wal", f + "-shm"}
}
