package deb

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// readDataMember lists the kernels in data.tar. Debian packs files in sorted order, so /boot comes among the first;
// once the walk has passed it, the rest, which is nearly all of the package, is not unpacked.
func readDataMember(ar *arReader) ([]string, error) {
	m, err := member(ar, "data.tar")
	if err != nil {
		return nil, err
	}
	tr, done, err := openTar(ar, m.name, MaxData)
	if err != nil {
		return nil, err
	}
	defer done()
	var kernels []string
	for range MaxEntries {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return kernels, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", m.name, err)
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if release, found := kernelOf(name); found && h.Typeflag == tar.TypeReg {
			if err := checkWord("of the kernel image "+name, release, "+-.~_"); err != nil {
				return nil, err
			}
			kernels = append(kernels, release)
		}
		if len(kernels) > 0 && !strings.HasPrefix(name, "boot/") && !strings.HasPrefix(name, "usr/lib/modules/") {
			return kernels, nil
		}
	}
	return nil, fmt.Errorf("%s holds more than %d files", m.name, MaxEntries)
}

// kernelOf gives the release whose image the file is: boot/vmlinuz-RELEASE, or, as some newer packages have it,
// usr/lib/modules/RELEASE/vmlinuz.
func kernelOf(name string) (release string, found bool) {
	for _, prefix := range []string{"boot/vmlinuz-", "boot/vmlinux-", "boot/Image-"} {
		if r, ok := strings.CutPrefix(name, prefix); ok && r != "" && !strings.Contains(r, "/") {
			return r, true
		}
	}
	r, ok := strings.CutPrefix(name, "usr/lib/modules/")
	if !ok {
		return "", false
	}
	r, ok = strings.CutSuffix(r, "/vmlinuz")
	return r, ok && r != "" && !strings.Contains(r, "/")
}
