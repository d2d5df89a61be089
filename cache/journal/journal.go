// Package journal keeps records in a file so that a power cut at any instant loses at most the one that was being
// written. A record is a length, a checksum and bytes; what stands torn at the end is cut off when the file is opened
// again. Damage anywhere else, also in a length, is an error: it was no power cut. A record that does not read is torn if
// nothing whole follows it, which is looked for at every byte; the last record, whole but for its length, is damaged, too.
// Other damage to the last record cannot be told from a cut, and is taken for one.
package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
)

const (
	magic = "kwjrnl1\n"
	// maxRecord bounds a record: a length beyond it is damage, not a large record.
	maxRecord = 16 << 20
)

var table = crc32.MakeTable(crc32.Castagnoli)

// Journal is an open file. It is safe for concurrent use. Two processes never have the same one open.
type Journal struct {
	mu   sync.Mutex
	path string
	f    *os.File
	end  int64
	torn int
	err  error // a failed write that could not be undone: nothing more is written
}

// Torn is how many bytes of a record that was being written when the power went were cut off by Open.
func (j *Journal) Torn() int { return j.torn }

// Open opens or makes the file and returns its whole records, oldest first.
func Open(path string) (j *Journal, records [][]byte, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open the journal %s: %w", path, err), f.Close())
		}
	}()
	if err := lock(f); err != nil {
		return nil, nil, fmt.Errorf("another process has it open: %w", err)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, nil, err
	}
	j = &Journal{path: path, f: f}
	if len(b) < len(magic) { // new, or torn while it was made
		if string(b) != magic[:len(b)] {
			return nil, nil, fmt.Errorf("%w: it is no journal", ErrDamaged)
		}
		err := errors.Join(f.Truncate(0), writeAt(f, []byte(magic), 0), f.Sync(), syncDir(path))
		j.end = int64(len(magic))
		return j, nil, err
	}
	if string(b[:len(magic)]) != magic {
		return nil, nil, fmt.Errorf("%w: it is no journal, or one of another version", ErrDamaged)
	}
	at := len(magic)
	for at < len(b) {
		rec, n := parse(b[at:])
		if n == 0 {
			break
		}
		records = append(records, rec)
		at += n
	}
	if d := damage(b, at); d != nil {
		d.Before = len(records)
		return nil, nil, d
	}
	j.end, j.torn = int64(at), len(b)-at
	if at < len(b) {
		if err := errors.Join(f.Truncate(j.end), f.Sync()); err != nil {
			return nil, nil, err
		}
	}
	return j, records, nil
}

// parse reads one record and returns how long it is in the file; 0: no whole one begins here.
func parse(b []byte) (rec []byte, n int) {
	if len(b) < 8 {
		return nil, 0
	}
	size := int(binary.LittleEndian.Uint32(b))
	if size > maxRecord || len(b) < 8+size {
		return nil, 0
	}
	rec = b[8 : 8+size]
	if sum(b[:4], rec) != binary.LittleEndian.Uint32(b[4:]) {
		return nil, 0
	}
	return rec, 8 + size
}

// sum is the checksum of a record: of its length and its bytes.
func sum(length, rec []byte) uint32 {
	return crc32.Update(crc32.Checksum(length, table), table, rec)
}

func frame(rec []byte) []byte {
	b := make([]byte, 8, 8+len(rec))
	binary.LittleEndian.PutUint32(b, uint32(len(rec)))
	binary.LittleEndian.PutUint32(b[4:], sum(b[:4], rec))
	return append(b, rec...)
}

// Append writes a record and returns when it is on disk. After an error the record is not there.
func (j *Journal) Append(rec []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	if len(rec) > maxRecord {
		return fmt.Errorf("a record of %d bytes, at most %d", len(rec), maxRecord)
	}
	b := frame(rec)
	err := writeAt(j.f, b, j.end)
	if err == nil {
		err = j.f.Sync()
	}
	if err != nil { // half a record must not stand before the next one
		if terr := errors.Join(j.f.Truncate(j.end), j.f.Sync()); terr != nil {
			j.err = fmt.Errorf("the journal %s cannot be written any more: %w", j.path, errors.Join(err, terr))
		}
		return err
	}
	j.end += int64(len(b))
	return nil
}

// Replace puts records in the place of all that there are, at once: for a journal that has grown.
func (j *Journal) Replace(records [][]byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	b := []byte(magic)
	for _, r := range records {
		b = append(b, frame(r)...)
	}
	next := j.path + ".new"
	f, err := os.OpenFile(next, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(lock(f), writeAt(f, b, 0), f.Sync())
	if err == nil {
		err = os.Rename(next, j.path)
	}
	if err == nil {
		err = syncDir(j.path)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	old := j.f
	j.f, j.end = f, int64(len(b))
	return old.Close()
}

// Close closes the file.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.err = os.ErrClosed
	return j.f.Close()
}

func writeAt(f *os.File, b []byte, at int64) error {
	_, err := f.WriteAt(b, at)
	return err
}

func syncDir(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
