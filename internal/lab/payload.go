package lab

import (
	"archive/tar"
	"fmt"
	"os"
	"strings"
)

// writePayload writes the tar that a host unpacks once, in its first boot, before the services that start in that boot.
// The size is a multiple of a sector, as a drive's must be; tar's own blocks see to that.
func writePayload(path string, spec HostSpec) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	w := tar.NewWriter(out)
	own := []File{
		{Path: "/etc/hostname", Content: []byte(spec.Name + "\n")},
		{Path: "/etc/hosts", Content: []byte("127.0.0.1 localhost " + spec.Name + "\n" + GuestAddr + " " + GuestName + "\n")},
	}
	for _, f := range append(own, spec.Payload...) {
		name, ok := strings.CutPrefix(f.Path, "/")
		if !ok {
			return fmt.Errorf("payload of %s: %q is not an absolute path", spec.Name, f.Path)
		}
		if f.Link != "" {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: f.Link, Mode: 0o777}); err != nil {
				return err
			}
			continue
		}
		data, mode, err := f.read()
		if err != nil {
			return fmt.Errorf("payload of %s: %w", spec.Name, err)
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: int64(mode.Perm()), Size: int64(len(data))}); err != nil {
			return err
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return out.Close()
}
