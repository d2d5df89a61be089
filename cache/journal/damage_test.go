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

// made writes a journal of n records and returns its bytes and where each record begins.
func made(t *testing.T, path string, n int) (whole []byte, begins []int) {
	t.Helper()
	j, _, err := Open(path)
	must(t, err)
	for i := range n {
		begins = append(begins, int(j.end))
		must(t, j.Append(fmt.Appendf(nil, "record %d %s", i, strings.Repeat("x", 40*i))))
	}
	must(t, j.Close())
	whole, err = os.ReadFile(path)
	must(t, err)
	return whole, begins
}

// TestDamageInTheMiddle: whichever bit of a record is not what it was, its length among them, the file is refused as long
// as something whole follows, the error says where, and the file stays as it is.
func TestDamageInTheMiddle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	whole, begins := made(t, path, 4)
	last := begins[len(begins)-1]
	for at := len(magic); at < last+4; at++ { // and the length of the last record, which is whole otherwise
		record := 0
		for record+1 < len(begins) && begins[record+1] <= at {
			record++
		}
		for bit := range 8 {
			b := bytes.Clone(whole)
			b[at] ^= 1 << bit
			must(t, os.WriteFile(path, b, 0o600))
			j, recs, err := Open(path)
			if err == nil {
				_ = j.Close()
				t.Fatalf("byte %d of record %d, bit %d: %d records are taken, and the others silently dropped", at-begins[record], record, bit, len(recs))
			}
			d, ok := errors.AsType[*Damage](err)
			if !ok || !errors.Is(err, ErrDamaged) || d.At != int64(begins[record]) || d.Before != record {
				t.Fatalf("byte %d, bit %d: %v", at, bit, err)
			}
			if record < len(begins)-1 && (d.After != len(begins)-1-record || d.Resumes != int64(begins[record+1])) {
				t.Fatalf("byte %d, bit %d: %+v", at, bit, d)
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, b) {
				t.Fatalf("byte %d, bit %d: the file was changed: %v", at, bit, err)
			}
		}
	}
}

// TestTornEnd: what a power cut leaves of the last record is cut off: a part of it, zeros in the place of blocks that did
// not reach the disk, or a length alone.
func TestTornEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	whole, begins := made(t, path, 4)
	last := begins[3]
	for name, tail := range map[string][]byte{
		"zeros":               make([]byte, len(whole)-last),
		"zeros and more":      make([]byte, 4096),
		"half, then zeros":    append(bytes.Clone(whole[last:last+60]), make([]byte, len(whole)-last-60)...),
		"a length alone":      whole[last : last+4],
		"a header alone":      whole[last : last+8],
		"nothing":             nil,
		"all but the last":    whole[last : len(whole)-1],
		"a block of it, gone": append(make([]byte, 20), whole[last+20:]...),
	} {
		must(t, os.WriteFile(path, append(bytes.Clone(whole[:last]), tail...), 0o600))
		j, recs, err := Open(path)
		if err != nil || len(recs) != 3 {
			t.Errorf("%s: %d records, %v", name, len(recs), err)
			continue
		}
		if j.Torn() != len(tail) {
			t.Errorf("%s: %d bytes are said to be torn, of %d", name, j.Torn(), len(tail))
		}
		must(t, j.Close())
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, whole[:last]) {
			t.Errorf("%s: not cut off: %v", name, err)
		}
	}
}
