package dpkg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lockFiles are held by apt (the first) and by dpkg (both) while they work.
var lockFiles = []string{"/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock"}

// lockedError says who holds dpkg's lock.
type lockedError struct{ by string }

func (e *lockedError) Error() string { return "dpkg is locked by " + e.by }

// unlocked returns a [*lockedError] while someone works on the packages. It takes no lock itself.
func (d *Driver) unlocked() error {
	for _, file := range lockFiles {
		by, err := d.holder(file)
		if err != nil {
			return fmt.Errorf("look at %s: %w", file, err)
		}
		if by != "" {
			return &lockedError{by}
		}
	}
	return nil
}

// holder names the process that has the lock; empty: none.
func (d *Driver) holder(file string) (string, error) {
	f, err := os.Open(d.path(file))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	l := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &l); err != nil {
		return "", err
	}
	if l.Type == unix.F_UNLCK {
		return "", nil
	}
	if l.Pid <= 0 {
		return "a process that cannot be seen from here", nil // in another container, or by an open file description
	}
	pid := strconv.Itoa(int(l.Pid))
	name, err := os.ReadFile(filepath.Join("/proc", pid, "comm"))
	if err != nil {
		return "process " + pid, nil
	}
	return strings.TrimSpace(string(name)) + " (process " + pid + ")", nil
}

// waitUnlocked waits for others to finish.
func (d *Driver) waitUnlocked(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.lockWait)
	defer cancel()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		err := d.unlocked()
		if _, locked := errors.AsType[*lockedError](err); !locked {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w, also after waiting", err)
		case <-tick.C:
		}
	}
}
