package sqlite

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kernwave/kernwave/fleet"
)

// lockDir takes the lock of a data directory until the file is closed or the process ends, however it ends.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		b := make([]byte, 32)
		n, _ := f.ReadAt(b, 0)
		f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		by := "another kernwave server"
		if pid := bytes.TrimSpace(b[:n]); len(pid) > 0 {
			by += " (process " + string(pid) + ")"
		}
		return nil, &fleet.Error{
			Op: "open the data directory " + dir, Err: errors.New(by + " has it open"),
			Next: "stop the other server, or give this one a data directory of its own",
		}
	}
	// For the message above alone: the lock is the flock, not the file.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	}
	return f, nil
}
