package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
)

// What is read into memory of a file that somebody names.
const (
	maxManifest = 64 << 10
	maxSums     = 64 << 20 // half a million packages
)

// ErrTooNew is in the error for a file of a format that this program does not know.
var ErrTooNew = errors.New("a newer kernwave made it")

// Read goes through a file, gives the content of each of its files to each, and compares the checksums at the end: an
// error means that nothing that each got may be used.
func Read(r io.Reader, each func(name string, content io.Reader) error) (m Manifest, err error) {
	tr := tar.NewReader(bufio.NewReaderSize(r, 64<<10))
	got := map[string]string{}
	var sums []byte
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return m, notOurs(len(got), err)
		}
		switch {
		case sums != nil:
			return m, fmt.Errorf("%s comes after the checksums", h.Name)
		case h.Typeflag != tar.TypeReg:
			return m, fmt.Errorf("%s is no regular file", h.Name)
		case len(got) == 0 && h.Name != ManifestName:
			return m, notOurs(0, errors.New("it begins with "+h.Name))
		case got[h.Name] != "":
			return m, fmt.Errorf("%s is in it twice", h.Name)
		}
		if h.Name == SumsName {
			if sums, err = io.ReadAll(io.LimitReader(tr, maxSums)); err != nil {
				return m, err
			}
			continue
		}
		if err := Allowed(h.Name); err != nil {
			return m, err
		}
		sum := sha256.New()
		content := io.TeeReader(tr, sum)
		if h.Name == ManifestName {
			b, err := io.ReadAll(io.LimitReader(content, maxManifest))
			if err == nil {
				m, err = parseManifest(b)
			}
			if err != nil {
				return m, err
			}
		}
		if err := each(h.Name, content); errors.Is(err, io.ErrUnexpectedEOF) {
			return m, fmt.Errorf("it is damaged or cut off in %s: %w", h.Name, err)
		} else if err != nil {
			return m, err
		}
		if _, err := io.Copy(io.Discard, content); err != nil {
			return m, fmt.Errorf("it is damaged or cut off in %s: %w", h.Name, err)
		}
		got[h.Name] = hex.EncodeToString(sum.Sum(nil))
	}
	if sums == nil {
		return m, errors.New("it is cut off: there are no checksums at its end")
	}
	return m, compare(got, sums)
}

// notOurs tells a file of ours that is damaged from any other.
func notOurs(files int, err error) error {
	if files > 0 {
		return fmt.Errorf("it is damaged or cut off after %d files: %w", files, err)
	}
	return fmt.Errorf("it is not a backup of kernwave: %w", err)
}

func parseManifest(b []byte) (m Manifest, err error) {
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("%s: %w", ManifestName, err)
	}
	switch {
	case m.Format < 1:
		return m, fmt.Errorf("%s names no format", ManifestName)
	case m.Format > Format:
		return m, fmt.Errorf("%w: its format is %d, this program knows formats up to %d", ErrTooNew, m.Format, Format)
	}
	return m, nil
}

// compare holds what was read against the checksums.
func compare(got map[string]string, sums []byte) error {
	left := len(got)
	lines := bufio.NewScanner(bytes.NewReader(sums))
	seen := map[string]bool{}
	for lines.Scan() {
		sum, name, ok := strings.Cut(lines.Text(), "  ")
		switch {
		case !ok || seen[name]:
			return fmt.Errorf("%s is damaged: %q", SumsName, lines.Text())
		case got[name] == "":
			return fmt.Errorf("%s is missing", name)
		case got[name] != sum:
			return fmt.Errorf("%s is damaged: its SHA-256 is %s, it was %s", name, got[name], sum)
		}
		seen[name] = true
		left--
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s is damaged: %w", SumsName, err)
	}
	if left > 0 {
		return fmt.Errorf("%d of its files have no checksum", left)
	}
	for _, name := range []string{DBName, CADir + "/key.pem", CADir + "/cert.pem"} {
		if got[name] == "" {
			return fmt.Errorf("%s is missing", name)
		}
	}
	return nil
}

var blobName = regexp.MustCompile(`^blobs/sha256/[0-9a-f]{2}/[0-9a-f]{64}$`)

// Allowed says why a name has no place in a data directory; nil: it has.
func Allowed(name string) error {
	clean := path.Clean(name)
	switch {
	case name == ManifestName, name == DBName, name == TokenName, blobName.MatchString(name):
		return nil
	case clean == name && strings.HasPrefix(name, CADir+"/") && !strings.Contains(name, "/.") && !strings.Contains(name, "\\") &&
		!strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' }):
		return nil
	}
	return fmt.Errorf("%q has no place in a backup", name)
}
