// Package deb reads Debian packages: their control fields, and which kernel
// they hold. It needs no dpkg, installs nothing and trusts nothing: every size
// that a package states about itself is bounded.
//
//	info, err := deb.Read(file)
//	fmt.Println(info.Name, info.Version, info.Kernels)
package deb

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Info is what a package says about itself.
type Info struct {
	Name    string // linux-image-6.12.117+deb12-cloud-amd64
	Version string // 6.12.117-1~deb12u1
	Arch    string // amd64
	// Source names the source package; empty when it is the same as Name.
	Source string
	// Kernels are the releases (uname -r) whose image the package installs, in the package's order: usually none or one.
	Kernels []string
}

// ErrNotADeb says that the bytes are no Debian package; [Read] wraps it.
var ErrNotADeb = errors.New("not a Debian package")

// MaxControl bounds control.tar once unpacked, and the control file in it. Kernel packages have maintainer scripts
// and file sums of at most some hundred KiB.
const MaxControl = 16 << 20

// MaxEntries bounds the walk through data.tar. The largest kernel packages have about 10,000 files.
const MaxEntries = 200_000

// MaxData bounds data.tar once unpacked: debug packages, which are never rolled, reach some GiB.
const MaxData = 4 << 30

// Read reads one package. r is read until the answer is known, which for a kernel package is early: its image is
// among the first files. An error says which part of the package is damaged.
func Read(r io.Reader) (Info, error) {
	ar, err := newArReader(r)
	if err != nil {
		return Info{}, err
	}
	if err := readVersion(ar); err != nil {
		return Info{}, err
	}
	info, err := readControlMember(ar)
	if err != nil {
		return Info{}, err
	}
	info.Kernels, err = readDataMember(ar)
	if err != nil {
		return Info{}, err
	}
	return info, nil
}

func readVersion(ar *arReader) error {
	m, err := ar.next()
	if err != nil {
		return fmt.Errorf("%w: read its first member: %w", ErrNotADeb, err)
	}
	if m.name != "debian-binary" {
		return fmt.Errorf("%w: its first member is %q, not debian-binary", ErrNotADeb, m.name)
	}
	v, err := io.ReadAll(io.LimitReader(ar, 64))
	if err != nil {
		return fmt.Errorf("read debian-binary: %w", err)
	}
	if !strings.HasPrefix(string(v), "2.") {
		return fmt.Errorf("%w: format %q, only 2.x is known", ErrNotADeb, strings.TrimSpace(string(v)))
	}
	return nil
}

// member skips to the first member whose name begins with prefix; dpkg allows unknown members, with an underscore, between.
func member(ar *arReader, prefix string) (arMember, error) {
	for {
		m, err := ar.next()
		if errors.Is(err, io.EOF) {
			return arMember{}, fmt.Errorf("%w: it has no %s member", ErrNotADeb, prefix)
		}
		if err != nil {
			return arMember{}, fmt.Errorf("look for %s: %w", prefix, err)
		}
		if strings.HasPrefix(m.name, prefix) {
			return m, nil
		}
	}
}
