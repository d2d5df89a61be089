package dpkg

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/linux/durable"
)

// unfinishedFile names the kernel that is being installed. dpkg syncs what it unpacks before it calls a package
// installed, but not what the package's scripts make: modules.dep, an initrd, the boot menu. A power cut within some
// 30 s leaves those empty under a package that is installed as far as dpkg knows. So the file stays until everything is
// on the disk, and while it is there, "installed" is not believed.
const unfinishedFile = "/var/lib/kernwave/installing"

// unfinished says whether an installation of k was begun and may not be on the disk.
func (d *Driver) unfinished(k fleet.Kernel) bool {
	b, err := os.ReadFile(d.path(unfinishedFile))
	return err == nil && string(b) == mark(k)
}

func mark(k fleet.Kernel) string {
	s := string(k.ID) + "\n"
	for _, p := range k.Packages {
		s += p.Name + " " + p.Version + "\n"
	}
	return s
}

func (d *Driver) begin(k fleet.Kernel) error {
	return durable.Write(d.path(unfinishedFile), []byte(mark(k)), 0o644)
}

// finish puts what was installed on the disk, and then says so.
func (d *Driver) finish() error {
	for _, dir := range []string{"/boot", "/lib/modules", "/etc", "/var/lib/dpkg"} {
		if err := syncFS(d.path(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("put what was installed on the disk: %w", err)
		}
	}
	return durable.Remove(d.path(unfinishedFile))
}

// syncFS syncs the file system that dir is on. Where two are on the same, the second has nothing left to do.
func syncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &fs.PathError{Op: "syncfs", Path: dir, Err: err}
	}
	return nil
}
