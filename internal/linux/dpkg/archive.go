package dpkg

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/kernwave/kernwave/internal/linux/command"
)

// archive is a package's file.
type archive struct {
	Name, Version, Arch string
	InstalledBytes      uint64
	Needs               [][]relation // Depends and Pre-Depends
	Files               []file
}

// file is one entry of an archive that is no folder. Its path begins without a slash.
type file struct {
	Path string
	Size uint64
}

// read asks dpkg-deb about a package's file. Listing unpacks it, which is also a test that it is whole.
func (d *Driver) read(ctx context.Context, path string) (archive, error) {
	fields, err := d.run.Run(ctx, command.Cmd{Name: "dpkg-deb", Args: []string{"--field", path, "Package", "Version", "Architecture", "Installed-Size", "Depends", "Pre-Depends"}})
	if err != nil {
		return archive{}, err
	}
	a, err := parseFields(fields)
	if err != nil {
		return archive{}, fmt.Errorf("read %s: %w", path, err)
	}
	list, err := d.run.Run(ctx, command.Cmd{Name: "dpkg-deb", Args: []string{"--contents", path}, Timeout: installTimeout})
	if err != nil {
		return archive{}, err
	}
	if a.Files, err = parseContents(list); err != nil {
		return archive{}, fmt.Errorf("read %s: %w", path, err)
	}
	return a, nil
}

// parseFields reads lines of Name: value; a line that begins with a space goes on with the one before.
func parseFields(out string) (archive, error) {
	values := map[string]string{}
	last := ""
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") {
			values[last] += line
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return archive{}, fmt.Errorf("a field that is none: %.80q", line)
		}
		last = name
		values[name] = strings.TrimSpace(value)
	}
	a := archive{Name: values["Package"], Version: values["Version"], Arch: values["Architecture"]}
	if kib := values["Installed-Size"]; kib != "" {
		n, err := strconv.ParseUint(kib, 10, 50)
		if err != nil {
			return archive{}, fmt.Errorf("field Installed-Size: %w", err)
		}
		a.InstalledBytes = n << 10
	}
	for _, f := range []string{"Depends", "Pre-Depends"} {
		needs, err := parseRelations(values[f])
		if err != nil {
			return archive{}, fmt.Errorf("field %s: %w", f, err)
		}
		a.Needs = append(a.Needs, needs...)
	}
	return a, nil
}

// parseContents reads lines as ls -l has them: -rw-r--r-- root/root 123 2026-01-02 03:04 ./boot/vmlinuz-6.12.9-amd64.
func parseContents(out string) ([]file, error) {
	var files []file
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n")
		rest, words := line, [5]string{}
		for i := range words {
			words[i], rest, _ = strings.Cut(strings.TrimLeft(rest, " "), " ")
		}
		if words[0] == "" || !strings.HasPrefix(rest, "./") {
			return nil, fmt.Errorf("a line of contents that is none: %.80q", line)
		}
		if words[0][0] == 'd' {
			continue
		}
		size, err := strconv.ParseUint(words[2], 10, 50)
		if err != nil {
			return nil, fmt.Errorf("a line of contents without a size: %.80q", line)
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(rest, "./"), " -> ")
		name, _, _ = strings.Cut(name, " link to ")
		files = append(files, file{name, size})
	}
	return files, nil
}

// ships says whether a has the kernel's image for release.
func (a archive) ships(release string) bool {
	for _, f := range a.Files {
		if f.Path == "boot/vmlinuz-"+release || f.Path == "boot/vmlinux-"+release {
			return true
		}
	}
	return false
}

// fileOf returns a file of a that belongs to release: in /boot or among its modules.
func (a archive) fileOf(release string) (path string, ok bool) {
	for _, f := range a.Files {
		p := strings.TrimPrefix(f.Path, "usr/")
		if strings.HasPrefix(p, "lib/modules/"+release+"/") || strings.HasPrefix(p, "boot/") && strings.HasSuffix(p, "-"+release) {
			return "/" + f.Path, true
		}
	}
	return "", false
}
