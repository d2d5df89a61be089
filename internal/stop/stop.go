// Package stop holds the stop: everything, now, until a person lifts it. It
// is kept in memory and in a file beside the store, so that it works when the store
// is sick and survives a restart. Whoever gives grants or says that a host may
// reboot asks [Stop.Stopped] first.
package stop

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// Stop is the stop of one control plane. Its methods may be called from any goroutine.
type Stop struct {
	path    string
	durably func(path string, b []byte) error // writeDurably; tests let it fail

	write sync.Mutex // one writer of the file at a time

	mu    sync.RWMutex // never held over I/O: Stopped must not wait for a sick disk
	order *Order
}

// ErrReasonLost is in the error of a Set that stopped everything for good, but could not write down who and why.
var ErrReasonLost = errors.New("a restart would forget who and why")

// Order is who stopped everything, why and when.
type Order struct {
	Who string    `json:"who"`
	Why string    `json:"why"`
	At  time.Time `json:"at"`
}

// String is the sentence that operators read.
func (o Order) String() string {
	return fmt.Sprintf("stopped by %s at %s: %s", o.Who, o.At.UTC().Format(time.RFC3339), o.Why)
}

// Open reads the file "stop" in dir. A file that is there but cannot be read or understood counts as a stop: that
// somebody wanted one is all that matters.
func Open(dir string) *Stop {
	s := &Stop{path: filepath.Join(dir, "stop"), durably: writeDurably}
	b, err := os.ReadFile(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s
	case err != nil:
		s.order = &Order{Who: "the control plane", Why: fmt.Sprintf("the stop file cannot be read: %v", err)}
		return s
	}
	var o Order
	if err := json.Unmarshal(b, &o); err != nil || o.Who == "" {
		o = Order{Who: "the control plane", Why: fmt.Sprintf("the stop file %s is damaged; lift the stop when you know why", s.path)}
	}
	s.order = &o
	return s
}

// Stopped says whether everything is stopped, and who did it, when and why. It reads memory alone.
func (s *Stop) Stopped() (why string, stopped bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.order == nil {
		return "", false
	}
	return s.order.String(), true
}

// Set stops everything. From its beginning on Stopped says so, whatever happens to the file. An error means that
// the stop would not survive a restart, or with [ErrReasonLost] that its reason would not. A second Set replaces who, why and when.
func (s *Stop) Set(o Order) error { return s.SetNow(o, func() {}) }

// SetNow is Set, and calls inForce as soon as Stopped says so: the disk may not answer for a long time.
func (s *Stop) SetNow(o Order, inForce func()) error {
	s.mu.Lock()
	s.order = &o
	s.mu.Unlock()
	inForce()

	s.write.Lock()
	defer s.write.Unlock()
	// Two Sets at once may come here in either order: the file gets what the memory has now.
	s.mu.RLock()
	now := s.order
	s.mu.RUnlock()
	if now == nil {
		return nil // lifted meanwhile
	}
	b, err := json.Marshal(now)
	if err != nil {
		return fmt.Errorf("encode the stop: %w", err)
	}
	if err := s.durably(s.path, append(b, '\n')); err != nil {
		// A full disk often has room for a name. An empty file is a stop too: see Open.
		if touch(s.path) == nil {
			return &fleet.Error{
				Op: "write who stopped everything, and why, to " + s.path, Err: fmt.Errorf("%w: %w", ErrReasonLost, err),
				Next: "everything is stopped, also after a restart: mend the disk, then stop again, so that it knows who and why",
			}
		}
		return &fleet.Error{
			Op: "write the stop file " + s.path, Err: err,
			Next: "everything is stopped, but only until the control plane restarts: mend the disk, then stop again",
		}
	}
	return nil
}

// Lift ends the stop. The file goes first: when it cannot be removed, everything stays stopped and the error says so.
func (s *Stop) Lift() error {
	s.write.Lock()
	defer s.write.Unlock()
	s.mu.RLock()
	lifting := s.order
	s.mu.RUnlock()
	err := os.Remove(s.path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = syncDir(filepath.Dir(s.path))
	}
	if err != nil {
		return &fleet.Error{
			Op: "remove the stop file " + s.path, Err: err,
			Next: "everything stays stopped: mend the disk, then lift the stop again",
		}
	}
	s.mu.Lock()
	if s.order == lifting { // a stop that came meanwhile stays, and writes its file after us
		s.order = nil
	}
	s.mu.Unlock()
	return nil
}

// writeDurably replaces path with b, so that after a power cut either the old or the new content is there.
func writeDurably(path string, b []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".stop-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(b)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// touch makes sure that there is a file, without needing room for its content.
func touch(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), syncDir(filepath.Dir(path)))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
