package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/kernwave/kernwave/internal/agent/disk"
)

// anewDir holds an identity that is to replace the one above it, from the making of its key until it is whole.
const anewDir = "anew"

// OpenAnew opens the identity that is to replace the one in dir. Its key stays the same from attempt to attempt, so
// that a lost answer costs no second use of a token. As soon as it has a certificate, [Open] puts it in the other's
// place: the control plane knows only the new key then.
func OpenAnew(fsys disk.FS, dir string) (*Identity, error) {
	return Open(fsys, filepath.Join(dir, anewDir))
}

// adopt puts a new identity in the old one's place, or ends what a crash interrupted: the key first, and the
// certificate, by which everything is known to be there, last.
func adopt(fsys disk.FS, dir string) error {
	anew := filepath.Join(dir, anewDir)
	if _, err := fsys.ReadFile(filepath.Join(anew, certFile)); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("look for a new identity: %w", err)
	}
	for _, name := range []string{keyFile, certFile} {
		err := fsys.Rename(filepath.Join(anew, name), filepath.Join(dir, name))
		if name == keyFile && errors.Is(err, fs.ErrNotExist) {
			continue // it has moved already
		}
		if err != nil {
			return fmt.Errorf("put the new identity in place: %w", err)
		}
		if err := errors.Join(fsys.SyncDir(dir), fsys.SyncDir(anew)); err != nil {
			return fmt.Errorf("put the new identity in place: %w", err)
		}
	}
	return nil
}
