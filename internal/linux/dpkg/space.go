package dpkg

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Margins are left free beyond what is counted: for what hooks write that nobody can foresee.
const (
	bootMargin = 16 << 20
	rootMargin = 64 << 20
)

// volume is one file system's room.
type volume struct {
	id         uint64 // of the device
	free       uint64 // bytes that df calls available; what is reserved for root is for root's bad day, not for us
	freeInodes uint64 // 0 with noInodes: the file system does not count them
	noInodes   bool
}

func volumeOf(path string) (volume, error) {
	var st unix.Stat_t
	var fs unix.Statfs_t
	if err := errors.Join(unix.Stat(path, &st), unix.Statfs(path, &fs)); err != nil {
		return volume{}, err
	}
	return volume{id: st.Dev, free: fs.Bavail * uint64(fs.Bsize), freeInodes: fs.Ffree, noInodes: fs.Files == 0}, nil
}

// roomFor says what is too small for as, beside the running kernel.
func (d *Driver) roomFor(as []archive, running string) error {
	type need struct {
		path          string
		bytes, inodes uint64
	}
	boot := need{path: "/boot", bytes: bootMargin}
	modules := need{path: "/lib/modules", bytes: rootMargin}
	for _, a := range as {
		inBoot := uint64(0)
		for _, f := range a.Files {
			if filepath.Dir(f.Path) == "boot" {
				inBoot += f.Size
				boot.inodes++
			} else {
				modules.inodes++
			}
		}
		boot.bytes += inBoot
		modules.bytes += max(a.InstalledBytes, inBoot) - inBoot
	}
	// A host that boots with an initrd gets one for the new kernel, of about the size of the running one's. It is
	// written beside the old one, so that there are two for a while when a hook makes it again.
	fi, err := os.Stat(d.path("/boot/initrd.img-" + running))
	switch {
	case err == nil:
		boot.bytes += 2 * uint64(fi.Size())
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if _, err := os.Stat(d.path(modules.path)); err != nil {
		modules.path = "/"
	}

	left := map[uint64]volume{} // both may be on one file system
	for _, n := range []need{boot, modules} {
		v, err := d.space(d.path(n.path))
		if err != nil {
			return fmt.Errorf("look how full %s is: %w", n.path, err)
		}
		if seen, ok := left[v.id]; ok {
			v = seen
		}
		if v.free < n.bytes {
			return fmt.Errorf("%s is too small: %s are needed, %s are free", n.path, mib(n.bytes), mib(v.free))
		}
		if !v.noInodes && v.freeInodes < n.inodes {
			return fmt.Errorf("%s has too few inodes: %d are needed, %d are free", n.path, n.inodes, v.freeInodes)
		}
		v.free, v.freeInodes = v.free-n.bytes, v.freeInodes-min(n.inodes, v.freeInodes)
		left[v.id] = v
	}
	return nil
}

func mib(n uint64) string { return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20) }
