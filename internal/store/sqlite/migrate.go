package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/kernwave/kernwave/fleet"
)

// Migrations are applied in the order of their numbers, each once, and are never edited after a release.
//
//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the schema to the newest version. user_version of the database counts what was applied.
func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	var have int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have); err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	if have > len(files) {
		return &fleet.Error{
			Op:   "read the store",
			Err:  fmt.Errorf("its schema has version %d, this program knows versions up to %d", have, len(files)),
			Next: "start the newer kernwave that wrote it, or restore the backup from before the upgrade",
		}
	}
	for i, file := range files[have:] {
		number := have + i + 1
		if named, _, _ := strings.Cut(strings.TrimPrefix(file, "migrations/"), "_"); named != fmt.Sprintf("%04d", number) {
			return fmt.Errorf("migration %s should be number %04d: the numbers must have no gaps", file, number)
		}
		body, err := fs.ReadFile(migrations, file)
		if err != nil {
			return err
		}
		if err := apply(ctx, db, number, string(body)); err != nil {
			return fmt.Errorf("migration %s: %w", file, err)
		}
	}
	return nil
}

func apply(ctx context.Context, db *sql.DB, number int, body string) (err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tx.Rollback())
		}
	}()
	// Another process may have been faster; only tests have two.
	var have int
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have); err != nil {
		return err
	}
	if have >= number {
		return tx.Commit()
	}
	if _, err := tx.ExecContext(ctx, body); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "PRAGMA user_version = "+strconv.Itoa(number)); err != nil {
		return err
	}
	return tx.Commit()
}
