// Package lease changes settings of nodes for a while: a change that takes itself back at its deadline. It survives a
// gateway that is killed at any instant, and it never overwrites what someone else has changed meanwhile.
//
// Every step is in a journal before it is taken. For each node: the intent, with the value as it is; then the change,
// if the value still is what it was; then that it was made. Taking back is the same the other way round: only where the
// value still is the one that was set. Where it is another one, that is a conflict, which is reported and left alone. A
// change that was cut off before its caller got an answer is taken back at once.
//
// The journal of the gateway alone holds the lease: while no gateway is there, nothing is taken back. A server that is
// restarted takes it back by itself, because the gateway never writes a server's configuration file.
//
// Redis has no "set if it is still". So the change asks, in one transaction, what it overwrites: if that is what someone
// else set after the gateway had looked, it is put back at once and reported as a conflict. What becomes of a change whose
// answer never came is made certain before anything else is done: its connection is killed on the server. Where that is
// not allowed, it is watched for some seconds. If the gateway was killed between a change and its answer, the server's
// own count of CONFIG SET says whether someone else's value may have been overwritten, and that is reported, too.
package lease

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/journal"
)

// Node is one server whose settings can be changed.
type Node interface {
	// Get returns a setting and the server's run id, which changes when it is restarted.
	Get(ctx context.Context, param string) (value, runID string, err error)
	// Swap changes a setting at run time, not in the server's file, if it is c.From; else it changes nothing. Before it
	// sends the change it calls intend, whose error ends it with nothing changed.
	Swap(ctx context.Context, c Change, intend func(Attempt) error) (Swapped, error)
}

// Change is what Swap is to do.
type Change struct {
	Param, From, To string
	// Prior is an attempt whose end is not known: Swap sees to it first that it cannot arrive any more.
	Prior Attempt
}

// Attempt is what is known of a change that is about to be sent. The zero value: none is.
type Attempt struct {
	RunID  string `json:"run_id"`
	Client int64  `json:"client"` // the id of its connection in the server
	Sets   int    `json:"sets"`   // how often settings had been set in that server before; -1: it does not count
	Back   bool   `json:"back"`   // it was to take the change back
}

// Swapped is what Swap did.
type Swapped struct {
	Done  bool
	Found string // the value before
	RunID string
	Now   string // the value after, read back in the same transaction
	// Raced says that someone else had set Found after Swap had looked. It was overwritten, and has been put back.
	Raced bool
	Sure  bool // Prior cannot arrive any more
	Sets  int  // how often settings were set in the server since Prior looked; -1: unknown
}

// Nodes finds a server by its cluster and address.
type Nodes interface {
	Node(cluster, addr string) Node
}

// Where one node's part of a lease stands.
const (
	Intended   = "intended"   // about to be set; it may or may not have been
	Applied    = "applied"    // set, and read back
	Reverted   = "reverted"   // the old value is back
	Restarted  = "restarted"  // the server was restarted, and its file decides again
	Conflicted = "conflicted" // someone else has changed it; left alone
	Unchanged  = "unchanged"  // it was never set
)

// open says whether something is still to be taken back.
func open(state string) bool { return state == Intended || state == Applied }

// Part is a lease on one node.
type Part struct {
	Cluster string `json:"cluster"`
	Addr    string `json:"addr"`
	RunID   string `json:"run_id"`
	Old     string `json:"old"`
	State   string `json:"state"`
	Found   string `json:"found,omitempty"` // what was there instead, of a conflict or restart
	Err     string `json:"-"`               // why it could not be taken back yet
	// Attempt is the last change that was sent, while its end is not known.
	Attempt Attempt `json:"attempt,omitzero"`
	// Doubt says that someone else set something just when a change was cut off, which may have overwritten it.
	Doubt bool `json:"doubt,omitzero"`
	busy  bool // being changed right now
	// since is when an intended change was first looked for and not found.
	since time.Time
}

// Lease is one change for a while.
type Lease struct {
	ID       string    `json:"id"`
	Param    string    `json:"param"`
	Value    string    `json:"value"`
	By       string    `json:"by"`
	Approval string    `json:"approval,omitempty"`
	Reason   string    `json:"reason"`
	Begun    time.Time `json:"begun"`
	Deadline Moment    `json:"deadline"`
	// Held says that the change was made on every node and its caller told: it stands until the deadline. A lease that is
	// not held was cut off and is taken back at once.
	Held  bool   `json:"held"`
	Parts []Part `json:"parts"`
}

// Open says whether something of it is still to be taken back.
func (l *Lease) Open() bool {
	return slices.ContainsFunc(l.Parts, func(p Part) bool { return open(p.State) })
}

// busy says whether a part of it is being changed right now.
func (l *Lease) busy() bool { return slices.ContainsFunc(l.Parts, func(p Part) bool { return p.busy }) }

// record is one line of the journal: a whole lease as it stands from then on. The last one of an id counts.
type record struct {
	V     int   `json:"v"`
	Lease Lease `json:"lease"`
}

// Keeper keeps leases. It is safe for concurrent use.
type Keeper struct {
	journal *journal.Journal
	nodes   Nodes
	log     cache.Log
	clock   Clock

	mu     sync.Mutex // held while leases change, not while nodes are asked; who asks has the part busy
	leases map[string]*Lease
	ended  []*Lease // the newest that are over, oldest first
	wake   chan struct{}
}

