package journal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/kernwave/kernwave/internal/agent/disk"
	"github.com/kernwave/kernwave/internal/agent/journal"
)

type snapshot struct {
	N    int    `json:"n"`
	Text string `json:"text"`
}

// write makes a journal of n records and returns its bytes and where each record ends.
func write(t testing.TB, n int) (data []byte, ends []int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.journal")
	j, states, err := journal.Open(disk.OS{}, path)
	if err != nil || len(states) != 0 {
		t.Fatalf("open a new journal: %d states, %v", len(states), err)
	}
	for i := range n {
		if err := j.Append(snapshot{i, "phase " + strconv.Itoa(i)}); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, int(st.Size()))
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	data, err = os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data, ends
}

func checkStates(t testing.TB, states []json.RawMessage, want int) {
	t.Helper()
	if len(states) != want {
		t.Fatalf("got %d states, want %d", len(states), want)
	}
	for i, s := range states {
		var got snapshot
		if err := json.Unmarshal(s, &got); err != nil || got.N != i {
			t.Fatalf("state %d: got %s, %v", i, s, err)
		}
	}
}

// TestCutAtEveryByte is a power cut at every point of an append: what was
// whole before is there, and the journal goes on.
func TestCutAtEveryByte(t *testing.T) {
	data, ends := write(t, 4)
	for cut := range len(data) + 1 {
		whole := 0
		for _, e := range ends {
			if cut >= e {
				whole++
			}
		}
		// The file may be shorter, or as long as the file system had made it, with sectors that never got there.
		unwritten := append(bytes.Clone(data[:cut]), make([]byte, len(data)-cut)...)
		for name, torn := range map[string][]byte{"short": data[:cut], "zeros": unwritten} {
			if name == "zeros" && whole < len(ends)-1 {
				continue // only the last append can be torn
			}
			path := filepath.Join(t.TempDir(), "a.journal")
			if err := os.WriteFile(path, torn, 0o600); err != nil {
				t.Fatal(err)
			}
			j, states, err := journal.Open(disk.OS{}, path)
			if err != nil {
				t.Fatalf("%s, cut at %d: %v", name, cut, err)
			}
			checkStates(t, states, whole)
			if err := j.Append(snapshot{N: whole}); err != nil {
				t.Fatalf("%s, cut at %d: %v", name, cut, err)
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			j, states, err = journal.Open(disk.OS{}, path)
			if err != nil {
				t.Fatalf("%s, cut at %d, after an append: %v", name, cut, err)
			}
			checkStates(t, states, whole+1)
			_ = j.Close()
		}
	}
}

// TestFlippedByteIsNeverBelieved changes every byte of a whole journal: either
// it is told, with its place, or (a zero byte in the last record, which looks
// like an unwritten sector) the last record is ignored.
func TestFlippedByteIsNeverBelieved(t *testing.T) {
	data, ends := write(t, 3)
	last := ends[len(ends)-2]
	for i := range data {
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			damaged := bytes.Clone(data)
			damaged[i] ^= flip
			states, _, err := journal.Parse("x", damaged)
			var d *journal.DamageError
			switch {
			case errors.As(err, &d):
				if int(d.Offset) > i {
					t.Fatalf("byte %d: damage told at offset %d", i, d.Offset)
				}
			case err != nil:
				t.Fatalf("byte %d: %v", i, err)
			case i >= last && damaged[i] == 0 && len(states) == len(ends)-1:
			default:
				t.Fatalf("byte %d ^ %#x: believed, %d states", i, flip, len(states))
			}
		}
	}
}

func TestUnknownVersionIsDamage(t *testing.T) {
	data, _ := write(t, 1)
	path := filepath.Join(t.TempDir(), "a.journal")
	newer := journal.Record(t, []byte(`{"version":2,"state":{}}`))
	if err := os.WriteFile(path, append(data, newer...), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := journal.Open(disk.OS{}, path)
	var d *journal.DamageError
	if !errors.As(err, &d) || d.Offset != int64(len(data)) || d.Path != path {
		t.Fatalf("got %v, want damage at offset %d of %s", err, len(data), path)
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(after, append(data, newer...)) {
		t.Error("a damaged journal was changed")
	}
}

// failing makes the next write fail after a part of it is on disk.
type failing struct {
	disk.FS
	writeErr, truncateErr error
	after                 int
}

type failingFile struct {
	disk.File
	fs *failing
}

func (f *failing) OpenAppend(name string) (disk.File, error) {
	inner, err := f.FS.OpenAppend(name)
	return failingFile{inner, f}, err
}

func (f failingFile) Write(p []byte) (int, error) {
	if f.fs.writeErr != nil {
		n, _ := f.File.Write(p[:f.fs.after])
		return n, f.fs.writeErr
	}
	return f.File.Write(p)
}

func (f failingFile) Truncate(n int64) error {
	if f.fs.truncateErr != nil {
		return f.fs.truncateErr
	}
	return f.File.Truncate(n)
}

func TestAppendAfterFullDisk(t *testing.T) {
	fsys := &failing{FS: disk.OS{}, after: 7}
	path := filepath.Join(t.TempDir(), "a.journal")
	j, _, err := journal.Open(fsys, path)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Append(snapshot{N: 0}); err != nil {
		t.Fatal(err)
	}
	fsys.writeErr, fsys.truncateErr = errors.New("no space left on device"), errors.New("input/output error")
	if err := j.Append(snapshot{N: 1}); !errors.Is(err, fsys.writeErr) {
		t.Fatalf("got %v, want %v", err, fsys.writeErr)
	}
	if err := j.Append(snapshot{N: 1}); !errors.Is(err, fsys.truncateErr) {
		t.Fatalf("got %v, want %v: appending behind a torn record loses it", err, fsys.truncateErr)
	}
	fsys.writeErr, fsys.truncateErr = nil, nil
	if err := j.Append(snapshot{N: 1}); err != nil {
		t.Fatal(err)
	}
	_ = j.Close()
	_, states, err := journal.Open(disk.OS{}, path)
	if err != nil {
		t.Fatal(err)
	}
	checkStates(t, states, 2)
}

// FuzzParse: foreign bytes never panic, and what is good parses again to the same.
func FuzzParse(f *testing.F) {
	data, ends := write(f, 3)
	f.Add(data)
	f.Add(data[:ends[1]+5])
	f.Add([]byte{})
	f.Add(make([]byte, 40))
	f.Add(journal.Record(f, []byte(`{"version":1,"state":{"n":0}}`)))
	f.Add(journal.Record(f, []byte(`{"version":1`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		states, good, err := journal.Parse("x", data)
		if err != nil {
			var d *journal.DamageError
			if !errors.As(err, &d) || d.Offset < 0 || d.Offset >= int64(len(data)) {
				t.Fatalf("got %v", err)
			}
			return
		}
		if good < 0 || good > int64(len(data)) {
			t.Fatalf("good is %d of %d", good, len(data))
		}
		again, goodAgain, err := journal.Parse("x", data[:good])
		if err != nil || goodAgain != good || len(again) != len(states) {
			t.Fatalf("the good part parses to %d states, %d bytes, %v; want %d, %d", len(again), goodAgain, err, len(states), good)
		}
	})
}
