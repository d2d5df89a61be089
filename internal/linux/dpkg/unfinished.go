package dpkg

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/linux/durable"
)

// unfinishedFile names the kernel that is being installed. dpkg syncs what it unpacks before it calls a package
// installed, but not what the package's scripts make: modules.dep, an initrd, the boot menu. A power cut within some
// 30 s leaves those empty under a package that is installed as far as dpkg knows. So the file stays until everything is
// on the disk, and while it is there, "installed" is not believed.
const unfinishedFile = "/var/lib/kernwave/installing"

// begun is the kernel whose installation was begun and may not be on the disk; one without packages if there is none.
func (d *Driver) begun() fleet.Kernel {
	var k fleet.Kernel
	b, err := os.ReadFile(d.path(unfinishedFile))
	if err != nil || json.Unmarshal(b, &k) != nil {
		return fleet.Kernel{}
	}
	return k
}

// unfinished says whether it is k.
func (d *Driver) unfinished(k fleet.Kernel) bool {
	b := d.begun()
	return len(b.Packages) > 0 && b.ID == k.ID && slices.Equal(b.Packages, k.Packages)
}

func (d *Driver) begin(k fleet.Kernel) error {
	b, err := json.Marshal(k)
	if err != nil {
		return err
	}
	return durable.Write(d.path(unfinishedFile), b, 0o644)
}

// leftover is what a power cut has left halfway of another kernel than k, which nobody will go on with: its operation
// was called off meanwhile. It is ours to take off. The running kernel's packages never are.
func (d *Driver) leftover(ps status, k fleet.Kernel, running string) fleet.Kernel {
	old := d.begun()
	if old.Release == running {
		return fleet.Kernel{}
	}
	old.Packages = slices.DeleteFunc(old.Packages, func(p fleet.Package) bool {
		q, there := ps.find(p.Name, p.Arch)
		return !there || !q.broken() || slices.ContainsFunc(k.Packages, func(own fleet.Package) bool { return own.Name == p.Name && own.Arch == p.Arch })
	})
	return old
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
