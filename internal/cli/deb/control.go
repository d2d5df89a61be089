package deb

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

func readControlMember(ar *arReader) (Info, error) {
	m, err := member(ar, "control.tar")
	if err != nil {
		return Info{}, err
	}
	tr, done, err := openTar(ar, m.name, MaxControl)
	if err != nil {
		return Info{}, err
	}
	defer done()
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return Info{}, fmt.Errorf("%s holds no control file", m.name)
		}
		if err != nil {
			return Info{}, fmt.Errorf("read %s: %w", m.name, err)
		}
		if path.Clean(h.Name) == "control" && h.Typeflag == tar.TypeReg {
			info, err := ParseControl(tr)
			if err != nil {
				return Info{}, fmt.Errorf("read the control file: %w", err)
			}
			return info, nil
		}
	}
}

// ParseControl reads the fields of a binary package's control file. Package, Version and Architecture must be there,
// once, and be words; other fields are ignored.
func ParseControl(r io.Reader) (Info, error) {
	var info Info
	want := map[string]*string{
		"package": &info.Name, "version": &info.Version, "architecture": &info.Arch, "source": &info.Source,
	}
	sc := bufio.NewScanner(io.LimitReader(r, MaxControl))
	sc.Buffer(nil, 1<<20) // a Description is one line in memory
	for sc.Scan() {
		line := strings.TrimRight(sc.Text(), " \t\r")
		if line == "" {
			break // the end of the paragraph
		}
		if line[0] == ' ' || line[0] == '\t' || line[0] == '#' {
			continue // continues a field that we do not need, or a comment
		}
		key, value, found := strings.Cut(line, ":")
		if !found {
			return Info{}, fmt.Errorf("line %q is no field", short(line))
		}
		field := want[strings.ToLower(key)]
		if field == nil {
			continue
		}
		if *field != "" {
			return Info{}, fmt.Errorf("field %s stands there twice", key)
		}
		*field = strings.TrimSpace(value)
	}
	if err := sc.Err(); err != nil {
		return Info{}, err
	}
	info.Source, _, _ = strings.Cut(info.Source, " ") // "linux (6.12.9-1)"
	for _, f := range []struct{ name, value, extra string }{
		{"Package", info.Name, "+-."},
		{"Version", info.Version, "+-.~:"},
		{"Architecture", info.Arch, "-"},
	} {
		if err := checkWord(f.name, f.value, f.extra); err != nil {
			return Info{}, err
		}
	}
	return info, nil
}

// checkWord keeps out what could be more than a word in a path, a terminal or a command line.
func checkWord(field, value, extra string) error {
	if value == "" {
		return fmt.Errorf("field %s is missing", field)
	}
	if len(value) > 200 {
		return fmt.Errorf("field %s has %d characters, at most 200 are allowed", field, len(value))
	}
	for i, r := range value {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !alnum && (i == 0 || !strings.ContainsRune(extra, r)) {
			return fmt.Errorf("field %s: character %q is not allowed", field, r)
		}
	}
	return nil
}

func short(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}
