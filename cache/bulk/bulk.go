// Package bulk changes many keys at once: unlinks or expires those that match a pattern, and undoes it.
//
// A dry run counts first, over all keys; its plan is what another person approves. Carrying it out walks over the keys
// again and changes those that match, page by page, throttled by what customers would feel and by a rate. It stops when
// more keys match than were approved.
//
// Before a key is unlinked its value and the instant it expires are on the gateway's disk, and it is unlinked only if its
// value still is the one that was captured. So undoing brings back the very bytes, and never puts them over a key that
// someone has written since. Capturing has limits: keys above [maxValue] are left alone, a full capture stops the work, and
// captures are kept for [keepFor].
//
// How far each node is walked is written down, so that a gateway that was killed goes on where it was (CACHE.BULK RESUME).
// What was changed twice because of that, or because a walk may see a key twice, is undone once.
package bulk

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/journal"
	"github.com/kernwave/kernwave/cache/upstream"
)

const (
	// maxValue is the largest value that is captured, as MEMORY USAGE has it: a server does nothing else while it makes a
	// DUMP of it.
	maxValue = 32 << 20
	// batchKeys and batchBytes bound what is captured before it is synced and changed.
	batchKeys  = 256
	batchBytes = 4 << 20
	// keepFor is how long work that is over, and what it captured, is kept: captures hold customers' data.
	keepFor = 7 * 24 * time.Hour
	// resumeFor is how long a plan may be carried on: what was approved yesterday may not be meant today.
	resumeFor = 24 * time.Hour
)

// States of work.
const (
	Running     = "running"
	Interrupted = "interrupted" // the gateway or a node went away, someone cancelled it, or a guard stopped it: it can be resumed
	Done        = "done"
)

// Work is one plan that is, or was, carried out.
type Work struct {
	ID   string
	Plan Plan
	dir  string

	mu       sync.Mutex
	state    string
	why      string
	progress []Progress // by shard
	journal  *journal.Journal
	saved    []time.Time // by shard
}

// Progress is how far one shard is.
type Progress struct {
	RunID   string `json:"run_id"` // of the server that the cursor is of
	DB      int    `json:"db"`
	Cursor  string `json:"cursor"`
	Over    bool   `json:"over"`
	Seen    int64  `json:"seen"`
	Changed int64  `json:"changed"`
	Gone    int64  `json:"gone"`    // not there any more when it was to be changed
	Busy    int64  `json:"busy"`    // written by customers all the time, so left alone
	Large   int64  `json:"large"`   // too large to capture, so left alone
	Kept    int64  `json:"kept"`    // undo: someone has written the key since
	There   int64  `json:"there"`   // undo: it is as it was already
	Expired int64  `json:"expired"` // undo: it would have expired since
}

// line is one record of a work's journal.
type line struct {
	Shard int       `json:"shard"`
	P     *Progress `json:"p,omitempty"`
	State string    `json:"state,omitempty"`
	Why   string    `json:"why,omitempty"`
}

// Manager carries out plans and remembers them. It is safe for concurrent use.
type Manager struct {
	dir       string
	fleet     *upstream.Fleet
	approvals *cache.Approvals
	log       cache.Log
	now       func() time.Time

	mu    sync.Mutex
	works map[string]*Work
	plans map[string]*Plan // by the id of their approval
}

// Open reads what is in dir. Work that was running when the gateway ended is interrupted. now nil: the real clock.
func Open(dir string, fleet *upstream.Fleet, approvals *cache.Approvals, log cache.Log, now func() time.Time) (*Manager, error) {
	if now == nil {
		now = time.Now
	}
	m := &Manager{dir: dir, fleet: fleet, approvals: approvals, log: log, now: now, works: map[string]*Work{}, plans: map[string]*Plan{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		w, err := readWork(filepath.Join(dir, e.Name()))
		if errors.Is(err, os.ErrNotExist) { // killed while it was made: nothing was changed yet
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", e.Name(), err), m.Close())
		}
		m.works[w.ID] = w
	}
	return m, m.forget()
}

// Close closes the journals.
func (m *Manager) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, w := range m.works {
		errs = append(errs, w.journal.Close())
	}
	return errors.Join(errs...)
}