// maxEnded is how many leases that are over are remembered.
const maxEnded = 100

// Open reads the journal at path and keeps the leases in it: those whose deadline has passed, and those that were cut
// off, are taken back as soon as Run runs.
func Open(path string, nodes Nodes, log cache.Log, clock Clock) (*Keeper, error) {
	j, recs, err := journal.Open(path)
	if err != nil {
		return nil, err
	}
	k := &Keeper{journal: j, nodes: nodes, log: log, clock: clock.withDefaults(), leases: map[string]*Lease{}, wake: make(chan struct{}, 1)}
	for i, rec := range recs {
		var r record
		if err := json.Unmarshal(rec, &r); err != nil || r.V != 1 {
			return nil, errors.Join(fmt.Errorf("the journal %s: record %d is of another version: %w", path, i+1, errors.Join(err, j.Close())))
		}
		l := r.Lease
		k.leases[l.ID] = &l
	}
	var keep [][]byte
	for id, l := range k.leases {
		if !l.Open() {
			k.end(l)
			delete(k.leases, id)
			continue
		}
		b, err := json.Marshal(record{1, *l})
		if err != nil {
			return nil, errors.Join(err, j.Close())
		}
		keep = append(keep, b)
	}
	if len(recs) > 1000 {
		if err := j.Replace(keep); err != nil {
			return nil, errors.Join(err, j.Close())
		}
	}
	return k, nil
}

// Close closes the journal. What is open stays open, in the journal.
func (k *Keeper) Close() error { return k.journal.Close() }

func (k *Keeper) end(l *Lease) {
	k.ended = append(k.ended, l)
	slices.SortFunc(k.ended, func(a, b *Lease) int { return a.Begun.Compare(b.Begun) })
	k.ended = k.ended[max(0, len(k.ended)-maxEnded):]
}

// change changes a lease and writes it down.
func (k *Keeper) change(l *Lease, f func()) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
	return k.write(l)
}

// write puts the lease as it is into the journal. mu is held.
func (k *Keeper) write(l *Lease) error {
	b, err := json.Marshal(record{1, *l})
	if err == nil {
		err = k.journal.Append(b)
	}
	if err != nil {
		return cache.Errorf(cache.CodeErr, "make room on the disk of the gateway", "the journal of temporary changes cannot be written: %v", err)
	}
	return nil
}

// Extend moves the deadline of a lease that is held.
func (k *Keeper) Extend(id string, deadline Moment, approval string) (Lease, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.leases[id]
	if l == nil || !l.Held || l.busy() {
		return Lease{}, k.unknown(id)
	}
	was, by := l.Deadline, l.Approval
	l.Deadline, l.Approval = deadline, approval
	if err := k.write(l); err != nil {
		l.Deadline, l.Approval = was, by
		return clone(l), err
	}
	k.event(l, "config.extended", nil, fmt.Sprintf("%s stays %s until %s", l.Param, l.Value, deadline.Wall.Format(time.RFC3339)))
	return clone(l), nil
}

func (k *Keeper) unknown(id string) error {
	for _, l := range k.ended {
		if l.ID == id {
			return cache.Errorf(cache.CodeErr, "CACHE.CONFIG TEMP LIST shows how it ended", "%s is over", id)
		}
	}
	return cache.Errorf(cache.CodeErr, "CACHE.CONFIG TEMP LIST shows those that there are", "there is no temporary change %s", id)
}

// Get returns a lease that is open.
func (k *Keeper) Get(id string) (Lease, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l := k.leases[id]; l != nil {
		return clone(l), nil
	}
	return Lease{}, k.unknown(id)
}

// On returns the id of a lease that is open on a node; empty: none is.
func (k *Keeper) On(cluster, addr string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, l := range k.leases {
		if slices.ContainsFunc(l.Parts, func(p Part) bool { return p.Cluster == cluster && p.Addr == addr && (open(p.State) || p.busy) }) {
			return id
		}
	}
	return ""
}

// List returns the leases that are open and the newest that are over, oldest first.
func (k *Keeper) List() []Lease {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []Lease
	for _, l := range k.ended {
		list = append(list, clone(l))
	}
	for _, l := range k.leases {
		list = append(list, clone(l))
	}
	slices.SortFunc(list, func(a, b Lease) int { return a.Begun.Compare(b.Begun) })
	return list
}

func clone(l *Lease) Lease {
	c := *l
	c.Parts = slices.Clone(l.Parts)
	return c
}

// event puts a change on record. The change has been made: a record that fails must not undo it, and the journal has it.
func (k *Keeper) event(l *Lease, kind string, p *Part, what string) {
	e := cache.Event{At: k.clock.Now().UTC(), Who: l.By, Kind: kind, Command: "CACHE.CONFIG TEMP SET", Job: l.ID, What: what, Why: l.Reason}
	if p != nil {
		e.Node = p.Addr
	}
	if kind == "config.reverted" || kind == "config.conflict" {
		e.Who = "gateway"
	}
	_, _ = k.log.Append(e)
}

// same compares values as Redis takes them: sizes with and without unit, and words without case.
func same(a, b string) bool {
	if strings.EqualFold(a, b) {
		return true
	}
	x, okx := size(a)
	y, oky := size(b)
	return okx && oky && x == y
}
