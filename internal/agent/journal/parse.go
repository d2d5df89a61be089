package journal

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
)

// DamageError says where a journal cannot be believed, and why. [Open] and [Parse] return it.
type DamageError struct {
	Path   string
	Offset int64
	Why    string
	// Version is what a whole record says where this program does not know it: a newer agent wrote it. Else zero.
	Version int
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("journal %s is damaged at offset %d: %s", e.Path, e.Offset, e.Why)
}

// Parse reads the records of a journal. good is the length of the part that holds whole records; what follows it was
// torn by a power cut in the middle of an append and means nothing. On a [DamageError] states are those before the
// damage, for people to look at: what comes after it is not known. path is for the error only.
func Parse(path string, data []byte) (states []json.RawMessage, good int64, err error) {
	for off := 0; off < len(data); {
		rest := data[off:]
		damage := func(format string, args ...any) *DamageError {
			return &DamageError{Path: path, Offset: int64(off), Why: fmt.Sprintf(format, args...)}
		}
		if len(rest) < headerLen || unwritten(rest) {
			return states, int64(off), nil // torn in the header
		}
		n := binary.LittleEndian.Uint32(rest[0:])
		if crc32.Checksum(rest[:8], castagnoli) != binary.LittleEndian.Uint32(rest[8:]) {
			return states, int64(off), damage("the record's header does not match its checksum")
		}
		if n > maxPayload {
			return states, int64(off), damage("a record of %d bytes, at most %d are written", n, maxPayload)
		}
		end := off + headerLen + int(n)
		if end > len(data) {
			return states, int64(off), nil // torn in the payload
		}
		payload := data[off+headerLen : end]
		if crc32.Checksum(payload, castagnoli) != binary.LittleEndian.Uint32(rest[4:]) {
			// JSON holds no zero byte; a sector that was never written reads as zeros. Only the last append can be such.
			if end == len(data) && bytes.IndexByte(payload, 0) >= 0 {
				return states, int64(off), nil
			}
			return states, int64(off), damage("the record does not match its checksum")
		}
		var e Entry
		if err := json.Unmarshal(payload, &e); err != nil {
			return states, int64(off), damage("the record is no JSON that an agent wrote: %v", err)
		}
		if e.Version != Version {
			err := damage("the record has version %d, this agent knows version %d", e.Version, Version)
			err.Version = e.Version
			return states, int64(off), err
		}
		states = append(states, e.State)
		off = end
	}
	return states, int64(len(data)), nil
}

// unwritten says whether an append got the file longer but not the header to the disk.
func unwritten(rest []byte) bool {
	return len(bytes.TrimRight(rest, "\x00")) < headerLen && allZero(rest[headerLen:])
}

func allZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
