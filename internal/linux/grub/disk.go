package grub

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// _IOWR('X', 119, int) and _IOWR('X', 120, int), the same on every architecture that Debian has but mips, powerpc and sparc.
const (
	ioctlFreeze = 0xC0045877
	ioctlThaw   = 0xC0045878
)

// settle puts everything of dir's file system where GRUB finds it. GRUB reads no journal: after fsync the names and
// sizes of new files may stand in the journal alone. Freezing writes the journal back; it is thawed at once.
//
// mark is a file on another file system (in /run) that exists while dir may be frozen: should the agent be killed in
// between, its next start thaws (see thawLeftover), for a host that stays frozen is a dead host.
func settle(dir, mark string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	fd := int(d.Fd())
	if err := unix.Syncfs(fd); err != nil {
		return fmt.Errorf("sync the file system of %s: %w", dir, err)
	}
	if err := os.MkdirAll(filepath.Dir(mark), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(mark, []byte(dir), 0o600); err != nil {
		return err
	}
	err = freezeAndThaw(fd)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) {
		err = nil // no journal to write back (ext2, vfat): syncfs was enough
	}
	if err != nil {
		err = fmt.Errorf("freeze the file system of %s, so that GRUB sees what was written: %w", dir, err)
	}
	return errors.Join(err, os.Remove(mark))
}

// freezeAndThaw does nothing between the two calls that could wait for the frozen file system: the thread is ours, and
// the second call does not go through the scheduler.
func freezeAndThaw(fd int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), ioctlFreeze, 0); errno != 0 {
		return errno
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), ioctlThaw, 0); errno != 0 {
		return fmt.Errorf("thaw: %w", errno)
	}
	return nil
}

// thawLeftover ends a freeze that an agent did not live to end.
func thawLeftover(mark string) error {
	dir, err := os.ReadFile(mark)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	d, err := os.Open(string(dir))
	if err != nil {
		return fmt.Errorf("thaw what an earlier start left frozen: %w", err)
	}
	defer d.Close()
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), ioctlThaw, 0)
	if errno != 0 && errno != unix.EINVAL { // EINVAL: it is not frozen
		return fmt.Errorf("thaw %s: %w", dir, errno)
	}
	return os.Remove(mark)
}

// overwrite writes the environment block over the old one, in the same blocks of the same file: GRUB notes where they
// are when it reads the file, and writes there.
func overwrite(path string, e Env) error {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOFOLLOW|os.O_SYNC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() || fi.Size() != EnvSize {
		return fmt.Errorf("%s is not a plain file of %d bytes", path, EnvSize)
	}
	if _, err := f.WriteAt(e.buf, 0); err != nil {
		return err
	}
	return f.Sync()
}

// readDirect reads the environment block past the page cache where the file system can, so that what is compared is
// what the disk has.
func readDirect(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.EINVAL) {
		return os.ReadFile(path)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	buf := alignedPage()
	n, err := unix.Pread(int(f.Fd()), buf, 0)
	if errors.Is(err, unix.EINVAL) {
		return os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return bytes.Clone(buf[:n]), nil
}

// alignedPage is 4 KiB at a multiple of 4 KiB, as reading past the cache wants it.
func alignedPage() []byte {
	const page = 4096
	b := make([]byte, 2*page)
	skip := (page - int(uintptr(unsafe.Pointer(&b[0]))%page)) % page
	return b[skip : skip+page]
}
