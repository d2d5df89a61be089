package volatile

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"
)

const testSize = 16 << 10

func newDisk(t testing.TB) *Disk {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, testSize), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func contents(t interface{ Fatal(...any) }, d *Disk) []byte {
	b := make([]byte, d.Size())
	if _, err := d.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// Whatever is written, forced and flushed in whatever order: reads see the newest, and after a cut everything that
// was flushed or forced is there, and each other sector is one of those that it has been since.
func TestDiskKeepsWhatWasFlushedAndNoMoreThanWasWritten(t *testing.T) {
	shared := newDisk(t)
	rapid.Check(t, func(t *rapid.T) {
		d := shared
		if err := d.Write(make([]byte, testSize), 0, false); err != nil {
			t.Fatal(err)
		}
		if err := d.Flush(); err != nil {
			t.Fatal(err)
		}
		newest := make([]byte, testSize)
		may := make([]map[byte]bool, testSize/sector) // what each sector may hold after a cut
		settle := func(i int, v byte) { may[i] = map[byte]bool{v: true} }
		for i := range may {
			settle(i, 0)
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				if !bytes.Equal(contents(t, d), newest) {
					t.Fatal("reads do not see what was written last")
				}
			},
			"write": func(t *rapid.T) {
				from := rapid.IntRange(0, len(may)-1).Draw(t, "from")
				n := rapid.IntRange(1, min(4, len(may)-from)).Draw(t, "sectors")
				v := rapid.Byte().Draw(t, "value")
				force := rapid.Bool().Draw(t, "force")
				data := bytes.Repeat([]byte{v}, n*sector)
				if err := d.Write(data, int64(from*sector), force); err != nil {
					t.Fatal(err)
				}
				copy(newest[from*sector:], data)
				for i := from; i < from+n; i++ {
					if force {
						settle(i, v)
					} else {
						may[i][v] = true
					}
				}
			},
			"flush": func(t *rapid.T) {
				if err := d.Flush(); err != nil {
					t.Fatal(err)
				}
				for i := range may {
					settle(i, newest[i*sector])
				}
			},
			"cut": func(t *rapid.T) {
				var chance *rand.Rand
				if seed := rapid.Uint64().Draw(t, "seed"); seed != 0 {
					chance = rand.New(rand.NewPCG(seed, 0))
				}
				if _, err := d.Cut(chance); err != nil {
					t.Fatal(err)
				}
				newest = contents(t, d)
				for i := range may {
					v := newest[i*sector]
					if !may[i][v] || !bytes.Equal(newest[i*sector:(i+1)*sector], bytes.Repeat([]byte{v}, sector)) {
						t.Fatalf("sector %d holds %d after the cut; it may hold %v", i, v, may[i])
					}
					settle(i, v)
				}
			},
		})
	})
}

func TestCutLosesWhatWasNotFlushed(t *testing.T) {
	d := newDisk(t)
	ones, twos := bytes.Repeat([]byte{1}, 4096), bytes.Repeat([]byte{2}, 4096)
	for _, step := range []error{d.Write(ones, 0, false), d.Flush(), d.Write(twos, 0, false), d.Write(twos, 4096, false)} {
		if step != nil {
			t.Fatal(step)
		}
	}
	l, err := d.Cut(nil)
	if err != nil || l != (Loss{Lost: 2}) {
		t.Errorf("got %+v, %v; want two writes lost", l, err)
	}
	if got := contents(t, d)[:8192]; !bytes.Equal(got[:4096], ones) || !bytes.Equal(got[4096:], make([]byte, 4096)) {
		t.Error("what was flushed is not there, or what was not is")
	}
}

func TestCutKeepsAPartBySeed(t *testing.T) {
	after := func(seed uint64) ([]byte, Loss) {
		d := newDisk(t)
		for i := range int64(8) {
			if err := d.Write(bytes.Repeat([]byte{byte(i + 1)}, 2048), i*2048, false); err != nil {
				t.Fatal(err)
			}
		}
		l, err := d.Cut(rand.New(rand.NewPCG(seed, 0)))
		if err != nil {
			t.Fatal(err)
		}
		return contents(t, d), l
	}
	first, l := after(1)
	if l.Kept == 0 || l.Lost == 0 || l.Torn != 1 || l.Kept+l.Lost+l.Torn != 8 {
		t.Errorf("seed 1: %+v; want some kept, some lost, one torn", l)
	}
	if again, _ := after(1); !bytes.Equal(first, again) {
		t.Error("the same seed kept something else")
	}
	if other, _ := after(2); bytes.Equal(first, other) {
		t.Error("another seed kept the same")
	}
}

func TestJournalCommitsAreForced(t *testing.T) {
	block := func(kind uint32) []byte {
		b := make([]byte, 4096)
		binary.BigEndian.PutUint32(b, 0xC03B3998)
		binary.BigEndian.PutUint32(b[4:], kind)
		return b
	}
	for kind, want := range map[uint32]bool{1: false, 2: true, 4: true, 5: false} {
		d := newDisk(t)
		if err := d.Write(block(kind), 4096, false); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Cut(nil); err != nil {
			t.Fatal(err)
		}
		if kept := bytes.Equal(contents(t, d)[4096:8192], block(kind)); kept != want {
			t.Errorf("a journal block of kind %d: kept is %t, want %t", kind, kept, want)
		}
	}
}
