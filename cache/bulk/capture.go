package bulk

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sync"
)

// Captured is one key as it was before it was changed.
type Captured struct {
	Shard int // of the plan
	DB    int
	Key   string
	// Until is when it was to expire, in milliseconds of the server's Unix clock; -1: never.
	Until int64
	// Set is when it expires since it was changed, of an expire; 0 of an unlink.
	Set int64
	// Dump is the value as DUMP gives it, of an unlink.
	Dump string
}

const captureMagic = "kwcapt1\n"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// capture is a file of captured keys that is being written. What is in it is on disk before the keys are changed.
type capture struct {
	mu   sync.Mutex
	f    *os.File
	w    *bufio.Writer
	size int64
	keys int64
}

// openCapture opens or makes a file and cuts off what a kill left torn at its end: those keys were not changed yet.
func openCapture(path string, each func(Captured)) (*capture, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	c := &capture{f: f}
	st, err := f.Stat()
	if err == nil && st.Size() < int64(len(captureMagic)) {
		err = errors.Join(f.Truncate(0), writeAll(f, captureMagic))
		c.size = int64(len(captureMagic))
	} else if err == nil {
		c.size, err = readCapture(f, func(k Captured, _ int64) error { c.keys++; each(k); return nil })
	}
	if err == nil {
		err = f.Truncate(c.size)
	}
	if err == nil {
		_, err = f.Seek(c.size, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	c.w = bufio.NewWriterSize(f, 1<<20)
	return c, nil
}

func writeAll(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

// frameOf is how many bytes a key takes in the file.
func frameOf(c Captured) int64 {
	return 8 + 2 + 4 + 8 + 8 + 4 + int64(len(c.Key)) + int64(len(c.Dump))
}

// keep adds keys and returns when they are on disk. errFull: they would make it larger than most, and none was added.
func (c *capture) keep(most int64, ks []Captured) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	size := c.size
	for _, k := range ks {
		size += frameOf(k)
	}
	if most > 0 && size > most {
		return errFull
	}
	for _, k := range ks {
		if err := c.put(k); err != nil {
			return err
		}
	}
	return c.sync()
}

var errFull = errors.New("the capture is full")

func (c *capture) put(k Captured) error {
	b := make([]byte, 8, frameOf(k))
	b = binary.LittleEndian.AppendUint16(b, uint16(k.Shard))
	b = binary.LittleEndian.AppendUint32(b, uint32(k.DB))
	b = binary.LittleEndian.AppendUint64(b, uint64(k.Until))
	b = binary.LittleEndian.AppendUint64(b, uint64(k.Set))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(k.Key)))
	b = append(b, k.Key...)
	b = append(b, k.Dump...)
	binary.LittleEndian.PutUint32(b, uint32(len(b)-8))
	binary.LittleEndian.PutUint32(b[4:], crc32.Update(crc32.Checksum(b[:4], castagnoli), castagnoli, b[8:]))
	c.size += int64(len(b))
	c.keys++
	_, err := c.w.Write(b)
	return err
}

func (c *capture) sync() error { return errors.Join(c.w.Flush(), c.f.Sync()) }

func (c *capture) close() error { return errors.Join(c.w.Flush(), c.f.Close()) }

// readCapture calls each with every whole entry and the byte it begins at, and returns where the last one ends. Something
// that does not read is an error if more than one batch stands after it: a kill tears the last one only.
func readCapture(f io.ReaderAt, each func(k Captured, at int64) error) (end int64, err error) {
	r := bufio.NewReaderSize(io.NewSectionReader(f, 0, 1<<62), 1<<20)
	head := make([]byte, len(captureMagic))
	if _, err := io.ReadFull(r, head); err != nil || string(head) != captureMagic {
		return 0, errors.New("it is no file of captured keys")
	}
	end = int64(len(captureMagic))
	for {
		k, n, err := readEntry(r)
		if errors.Is(err, errTorn) {
			rest, rerr := io.Copy(io.Discard, r)
			if rerr != nil {
				return end, rerr
			}
			if n+rest > 2*batchBytes+maxValue {
				return end, fmt.Errorf("the capture is damaged at byte %d, with %d bytes after it; what stands before can be read", end, n+rest)
			}
			return end, nil
		}
		if errors.Is(err, io.EOF) {
			return end, nil
		}
		if err != nil {
			return end, err
		}
		if err := each(k, end); err != nil {
			return end, err
		}
		end += n
	}
}

var errTorn = errors.New("torn")

// readEntry reads one entry; n is how many bytes were read.
func readEntry(r io.Reader) (k Captured, n int64, err error) {
	var head [8]byte
	if m, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return k, 0, io.EOF
		}
		return k, int64(m), errTorn
	}
	size := binary.LittleEndian.Uint32(head[:])
	if size < 26 || size > maxValue+(64<<20) {
		return k, 8, errTorn
	}
	b := make([]byte, size)
	if m, err := io.ReadFull(r, b); err != nil {
		return k, 8 + int64(m), errTorn
	}
	n = 8 + int64(size)
	if crc32.Update(crc32.Checksum(head[:4], castagnoli), castagnoli, b) != binary.LittleEndian.Uint32(head[4:]) {
		return k, n, errTorn
	}
	k.Shard, b = int(binary.LittleEndian.Uint16(b)), b[2:]
	k.DB = int(binary.LittleEndian.Uint32(b))
	k.Until, k.Set = int64(binary.LittleEndian.Uint64(b[4:])), int64(binary.LittleEndian.Uint64(b[12:]))
	key := int(binary.LittleEndian.Uint32(b[20:]))
	if len(b) < 24+key {
		return k, n, errTorn
	}
	k.Key, k.Dump = string(b[24:24+key]), string(b[24+key:])
	return k, n, nil
}
