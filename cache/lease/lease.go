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
// Redis has no "set if it is still": between looking and setting lies one round trip. A change by someone else within it
// is overwritten. The servers' own count of CONFIG SET shows that there was one, and it is reported as a conflict.
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
	// Swap changes a setting at run time, not in the server's file, if it is from; else it changes nothing. The value and
	// the run id are those before.
	Swap(ctx context.Context, param, from, to string) (Swapped, error)
}

// Swapped is what Swap did.
type Swapped struct {
	Done  bool
	Found string // the value before
	RunID string
	Now   string // the value after, read back
	Raced bool   // someone else set something within the same instant, and it may have been overwritten
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

	mu     sync.Mutex // held while leases change, and while nodes are asked for it: one step at a time
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

// write puts the lease as it is into the journal.
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

// Take makes the change on every node of l.Parts, in order, and holds it until l.Deadline. l's id, beginning and states
// are filled in. Where one node fails, what was changed is taken back at once, and the error says why.
func (k *Keeper) Take(ctx context.Context, l Lease) (Lease, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l.ID, l.Begun, l.Held = cache.NewID("l"), k.clock.Now().UTC(), false
	l.Parts = slices.Clone(l.Parts)
	for _, o := range k.leases {
		for _, p := range o.Parts {
			if o.Param == l.Param && open(p.State) && slices.ContainsFunc(l.Parts, func(q Part) bool { return q.Cluster == p.Cluster && q.Addr == p.Addr }) {
				return l, cache.Errorf(cache.CodeBusy, "CACHE.CONFIG TEMP REVERT "+o.ID+", or wait until its deadline", "%s holds %s on %s until %s", o.ID, l.Param, p.Addr, o.Deadline.Wall.Format(time.RFC3339))
			}
		}
	}
	for i := range l.Parts {
		l.Parts[i].State = Unchanged
	}
	held := &l
	k.leases[l.ID] = held
	err := k.apply(ctx, held)
	if err == nil {
		held.Held = true
		if err = k.write(held); err != nil {
			held.Held = false
		}
	}
	if err != nil {
		// Whoever asked may be gone; what was changed must not stay.
		rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		k.revert(rctx, held)
		return clone(held), err
	}
	k.poke()
	return clone(held), nil
}

// canaryWithin is how long the first node may take to answer after the change: connecting, logging in and two questions.
const canaryWithin = 500 * time.Millisecond

// apply sets the value on each node.
func (k *Keeper) apply(ctx context.Context, l *Lease) error {
	for i := range l.Parts {
		p := &l.Parts[i]
		n := k.nodes.Node(p.Cluster, p.Addr)
		old, run, err := n.Get(ctx, l.Param)
		if err != nil {
			return nodeError(p, err)
		}
		if p.Old != "" && !same(p.Old, old) {
			return cache.Errorf(cache.CodeStale, "look with CACHE.CONFIG DIFF and ask again", "%s: %s is %s now, and was %s when the change was approved", p.Addr, l.Param, old, p.Old)
		}
		p.Old, p.RunID = old, run
		if same(old, l.Value) {
			continue // nothing to change, and nothing to take back
		}
		p.State = Intended
		if err := k.write(l); err != nil {
			p.State = Unchanged
			return err
		}
		did, err := n.Swap(ctx, l.Param, old, l.Value)
		switch {
		case err != nil:
			if _, refused := errors.AsType[*cache.Error](err); refused {
				p.State = Unchanged
				err = errors.Join(err, k.write(l))
			}
			return nodeError(p, err) // else it may have been set, or still be: revert looks
		case !did.Done:
			p.State = Unchanged
			if err := k.write(l); err != nil {
				return err
			}
			return cache.Errorf(cache.CodeConflict, "look with CACHE.CONFIG DIFF and ask again", "%s: someone else changes %s: it was %s and is %s", p.Addr, l.Param, old, did.Found)
		case did.Raced || !same(did.Now, l.Value):
			k.raced(l, p)
			return cache.Errorf(cache.CodeConflict, "see who else changes it, with CACHE.AUDIT and on the node", "%s: someone else set something at the same moment; %s is %s again", p.Addr, l.Param, old)
		}
		p.State = Applied
		if err := k.write(l); err != nil {
			return err
		}
		if i == 0 && len(l.Parts) > 1 { // the first one is the canary
			began := time.Now()
			if _, _, err := n.Get(ctx, l.Param); err != nil {
				return nodeError(p, err)
			}
			if took := time.Since(began); took > canaryWithin {
				return cache.Errorf(cache.CodeGuard, "look at the node; nothing of the change stays", "%s took %s to answer after the change", p.Addr, took.Round(time.Millisecond))
			}
		}
		k.event(l, "config.changed", p, fmt.Sprintf("%s is %s until %s, and was %s", l.Param, l.Value, l.Deadline.Wall.Format(time.RFC3339), p.Old))
	}
	return nil
}

func nodeError(p *Part, err error) error {
	if e, ok := errors.AsType[*cache.Error](err); ok {
		return e
	}
	return cache.Errorf(cache.CodeUnreachable, "see CACHE.NODES; nothing of the change stays", "%s: %v", p.Addr, err)
}

// settle is for how long a change that was cut off, and is not there, is still looked for. What a killed gateway sent last
// may wait in a socket of a busy server, or on its way, and be carried out after the next gateway has looked.
const settle = 5 * time.Second

// settling says whether p, an intended change that was not found, must be looked for again.
func (k *Keeper) settling(l *Lease, p *Part, found string) bool {
	if p.State != Intended {
		return false
	}
	now := k.clock.Now()
	if p.since.IsZero() {
		p.since = now
	}
	if found != "" && found != p.Found {
		p.Found = found // what someone else has set: to be put back, should the late change overwrite it
		_ = k.write(l)  // it fails again, and is said, when the lease ends
	}
	p.Err = "the change was cut off; it is watched for until it cannot arrive any more"
	return now.Sub(p.since) < settle
}

// revert takes back what it can of l. What it cannot reach stays open, with the reason. mu is held.
func (k *Keeper) revert(ctx context.Context, l *Lease) {
	for i := range l.Parts {
		p := &l.Parts[i]
		if !open(p.State) {
			continue
		}
		state, found, sure, err := k.back(ctx, l, p)
		if err != nil {
			p.Err = err.Error()
			continue
		}
		if !sure && k.settling(l, p, found) {
			continue
		}
		was, wasFound := p.State, p.Found
		p.State, p.Found, p.Err = state, found, ""
		if err := k.write(l); err != nil { // it is done, and will be found done again
			p.State, p.Found, p.Err = was, wasFound, err.Error()
			continue
		}
		switch state {
		case Conflicted:
			k.event(l, "config.conflict", p, fmt.Sprintf("%s is %s: someone else changed it from %s, which was set for a while; it is left alone, and was %s before", l.Param, found, l.Value, p.Old))
		case Restarted:
			k.event(l, "config.reverted", p, fmt.Sprintf("the server was restarted: %s is %s, as its file says", l.Param, found))
		case Reverted:
			k.event(l, "config.reverted", p, fmt.Sprintf("%s is %s again", l.Param, p.Old))
		}
	}
	if !l.Open() {
		delete(k.leases, l.ID)
		k.end(l)
	}
}

// raced reports that someone else set something within the same instant as the gateway did.
func (k *Keeper) raced(l *Lease, p *Part) {
	k.event(l, "config.conflict", p, fmt.Sprintf("someone else set something while %s was set; if it was %s, theirs was overwritten", l.Param, l.Param))
}

// back takes one node's value back, if it still is the one that was set. sure: the change can not arrive later any more.
func (k *Keeper) back(ctx context.Context, l *Lease, p *Part) (state, found string, sure bool, err error) {
	to := p.Old
	if p.Found != "" { // a change that was cut off may have arrived late, over someone else's
		to = p.Found
	}
	did, err := k.nodes.Node(p.Cluster, p.Addr).Swap(ctx, l.Param, l.Value, to)
	sure = did.Done || did.RunID != p.RunID
	switch {
	case err != nil:
		return "", "", false, err
	case did.Raced:
		k.raced(l, p)
		return Conflicted, did.Now, sure, nil
	case did.Done && (p.Found != "" || !same(did.Now, p.Old)):
		return Conflicted, did.Now, sure, nil
	case did.Done:
		return Reverted, "", sure, nil
	case same(did.Found, p.Old) && p.State == Intended:
		return Unchanged, "", sure, nil
	case same(did.Found, p.Old):
		return Reverted, "", sure, nil
	case did.RunID != p.RunID:
		return Restarted, did.Found, sure, nil
	}
	return Conflicted, did.Found, sure, nil
}

// Revert takes a lease back before its deadline.
func (k *Keeper) Revert(ctx context.Context, id string) (Lease, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.leases[id]
	if l == nil {
		return Lease{}, k.unknown(id)
	}
	l.Held = false // should it not be reached now, it is tried again from now on
	if err := k.write(l); err != nil {
		return clone(l), err
	}
	k.revert(ctx, l)
	return clone(l), nil
}

// Extend moves the deadline of a lease that is held.
func (k *Keeper) Extend(id string, deadline Moment, approval string) (Lease, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.leases[id]
	if l == nil || !l.Held {
		return Lease{}, k.unknown(id)
	}
	next := clone(l)
	next.Deadline, next.Approval = deadline, approval
	if err := k.write(&next); err != nil {
		return clone(l), err
	}
	k.leases[id] = &next
	k.event(&next, "config.extended", nil, fmt.Sprintf("%s stays %s until %s", l.Param, l.Value, deadline.Wall.Format(time.RFC3339)))
	return clone(&next), nil
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

// every is how often deadlines are looked at: well within the second that a revert may be late.
const every = 200 * time.Millisecond

// Run takes leases back when they are due, until ctx ends. A node that cannot be reached is tried again.
func (k *Keeper) Run(ctx context.Context) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		k.Due(ctx)
		select {
		case <-t.C:
		case <-k.wake:
		case <-ctx.Done():
			return
		}
	}
}

func (k *Keeper) poke() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Due takes back what is due now.
func (k *Keeper) Due(ctx context.Context) {
	k.mu.Lock()
	var due []string
	for id, l := range k.leases {
		if !l.Held || k.clock.past(l.Deadline) {
			due = append(due, id)
		}
	}
	k.mu.Unlock()
	slices.Sort(due)
	for _, id := range due { // the lock is given up in between: a node that hangs holds nobody up for long
		k.mu.Lock()
		if l := k.leases[id]; l != nil && ctx.Err() == nil && (!l.Held || k.clock.past(l.Deadline)) {
			one, cancel := context.WithTimeout(ctx, 2*time.Second)
			k.revert(one, l)
			cancel()
		}
		k.mu.Unlock()
	}
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
