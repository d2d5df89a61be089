package grub

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/kernwave/kernwave/fleet"
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
		err := readThrough(local)
		if err == nil && i == 0 {
			err = checkImage(local, e.Release)
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

func readThrough(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(io.Discard, f)
	if err == nil && n == 0 {
		err = errors.New("the file is empty")
	}
	return err
}

// checkImage compares the release inside an x86 kernel's file with its name. Kernels of other make have no release at
// a known place; for those the name has to do.
//
// Source: Documentation/arch/x86/boot.rst, field kernel_version.
func checkImage(path, release string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, 0x210)
	if _, err := io.ReadFull(f, head); err != nil || string(head[0x202:0x206]) != "HdrS" {
		return nil
	}
	at := binary.LittleEndian.Uint16(head[0x20e:])
	if at == 0 {
		return nil
	}
	text := make([]byte, 256)
	n, err := f.ReadAt(text, int64(at)+0x200)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	text, _, _ = bytes.Cut(text[:n], []byte{0})
	if inside, _, _ := strings.Cut(string(text), " "); inside != release {
		return fmt.Errorf("the file holds kernel %q, not %q", inside, release)
	}
	return nil
}

func deviceOf(fi fs.FileInfo) uint64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return st.Dev
	}
	return 0
}
