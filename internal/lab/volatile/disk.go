// Package volatile is a disk that forgets what was not flushed when its power is cut. QEMU's own caches cannot show
// that: what reached the build machine's page cache survives the end of QEMU, flushed or not.
//
// A [Disk] keeps writes in memory until a flush and then puts them into a file. [Disk.Cut] drops what is left, or
// keeps a part of it in the way that a real disk may: some writes and not others, and one of them torn. [Serve] gives
// it to QEMU as an NBD export.
package volatile

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"sync"
)

// maxCached bounds what is kept in memory. Above it the oldest writes go to the file early, which any disk may do: an
// installation of a kernel leaves less than this between two flushes.
const maxCached = 512 << 20

// sector is what a disk writes as a whole or not at all.
const sector = 512

// A Disk is safe for concurrent use.
type Disk struct {
	size int64

	mu     sync.Mutex
	file   *os.File
	cached []write // since the last flush, oldest first
	bytes  int
	stats  Stats
}

// write is one that has been acknowledged.
type write struct {
	at   int64
	data []byte
	sure bool // in the file already, and to stay: it was forced
}

// Stats counts what the disk was asked for.
type Stats struct {
	Writes, Flushes int
	Forced          int // writes that the client forced
	Commits         int // other writes that were taken for forced ones
	Early           int // writes that went to the file because of maxCached
}

// A Loss says what a cut did to the writes since the last flush.
type Loss struct {
	Kept, Torn, Lost int
}

// Open opens the file of a disk that exists.
func Open(path string) (*Disk, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Disk{file: f, size: st.Size()}, nil
}

// Close closes the file. What was not flushed is lost.
func (d *Disk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.file.Close()
}

// Size is the disk's, in bytes.
func (d *Disk) Size() int64 { return d.size }

// Stats returns the counts since Open.
func (d *Disk) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stats
}

var errBeyond = errors.New("beyond the end of the disk")

func (d *Disk) inside(at int64, n int) bool { return at >= 0 && at <= d.size && int64(n) <= d.size-at }

// ReadAt reads what was written last, flushed or not.
func (d *Disk) ReadAt(p []byte, at int64) (int, error) {
	if !d.inside(at, len(p)) {
		return 0, errBeyond
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if n, err := d.file.ReadAt(p, at); err != nil && !(errors.Is(err, io.EOF) && n == len(p)) {
		return n, err
	}
	end := at + int64(len(p))
	for _, w := range d.cached {
		from, to := max(at, w.at), min(end, w.at+int64(len(w.data)))
		if from < to {
			copy(p[from-at:to-at], w.data[from-w.at:to-w.at])
		}
	}
	return len(p), nil
}

// Write keeps data until the next flush. With force it is on the disk at once, ahead of what was written before it; so
// is a record by which ext4 commits its journal (see commits). The disk keeps data; the caller must not change it.
func (d *Disk) Write(data []byte, at int64, force bool) error {
	if !d.inside(at, len(data)) {
		return errBeyond
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stats.Writes++
	w := write{at: at, data: data, sure: force || commits(data)}
	switch {
	case force:
		d.stats.Forced++
	case w.sure:
		d.stats.Commits++
	}
	if w.sure {
		if err := d.put(w); err != nil {
			return err
		}
		if len(d.cached) == 0 {
			return nil
		}
	}
	d.cached = append(d.cached, w)
	d.bytes += len(data)
	for d.bytes > maxCached {
		old := d.cached[0]
		if err := d.put(old); err != nil {
			return err
		}
		d.cached, d.bytes = d.cached[1:], d.bytes-len(old.data)
		d.stats.Early++
	}
	return nil
}

// commits recognises a block by which ext4 commits its journal, or moves its journal's beginning. The kernel forces
// these writes (FUA), but QEMU's NVMe controller passes them on as plain ones.
func commits(data []byte) bool {
	const (
		magic      = 0xC03B3998
		commit     = 2
		superblock = 4
	)
	if len(data) < 12 || binary.BigEndian.Uint32(data) != magic {
		return false
	}
	kind := binary.BigEndian.Uint32(data[4:])
	return kind == commit || kind == superblock
}

// Flush puts everything into the file.
func (d *Disk) Flush() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stats.Flushes++
	for i, w := range d.cached {
		if err := d.put(w); err != nil {
			d.cached = d.cached[i:]
			return err
		}
	}
	d.cached, d.bytes = nil, 0
	return nil
}

func (d *Disk) put(w write) error {
	_, err := d.file.WriteAt(w.data, w.at)
	return err
}

// Cut forgets the writes since the last flush. With chance nil it forgets all of them; else it keeps about half, in
// their order, each whole but one, of which it keeps some sectors only. Forced writes stay in any case.
func (d *Disk) Cut(chance *rand.Rand) (Loss, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var l Loss
	torn := -1
	if chance != nil && len(d.cached) > 0 {
		torn = chance.IntN(len(d.cached))
	}
	for i, w := range d.cached {
		var err error
		switch {
		case w.sure:
			err = d.put(w)
		case i == torn && len(w.data) > sector:
			l.Torn++
			err = d.tear(w, chance)
		case chance != nil && chance.IntN(2) == 0:
			l.Kept++
			err = d.put(w)
		default:
			l.Lost++
		}
		if err != nil {
			return l, err
		}
	}
	d.cached, d.bytes = nil, 0
	return l, nil
}

// tear keeps some sectors of w.
func (d *Disk) tear(w write, chance *rand.Rand) error {
	for from := 0; from < len(w.data); from += sector {
		if chance.IntN(2) == 0 {
			continue
		}
		if err := d.put(write{at: w.at + int64(from), data: w.data[from:min(from+sector, len(w.data))]}); err != nil {
			return err
		}
	}
	return nil
}
