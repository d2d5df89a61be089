// Package journal keeps what an agent must still know after a power cut at any
// point: one file per operation, of records that are appended and synced
// before the step that they announce. A record is a whole snapshot, so the
// last one says everything; the ones before it are the history.
//
// On disk a record is a header of three little-endian uint32 (payload length,
// CRC-32C of the payload, CRC-32C of those eight bytes) and the payload, JSON.
// An append that a power cut tore is ignored; any other damage is told, with
// its place, and never guessed at: [DamageError].
package journal

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"path/filepath"

	"github.com/kernwave/kernwave/internal/agent/disk"
)

// Version is written into every record. A reader refuses others: it cannot know what they mean.
const Version = 1

const (
	headerLen = 12
	// maxPayload bounds a record. The largest part is a problem's evidence (16 KiB, up to six times that in JSON).
	maxPayload = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Entry is one record as it is written: the version beside the snapshot.
type Entry struct {
	Version int             `json:"version"`
	State   json.RawMessage `json:"state"`
}

// Journal is one open file. It is not safe for concurrent use.
type Journal struct {
	fs   disk.FS
	path string
	f    disk.File
	size int64 // of what is known to be good
}

// Open opens or creates the journal at path and cuts off a torn last record. It returns the snapshots in the order
// in which they were written. On a [DamageError] nothing is opened and nothing was changed.
func Open(fsys disk.FS, path string) (*Journal, []json.RawMessage, error) {
	data, err := fsys.ReadFile(path)
	created := false
	if err != nil {
		if !isNotExist(err) {
			return nil, nil, fmt.Errorf("read journal: %w", err)
		}
		created = true
	}
	states, good, err := Parse(path, data)
	if err != nil {
		return nil, nil, err
	}
	f, err := fsys.OpenAppend(path)
	if err != nil {
		return nil, nil, fmt.Errorf("open journal: %w", err)
	}
	j := &Journal{fs: fsys, path: path, f: f, size: good}
	if good < int64(len(data)) {
		err = j.cut()
	}
	if err == nil && created {
		err = fsys.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return j, states, nil
}

// Append writes a snapshot and syncs it. When it returns an error the snapshot is not in the journal: what it would
// have announced must not be done. A later Append may work (disk full).
func (j *Journal) Append(state any) error {
	record, err := encode(state)
	if err != nil {
		return err
	}
	// An earlier append may have left a part of a record behind and not been able to cut it off.
	if size, err := j.f.Size(); err != nil {
		return fmt.Errorf("look at journal %s: %w", j.path, err)
	} else if size != j.size {
		if err := j.cut(); err != nil {
			return err
		}
	}
	if _, err = j.f.Write(record); err == nil {
		err = j.f.Sync()
	}
	if err != nil {
		_ = j.cut() // if that does not work either, the next Append tries again, and a restart sees a torn record
		return fmt.Errorf("append to journal %s: %w", j.path, err)
	}
	j.size += int64(len(record))
	return nil
}

// Path is where the journal is.
func (j *Journal) Path() string { return j.path }

// Close closes the file. Everything appended is on disk already.
func (j *Journal) Close() error { return j.f.Close() }

func (j *Journal) cut() error {
	if err := j.f.Truncate(j.size); err != nil {
		return fmt.Errorf("cut torn record off journal %s: %w", j.path, err)
	}
	if err := j.f.Sync(); err != nil {
		return fmt.Errorf("sync journal %s: %w", j.path, err)
	}
	return nil
}

func encode(state any) ([]byte, error) {
	s, err := json.Marshal(state)
	if err != nil {
		return nil, fmt.Errorf("encode journal record: %w", err)
	}
	payload, err := json.Marshal(Entry{Version: Version, State: s})
	if err != nil {
		return nil, fmt.Errorf("encode journal record: %w", err)
	}
	if len(payload) > maxPayload {
		return nil, fmt.Errorf("journal record of %d bytes, at most %d are allowed", len(payload), maxPayload)
	}
	record := make([]byte, headerLen, headerLen+len(payload))
	binary.LittleEndian.PutUint32(record[0:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(record[4:], crc32.Checksum(payload, castagnoli))
	binary.LittleEndian.PutUint32(record[8:], crc32.Checksum(record[:8], castagnoli))
	return append(record, payload...), nil
}