// forget removes work that has been over for keepFor, with what it captured.
func (m *Manager) forget() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for id, w := range m.works {
		if w.State() != Running && m.now().Sub(w.Plan.At) > keepFor {
			errs = append(errs, w.journal.Close(), os.RemoveAll(w.dir))
			delete(m.works, id)
		}
	}
	return errors.Join(errs...)
}

func readWork(dir string) (*Work, error) {
	b, err := os.ReadFile(filepath.Join(dir, "plan.json"))
	if err != nil {
		return nil, err
	}
	w := &Work{ID: filepath.Base(dir), dir: dir, state: Interrupted, why: "the gateway ended"}
	if err := json.Unmarshal(b, &w.Plan); err != nil {
		return nil, fmt.Errorf("plan.json: %w", err)
	}
	w.progress, w.saved = make([]Progress, len(w.Plan.Shards)), make([]time.Time, len(w.Plan.Shards))
	var recs [][]byte
	if w.journal, recs, err = journal.Open(filepath.Join(dir, "progress")); err != nil {
		return nil, err
	}
	for i, rec := range recs {
		var l line
		if err := json.Unmarshal(rec, &l); err != nil || l.P != nil && l.Shard >= len(w.progress) {
			return nil, errors.Join(fmt.Errorf("progress: record %d does not read: %w", i+1, errors.Join(err, w.journal.Close())))
		}
		if l.P != nil {
			w.progress[l.Shard] = *l.P
		}
		if l.State != "" {
			w.state, w.why = l.State, l.Why
		}
	}
	if w.state == Running {
		w.state, w.why = Interrupted, "the gateway ended"
	}
	return w, nil
}

// begin makes work of a plan that was approved.
func (m *Manager) begin(p *Plan) (*Work, error) {
	if err := m.forget(); err != nil {
		return nil, err
	}
	id := cache.NewID("b")
	w := &Work{ID: id, Plan: *p, dir: filepath.Join(m.dir, id), state: Running, progress: make([]Progress, len(p.Shards)), saved: make([]time.Time, len(p.Shards))}
	b, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(w.dir, 0o700); err != nil {
		return nil, err
	}
	if w.journal, _, err = journal.Open(filepath.Join(w.dir, "progress")); err != nil {
		return nil, err
	}
	if err := writeSynced(filepath.Join(w.dir, "plan.json"), b); err != nil {
		return nil, errors.Join(err, w.journal.Close())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.works[id] = w
	return w, nil
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// State is running, interrupted or done.
func (w *Work) State() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

// claim makes interrupted work run again; false: it runs, or is done.
func (w *Work) claim() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state != Interrupted {
		return false
	}
	w.state, w.why = Running, ""
	return true
}

// end says how it ended.
func (w *Work) end(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state, w.why = Done, ""
	if err != nil {
		w.state, w.why = Interrupted, err.Error()
	}
	b, jerr := json.Marshal(line{State: w.state, Why: w.why})
	if jerr != nil {
		return jerr
	}
	return w.journal.Append(b)
}

// saveEvery is how often progress is written down. What was done since is looked at again after a kill, and is found done.
const saveEvery = 500 * time.Millisecond

// note keeps how far a shard is; on disk, at times, when it is over, and when now says so.
func (w *Work) note(shard int, p Progress, now bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.progress[shard] = p
	if !now && !p.Over && time.Since(w.saved[shard]) < saveEvery {
		return nil
	}
	w.saved[shard] = time.Now()
	b, err := json.Marshal(line{Shard: shard, P: &p})
	if err != nil {
		return err
	}
	return w.journal.Append(b)
}

// total is the progress of all shards together.
func (w *Work) total() Progress {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := Progress{Over: true}
	for _, p := range w.progress {
		t.Over = t.Over && p.Over
		t.Seen += p.Seen
		t.Changed += p.Changed
		t.Gone += p.Gone
		t.Busy += p.Busy
		t.Large += p.Large
		t.Kept += p.Kept
		t.There += p.There
		t.Expired += p.Expired
	}
	return t
}

// find returns work by its id.
func (m *Manager) find(id string) *Work {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.works[id]
}

// list returns all work, oldest first.
func (m *Manager) list() []*Work {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ws []*Work
	for _, w := range m.works {
		ws = append(ws, w)
	}
	slices.SortFunc(ws, func(a, b *Work) int { return a.Plan.At.Compare(b.Plan.At) })
	return ws
}
