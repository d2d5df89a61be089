package systemdboot

import (
	"bytes"
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/linux/loader"
)

// local is where a path of the loader's is mounted.
func (d *Driver) local(p *Partition, file string) string {
	return filepath.Join(d.root, p.Point, path.Clean("/"+file))
}

// kernel is the program that the entry starts, initrds what it is given.
func (e *Entry) kernel() string    { return e.Lines.last("linux") }
func (e *Entry) initrds() []string { return e.Lines.all("initrd") }

// filesThere says whether the entry's files are there and not empty, without reading them.
func (d *Driver) filesThere(e *Entry) bool {
	if e.UKI() || e.kernel() == "" {
		return false
	}
	for _, f := range append([]string{e.kernel()}, e.initrds()...) {
		if fi, err := os.Stat(d.local(e.Part, f)); err != nil || !fi.Mode().IsRegular() || fi.Size() == 0 {
			return false
		}
	}
	return true
}

// checkFiles makes sure that the loader can load the entry: its files are there to the last byte, and its kernel is
// a whole EFI program of that release. A kernel that cannot be loaded sends systemd-boot back to the firmware, which may
// start anything, or wait for a person: this must not be found out at boot.
func (d *Driver) checkFiles(e *Entry) error {
	for i, file := range append([]string{e.kernel()}, e.initrds()...) {
		at := d.local(e.Part, file)
		err := loader.ReadThrough(at)
		if err == nil && i == 0 {
			err = errors.Join(loader.CheckImage(at, e.Release), wholeProgram(at))
		}
		if err != nil {
			return &fleet.Error{
				Op: "check " + file + " of kernel " + e.Release, Err: err,
				Next: "run: kernel-install add " + e.Release + " /boot/vmlinuz-" + e.Release,
			}
		}
	}
	return nil
}

// wholeProgram refuses what is no EFI program and one that is cut off.
func wholeProgram(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	p, err := pe.NewFile(f)
	if err != nil {
		return fmt.Errorf("it is no EFI program: %w", err)
	}
	need := int64(0)
	for _, s := range p.Sections {
		need = max(need, int64(s.Offset)+int64(s.Size))
	}
	if o, ok := p.OptionalHeader.(*pe.OptionalHeader64); ok && o.NumberOfRvaAndSizes > pe.IMAGE_DIRECTORY_ENTRY_SECURITY {
		sig := o.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_SECURITY] // its address is an offset in the file
		need = max(need, int64(sig.VirtualAddress)+int64(sig.Size))
	}
	if fi.Size() < need {
		return fmt.Errorf("it is cut off: %d bytes of %d", fi.Size(), need)
	}
	return nil
}

// sameAsInstalled compares the entry's files with those that the packages and hooks left in /boot, where they are:
// a copy that was interrupted is as long as it got.
func (d *Driver) sameAsInstalled(e *Entry) error {
	pairs := map[string]string{e.kernel(): "/boot/vmlinuz-" + e.Release}
	for _, i := range e.initrds() {
		if base := path.Base(i); base == "initrd.img-"+e.Release {
			pairs[i] = "/boot/" + base
		}
	}
	for file, from := range pairs {
		same, err := sameContent(d.local(e.Part, file), filepath.Join(d.root, from))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !same {
			return fmt.Errorf("%s on %s is not the file that is in %s", file, e.Part.Point, from)
		}
	}
	return nil
}

func sameContent(a, b string) (bool, error) {
	x, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer x.Close()
	y, err := os.Open(b)
	if err != nil {
		return false, err
	}
	defer y.Close()
	p, q := make([]byte, 256<<10), make([]byte, 256<<10)
	for {
		n, errX := io.ReadFull(x, p)
		m, errY := io.ReadFull(y, q)
		if n != m || !bytes.Equal(p[:n], q[:m]) {
			return false, nil
		}
		if errX != nil || errY != nil {
			ended := func(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
			if ended(errX) && ended(errY) {
				return true, nil
			}
			return false, errors.Join(errX, errY)
		}
	}
}

// ukiRelease is the uname -r of a unified kernel image; empty where it does not say.
func ukiRelease(file string) string {
	f, err := pe.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	s := f.Section(".uname")
	if s == nil || s.Size > 4096 {
		return ""
	}
	b, err := s.Data()
	if err != nil {
		return ""
	}
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(bytes.TrimSpace(b))
}
