package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestCutAnywhere: whatever prefix of the file a power cut leaves, the records that were whole are there, and the next one
// follows them.
func TestCutAnywhere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "j")
	j, _, err := Open(path)
	must(t, err)
	ends := []int{len(magic)}
	for i := range 5 {
		must(t, j.Append(bytes.Repeat([]byte{byte('a' + i)}, i*7)))
		ends = append(ends, int(j.end))
	}
	must(t, j.Close())
	whole, err := os.ReadFile(path)
	must(t, err)
	for cut := range len(whole) + 1 {
		p := filepath.Join(dir, "cut")
		must(t, os.WriteFile(p, whole[:cut], 0o600))
		j, recs, err := Open(p)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		want := -1
		for _, e := range ends {
			if e <= cut {
				want++
			}
		}
		if len(recs) != max(want, 0) {
			t.Fatalf("cut at %d: %d records, want %d", cut, len(recs), want)
		}
		must(t, j.Append([]byte("next")))
		must(t, j.Close())
		j, recs, err = Open(p)
		if err != nil || string(recs[len(recs)-1]) != "next" {
			t.Fatalf("cut at %d and written on: %q, %v", cut, recs, err)
		}
		must(t, j.Close())
	}
}

// TestDamage: one byte that is not what it was is either a torn last record or an error, and never a wrong record.
func TestDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j, _, err := Open(path)
	must(t, err)
	for i := range 3 {
		must(t, j.Append(fmt.Appendf(nil, "record %d", i)))
	}
	must(t, j.Close())
	whole, err := os.ReadFile(path)
	must(t, err)
	for at := range whole {
		b := bytes.Clone(whole)
		b[at] ^= 0x55
		must(t, os.WriteFile(path, b, 0o600))
		j, recs, err := Open(path)
		for i, r := range recs {
			if string(r) != fmt.Sprintf("record %d", i) {
				t.Errorf("byte %d changed: record %d is %q", at, i, r)
			}
		}
		if err == nil {
			must(t, j.Close())
		} else if !errors.Is(err, ErrDamaged) {
			t.Errorf("byte %d changed: %v", at, err)
		}
	}
	must(t, os.WriteFile(path, []byte("something else\n"), 0o600))
	if _, _, err := Open(path); !errors.Is(err, ErrDamaged) {
		t.Errorf("another file: %v", err)
	}
}

func TestReplaceAndLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j, _, err := Open(path)
	must(t, err)
	for range 10 {
		must(t, j.Append([]byte("old")))
	}
	if _, _, err := Open(path); err == nil || !strings.Contains(err.Error(), "another process has it open") {
		t.Errorf("opened twice: %v", err)
	}
	must(t, j.Replace([][]byte{[]byte("kept")}))
	must(t, j.Append([]byte("new")))
	if _, _, err := Open(path); err == nil {
		t.Error("opened twice after it was replaced")
	}
	must(t, j.Close())
	j, recs, err := Open(path)
	if err != nil || fmt.Sprintf("%s", recs) != "[kept new]" {
		t.Fatalf("%s, %v", recs, err)
	}
	must(t, j.Close())
}

func FuzzOpen(f *testing.F) {
	f.Add(append([]byte(magic), frame([]byte("x"))...))
	f.Add([]byte(magic[:3]))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "j")
		must(t, os.WriteFile(path, b, 0o600))
		j, recs, err := Open(path)
		if err != nil {
			return
		}
		must(t, j.Append([]byte("next")))
		must(t, j.Close())
		j, again, err := Open(path)
		if err != nil || len(again) != len(recs)+1 {
			t.Fatalf("%d records, then %d, %v", len(recs), len(again), err)
		}
		must(t, j.Close())
	})
}
