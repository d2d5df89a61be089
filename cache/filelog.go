package cache

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// FileLog keeps the record in a file, one JSON object a line. Each line holds the hash of the line before, so a line
// that was changed or taken out later is found when the file is opened. A line that a power cut tore is cut off when the file
// is opened again: its call was never begun.
type FileLog struct {
	mu   sync.Mutex
	f    *os.File
	seq  int64
	hash string
	tail []Event // the newest, at most maxTail
}

// maxTail is how many events are kept in memory for Tail.
const maxTail = 10_000

type logLine struct {
	Event
	Prev string `json:"prev"` // SHA-256 of the line before, in hexadecimal; empty in the first
}

// OpenLog opens or makes the file. It refuses one whose chain is broken.
func OpenLog(path string) (*FileLog, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	l := &FileLog{f: f}
	end, err := l.read()
	if err == nil {
		err = f.Truncate(end)
	}
	if err == nil {
		_, err = f.Seek(end, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the record %s: %w", path, err), f.Close())
	}
	return l, nil
}

// read follows the chain and returns where the last whole line ends.
func (l *FileLog) read() (end int64, err error) {
	r := bufio.NewReaderSize(l.f, 1<<16)
	for {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return end, nil // what is left is torn
		}
		if err != nil {
			return 0, err
		}
		var e logLine
		if err := json.Unmarshal(line, &e); err != nil {
			return 0, fmt.Errorf("line %d is no event: %w", l.seq+1, err)
		}
		if e.Seq != l.seq+1 || e.Prev != l.hash {
			return 0, fmt.Errorf("line %d does not follow the line before: the record was changed", l.seq+1)
		}
		l.keep(e.Event, line)
		end += int64(len(line))
	}
}

func (l *FileLog) keep(e Event, line []byte) {
	sum := sha256.Sum256(bytes.TrimSuffix(line, []byte("\n")))
	l.seq, l.hash = e.Seq, hex.EncodeToString(sum[:])
	if len(l.tail) == 2*maxTail {
		l.tail = append([]Event(nil), l.tail[maxTail:]...)
	}
	l.tail = append(l.tail, e)
}

// Append writes e and syncs.
func (l *FileLog) Append(e Event) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.Seq = l.seq + 1
	line, err := json.Marshal(logLine{e, l.hash})
	if err != nil {
		return 0, err
	}
	line = append(line, '\n')
	at, err := l.f.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	if _, err = l.f.Write(line); err == nil {
		err = l.f.Sync()
	}
	if err != nil { // half a line must not stand before the next one
		terr := l.f.Truncate(at)
		_, serr := l.f.Seek(at, io.SeekStart)
		return 0, errors.Join(err, terr, serr)
	}
	l.keep(e, line)
	return e.Seq, nil
}

// Tail returns the newest n events, at most 10,000, oldest first.
func (l *FileLog) Tail(n int) ([]Event, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = max(0, min(n, len(l.tail), maxTail))
	return append([]Event(nil), l.tail[len(l.tail)-n:]...), nil
}

// Close closes the file.
func (l *FileLog) Close() error { return l.f.Close() }

// MemLog keeps the newest events in memory only: for tests, and for a gateway that was started without a file.
type MemLog struct {
	mu   sync.Mutex
	seq  int64
	tail []Event
}

// Append keeps e.
func (l *MemLog) Append(e Event) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	e.Seq = l.seq
	if len(l.tail) == 2*maxTail {
		l.tail = append([]Event(nil), l.tail[maxTail:]...)
	}
	l.tail = append(l.tail, e)
	return e.Seq, nil
}

// Tail returns the newest n events, oldest first.
func (l *MemLog) Tail(n int) ([]Event, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = max(0, min(n, len(l.tail), maxTail))
	return append([]Event(nil), l.tail[len(l.tail)-n:]...), nil
}
