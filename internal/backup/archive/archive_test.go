package archive

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestNamesInABackup: nothing is written outside of where it belongs.
func TestNamesInABackup(t *testing.T) {
	for _, name := range []string{
		"../x", "/etc/passwd", "ca/../../x", "ca/./x", "ca//x", "ca/.x", "lock", "stop", "kernwave.db-wal", "blobs/sha256/ab/x",
		"ca/\x00", "ca/é", "ca", "blobs/sha256/ab/" + strings.Repeat("A", 64), ".restore-ready/plan.json", "",
	} {
		if Allowed(name) == nil {
			t.Errorf("%q is allowed", name)
		}
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range []struct{ name, text string }{{ManifestName, `{"format":1}`}, {"../x", "evil"}} {
		_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Size: int64(len(f.text)), Mode: 0o600})
		_, _ = w.Write([]byte(f.text))
	}
	if _, err := Read(&b, func(name string, _ io.Reader) error {
		if name == "../x" {
			t.Error("it was given out")
		}
		return nil
	}); err == nil || !strings.Contains(err.Error(), "no place in a backup") {
		t.Errorf("got %v", err)
	}
	for text, want := range map[string]string{
		`{"format":2}`: "a newer kernwave made it", `{}`: "names no format", `[`: ManifestName,
	} {
		if _, err := parseManifest([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func small(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, Manifest{MadeAt: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{DBName, "ca/key.pem", "ca/cert.pem"} {
		file := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(file, []byte("text of "+name), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := w.File(name, f); err != nil {
			t.Fatal(err)
		}
		if err := w.File("lock", f); err == nil {
			t.Error("a name that has no place was written")
		}
	}
	if n, err := w.Close(); err != nil || n != int64(b.Len()) || w.Files() != 3 {
		t.Fatal(n, err)
	}
	return b.Bytes()
}

// FuzzRead: whatever is in a file, reading it neither panics nor gives out a name that has no place, and what it
// accepts has what a backup must have.
func FuzzRead(f *testing.F) {
	whole := small(f)
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte{})
	f.Add([]byte("kernwave"))
	f.Fuzz(func(t *testing.T, b []byte) {
		names := map[string]bool{}
		_, err := Read(bytes.NewReader(b), func(name string, _ io.Reader) error {
			if Allowed(name) != nil || names[name] {
				t.Errorf("%q was given out", name)
			}
			names[name] = true
			return nil
		})
		if err == nil && (!names[DBName] || !names["ca/key.pem"] || !names["ca/cert.pem"]) {
			t.Error("a file without what it must have was accepted")
		}
	})
}
