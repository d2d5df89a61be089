// Package efivar reads and writes the firmware's variables through efivarfs: those
// by which boot loader and system speak to each other, and the few of UEFI itself
// that say what the next boot is.
//
//	vars := efivar.New("/")
//	id, err := vars.Text(efivar.Selected)
//	err = vars.Set(efivar.OneShot, "kernwave-trial.conf")
package efivar

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf16"

	"golang.org/x/sys/unix"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/linux/loader"
)

// Dir is where efivarfs is mounted.
const Dir = "/sys/firmware/efi/efivars"

const (
	loaderGUID = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
	globalGUID = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
)

// Variables of the Boot Loader Interface.
const (
	Default    = "LoaderEntryDefault"
	OneShot    = "LoaderEntryOneShot"
	Selected   = "LoaderEntrySelected"
	LastBooted = "LoaderEntryLastBooted"
	Entries    = "LoaderEntries"
	Timeout    = "LoaderConfigTimeout"
	// TimeoutOneShot shows the menu once, at the next boot.
	TimeoutOneShot = "LoaderConfigTimeoutOneShot"
	Info           = "LoaderInfo"
	Firmware       = "LoaderFirmwareInfo"
	PartUUID       = "LoaderDevicePartUUID" // of the partition that the loader was started from
)

// kept is a variable's attributes: in the firmware's memory for good, seen by the loader and by Linux.
const kept = 0x07

// flagImmutable is FS_IMMUTABLE_FL of linux/fs.h.
const flagImmutable = 0x10

// maxVariable bounds what is read of one variable; LoaderEntries, the longest, lists names of files.
const maxVariable = 64 << 10

// Variables are the firmware's.
type Variables struct {
	root string
	// Immutable sets or clears the flag that keeps people from deleting variables by mistake, and says whether it was
	// set. Tests over folders replace it.
	Immutable func(f *os.File, on bool) (was bool, err error)
}

// New returns the variables of the machine whose files are below root.
func New(root string) Variables { return Variables{root, setImmutable} }

func (v Variables) path(name, guid string) string {
	return filepath.Join(v.root, Dir, name+"-"+guid)
}

// Usable says why variables cannot be read, or not be written.
func (v Variables) Usable() (readOnly bool, err error) {
	ms, err := loader.Mounts(v.root)
	if err != nil {
		return false, err
	}
	for i := len(ms) - 1; i >= 0; i-- {
		if ms[i].Point != Dir {
			continue
		}
		if ms[i].FS == "efivarfs" {
			return ms[i].ReadOnly, nil
		}
		break
	}
	return false, &fleet.Error{
		Op: "read the firmware's variables", Err: fmt.Errorf("efivarfs is not mounted at %s", Dir),
		Next: "run: mount -t efivarfs efivarfs " + Dir + "; on a kernel that was booted with noefi or efi=noruntime, boot without that",
	}
}

// Text reads a text variable of the loader. One that is not there is empty.
func (v Variables) Text(name string) (string, error) {
	b, err := v.raw(name, loaderGUID)
	if err != nil || b == nil {
		return "", err
	}
	s, err := DecodeText(b)
	if err != nil {
		return "", fmt.Errorf("variable %s: %w", name, err)
	}
	return s, nil
}

// Texts reads a variable that holds several texts.
func (v Variables) Texts(name string) ([]string, error) {
	b, err := v.raw(name, loaderGUID)
	if err != nil {
		return nil, err
	}
	var out []string
	for len(b) > 1 {
		s, err := DecodeText(b[:len(b)&^1])
		if err != nil {
			return nil, fmt.Errorf("variable %s: %w", name, err)
		}
		out = append(out, s)
		n := 0
		for n+1 < len(b) && (b[n] != 0 || b[n+1] != 0) {
			n += 2
		}
		b = b[min(len(b), n+2):]
	}
	return out, nil
}

// raw reads a variable's data, without its attributes; nil where it is not there.
func (v Variables) raw(name, guid string) ([]byte, error) {
	b, err := os.ReadFile(v.path(name, guid))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read variable %s: %w", name, err)
	case len(b) < 4 || len(b) > maxVariable:
		return nil, fmt.Errorf("read variable %s: %d bytes, must be between 4 and %d", name, len(b), maxVariable)
	}
	return b[4:], nil
}

// Set writes a text variable of the loader and reads it back. Empty deletes it.
func (v Variables) Set(name, text string) error {
	err := v.write(name, text)
	if err == nil {
		var back string
		if back, err = v.Text(name); err == nil && back != text {
			err = fmt.Errorf("it reads back as %q, not %q", back, text)
		}
	}
	if err == nil {
		return nil
	}
	next := "look at the firmware's variables: ls " + Dir
	if errors.Is(err, unix.ENOSPC) {
		next = "the firmware's memory for variables is full: delete what is not needed (dump-* of pstore, old Boot#### entries)"
	}
	return &fleet.Error{Op: "write the firmware's variable " + name, Err: err, Next: next}
}

func (v Variables) write(name, text string) error {
	path := v.path(name, loaderGUID)
	was, err := v.unprotect(path)
	if err != nil {
		return err
	}
	if text == "" {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	// In one call: each call sets the variable anew.
	_, err = f.Write(append(binary.LittleEndian.AppendUint32(nil, kept), EncodeText(text)...))
	if was && err == nil {
		_, err = v.Immutable(f, true)
	}
	return errors.Join(err, f.Close())
}

// unprotect clears the immutable flag of a variable that is there.
func (v Variables) unprotect(path string) (was bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil // the kernel makes new ones so
	}
	if err != nil {
		return false, err
	}
	was, err = v.Immutable(f, false)
	return was, errors.Join(err, f.Close())
}

// setImmutable changes the flag by ioctl. A file system that has no flags has none to change.
func setImmutable(f *os.File, on bool) (was bool, err error) {
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the flags of %s: %w", f.Name(), err)
	}
	was = flags&flagImmutable != 0
	if was == on {
		return was, nil
	}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags^flagImmutable); err != nil {
		return was, fmt.Errorf("change the immutable flag of %s: %w", f.Name(), err)
	}
	return was, nil
}

// DecodeText reads a text variable's data: UTF-16, little endian, up to the first NUL.
func DecodeText(b []byte) (string, error) {
	if len(b)%2 != 0 {
		return "", fmt.Errorf("%d bytes are no UTF-16", len(b))
	}
	units := make([]uint16, 0, len(b)/2)
	for i := 0; i < len(b); i += 2 {
		u := binary.LittleEndian.Uint16(b[i:])
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units)), nil
}

// EncodeText is the reverse of [DecodeText], with the NUL at the end.
func EncodeText(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return append(b, 0, 0)
}

// BootedBy is what the loader that booted this machine says of itself, in lower case: "systemd-boot 252.39-1",
// "grub 2.12". Empty: it says nothing, or its variable cannot be read.
func BootedBy(root string) string {
	s, err := New(root).Text(Info)
	if err != nil {
		return ""
	}
	return strings.ToLower(s)
}

// BootNext says whether somebody told the firmware to start something else at the next boot, whatever the loader.
func BootNext(root string) bool {
	b, err := New(root).raw("BootNext", globalGUID)
	return err == nil && b != nil
}

// SecureBoot says whether the firmware starts signed programs only; known is false where it does not say.
func SecureBoot(root string) (on, known bool) {
	b, err := New(root).raw("SecureBoot", globalGUID)
	return len(b) == 1 && b[0] == 1, err == nil && len(b) == 1
}
