package loader

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// image is an x86 kernel's file as far as its header goes: 3 sectors of setup, then 32 KiB.
func image(release string) []byte {
	b := make([]byte, 4*512+32<<10)
	b[0x1f1] = 3
	binary.LittleEndian.PutUint32(b[0x1f4:], 32<<10/16)
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x20e:], 0x400)
	copy(b[0x600:], release+" (builder) #1")
	return b
}

func TestCheckImage(t *testing.T) {
	const release = "6.12.9-amd64"
	whole := image(release)
	noSetup := image(release)
	noSetup[0x1f1] = 0 // means 4: one sector more than there is
	for _, c := range []struct {
		name string
		file []byte
		why  string // empty: it is fine
	}{
		{"whole", whole, ""},
		{"signed, and so longer", append(image(release), 1, 2, 3), ""},
		{"cut by a byte", whole[:len(whole)-1], "is cut short: it has 34815 bytes and says that it needs 34816"},
		{"cut behind its header", whole[:0x700], "is cut short"},
		{"an old kernel's four sectors of setup", noSetup, "needs 35328"},
		{"of another release", image("6.12.8-amd64"), `holds kernel "6.12.8-amd64"`},
		{"of another architecture", []byte("MZ and something"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "vmlinuz")
			if err := os.WriteFile(path, c.file, 0o644); err != nil {
				t.Fatal(err)
			}
			err := CheckImage(path, release)
			if c.why == "" && err != nil || c.why != "" && (err == nil || !strings.Contains(err.Error(), c.why)) {
				t.Errorf("got %v, want %q", err, c.why)
			}
		})
	}
}

// Whatever a file holds, looking at it never panics, and one that is said to be whole stays so when it gets longer.
func FuzzCheckImage(f *testing.F) {
	f.Add(image("6.12.9-amd64"))
	f.Add(image("6.12.9-amd64")[:0x210])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "vmlinuz")
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		release, err := ImageRelease(path)
		if err != nil || checkWhole(path) != nil {
			return
		}
		if err := os.WriteFile(path, append(b, make([]byte, 600)...), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := checkWhole(path); err != nil && len(b) >= 0x210 {
			t.Errorf("whole with %d bytes, and not with 600 more: %v", len(b), err)
		}
		if release != "" && CheckImage(path, release+"x") == nil {
			t.Errorf("%q passes for another release", release)
		}
	})
}
