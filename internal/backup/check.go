package backup

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/backup/archive"
	"github.com/kernwave/kernwave/internal/store/sqlite"
)

// Check reads a whole file, compares every checksum in it, and says what it holds. It changes nothing.
func Check(file string) (Manifest, error) {
	f, err := os.Open(file)
	if err != nil {
		return Manifest{}, &fleet.Error{Op: "read the backup " + file, Err: err, Next: "name a file that kernwave backup wrote"}
	}
	defer f.Close()
	m, err := archive.Read(f, func(string, io.Reader) error { return nil })
	if err == nil && m.Schema > sqlite.Schema() {
		err = fmt.Errorf("%w: its database has schema %d, this program knows schemas up to %d", archive.ErrTooNew, m.Schema, sqlite.Schema())
	}
	if err != nil {
		return m, damaged(file, err)
	}
	return m, nil
}

// damaged explains a file that cannot be used.
func damaged(file string, err error) error {
	if _, ok := errors.AsType[*fleet.Error](err); ok {
		return err
	}
	next := "nothing was changed; use another backup, or copy this one again from where it came from"
	if errors.Is(err, archive.ErrTooNew) {
		next = "nothing was changed; use the kernwave that made it, or a newer one"
	}
	// As text: a file that ends too early is not a connection that broke off.
	return &fleet.Error{Op: "read the backup " + file, Err: errors.New(err.Error()), Next: next}
}
