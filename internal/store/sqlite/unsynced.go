package sqlite

import (
	"fmt"
	"os"
	"path/filepath"
)

// OpenUnsynced is Open for simulators: it waits for no disk, and takes no lock, so that two processes that both believe
// to be the only one can be played. Put dir into memory, such as below /dev/shm.
func OpenUnsynced(dir string, o Options) (*Store, error) {
	o.unsynced, o.unlocked = true, true
	return Open(dir, o)
}

// PutInto makes a new data directory's store of a snapshot: what a restored backup is, and a cloned directory.
func (s Snapshot) PutInto(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, fileName), s.db, 0o600); err != nil {
		return fmt.Errorf("put a snapshot into %s: %w", dir, err)
	}
	return nil
}
