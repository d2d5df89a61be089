package grub

import (
	"io/fs"
	"os"
	"path"
	"syscall"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/linux/loader"
)

// filesThere says whether the kernel and initrds of an entry are in /boot and not empty, without reading them.
func (d *Driver) filesThere(e *Entry) bool {
	for _, file := range append([]string{e.Kernel}, e.Initrds...) {
		if fi, err := os.Stat(d.path("/boot/" + path.Base(file))); err != nil || !fi.Mode().IsRegular() || fi.Size() == 0 {
			return false
		}
	}
	return true
}

// checkFiles makes sure that the kernel and initrds of an entry are in /boot, not empty and readable to the end: a
// kernel that GRUB cannot load is a boot that fails.
func (d *Driver) checkFiles(e *Entry) error {
	for i, file := range append([]string{e.Kernel}, e.Initrds...) {
		// GRUB's path begins at its own file system's root, which is / or /boot.
		local := d.path("/boot/" + path.Base(file))
		err := loader.ReadThrough(local)
		if err == nil && i == 0 {
			err = loader.CheckImage(local, e.Release)
		}
		if err != nil {
			return &fleet.Error{
				Op: "check " + path.Base(file) + " of kernel " + e.Release, Err: err,
				Next: "reinstall the kernel's package, or run: update-initramfs -u -k " + e.Release,
			}
		}
	}
	return nil
}

func deviceOf(fi fs.FileInfo) uint64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return st.Dev
	}
	return 0
}
