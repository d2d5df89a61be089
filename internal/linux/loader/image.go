package loader

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// ReadThrough reads a file to its end: what cannot be read now cannot be loaded at boot.
func ReadThrough(path string) error {
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

// ImageRelease is the release inside an x86 kernel's file. It is empty for kernels of other make, which have no release
// at a known place, and for what is no kernel.
//
// Source: Documentation/arch/x86/boot.rst, field kernel_version.
func ImageRelease(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, 0x210)
	if _, err := io.ReadFull(f, head); err != nil || string(head[0x202:0x206]) != "HdrS" {
		return "", nil
	}
	at := binary.LittleEndian.Uint16(head[0x20e:])
	if at == 0 {
		return "", nil
	}
	text := make([]byte, 256)
	n, err := f.ReadAt(text, int64(at)+0x200)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	text, _, _ = bytes.Cut(text[:n], []byte{0})
	text, _, _ = bytes.Cut(text, []byte(" "))
	return string(text), nil
}

// CheckImage refuses a kernel's file that is cut short, and compares the release inside it with its name. Where there is
// none inside, the name has to do.
func CheckImage(path, release string) error {
	if err := checkWhole(path); err != nil {
		return err
	}
	inside, err := ImageRelease(path)
	if err != nil {
		return err
	}
	if inside != "" && inside != release {
		return fmt.Errorf("the file holds kernel %q, not %q", inside, release)
	}
	return nil
}

// checkWhole refuses an x86 kernel's file that is shorter than its own header says. A boot loader starts what there is
// of it, and the machine then stops for good while it unpacks itself: before any watchdog, and without a panic. Signed
// kernels are longer than they say. What is no x86 kernel passes: others do not say how long they are.
//
// Source: Documentation/arch/x86/boot.rst, fields setup_sects and syssize.
func checkWhole(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	head := make([]byte, 0x210)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if n < len(head) || string(head[0x202:0x206]) != "HdrS" {
		return nil
	}
	setup := int64(head[0x1f1])
	if setup == 0 {
		setup = 4
	}
	want := (setup+1)*512 + int64(binary.LittleEndian.Uint32(head[0x1f4:]))*16
	if st.Size() < want {
		return fmt.Errorf("the kernel's file is cut short: it has %d bytes and says that it needs %d", st.Size(), want)
	}
	return nil
}
