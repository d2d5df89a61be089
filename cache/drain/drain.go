// Package drain moves the primaries off a host before it reboots, and watches them come back.
//
// In a cluster each hand-over is the server's own, CLUSTER FAILOVER on a replica; elsewhere roles are changed with writes
// paused. Both wait until the replica has everything before it takes over, so no write that was acknowledged is lost,
// but for one case: a gateway killed under Sentinel between the two roles that stays away, and a replica that restarts with less in the second
// in which a Sentinel, which looks once a second, promotes it.
// Roles are the truth, not the journal: the journal only says which hand-over was begun, so that a gateway that was killed
// looks how it ended, tidies up and calls it drained or unchanged. A hand-over that fails is not forced, ever.
package drain

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/journal"
	"github.com/kernwave/kernwave/cache/upstream"
)

// States of a drain.
const (
	Draining  = "draining"  // under way, or how it ended is being found out
	Drained   = "drained"   // the host has no primary; it may reboot
	Unchanged = "unchanged" // every primary is where it was
	Partly    = "partly"    // some have moved, some have not: drain again, or resume
	Resumed   = "resumed"   // its nodes are back as replicas
)

// States of a part.
const (
	Waiting = "waiting" // nothing was done yet
	Moving  = "moving"  // a hand-over was begun
	Moved   = "moved"   // the replica is the primary, and follows nobody
	Stayed  = "stayed"  // the primary is what it was
	Follows = "replica" // it was a replica all the time
	Cold    = "cold"    // a primary without a replica, which whoever asked accepts to lose
)

// Part is one node of the host.
type Part struct {
	Cluster string `json:"cluster"`
	Addr    string `json:"addr"`
	Mode    string `json:"mode"` // cluster, sentinel, standalone
	RunID   string `json:"run_id"`
	To      string `json:"to,omitempty"` // the replica that takes over
	ToRun   string `json:"to_run,omitempty"`
	State   string `json:"state"`
	Why     string `json:"why,omitempty"`
	// Saved says whether the role survives a restart of the server; where it does not, the host must not reboot.
	Saved bool      `json:"saved"`
	Begun time.Time `json:"begun,omitzero"` // of the hand-over
	// Priority is the heir's replica-priority while its file may say 0 instead; under Sentinel only.
	Priority string `json:"priority,omitempty"`
	// Others are the shard's other replicas, which must follow the new primary.
	Others []string `json:"others,omitempty"`
	// Aside is the replica-priority of those that stand aside while Sentinels must promote nobody but the heir.
	Aside map[string]string `json:"aside,omitempty"`
}

// Drain is one host being drained.
type Drain struct {
	ID    string    `json:"id"`
	What  string    `json:"what"` // a host, or HOST:PORT
	By    string    `json:"by"`
	Cold  bool      `json:"cold"`
	At    time.Time `json:"at"`
	State string    `json:"state"`
	Parts []Part    `json:"parts"`
}

// hash names what was planned: an approval is bound to it.
func (d *Drain) hash() string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %t\n", d.What, d.By, d.Cold)
	for _, p := range d.Parts {
		fmt.Fprintf(h, "%q %q %q %q %q\n", p.Cluster, p.Addr, p.Mode, p.To, p.State)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// outcome is the state that the parts add up to, once none is moving.
func (d *Drain) outcome() string {
	moved, stayed := 0, 0
	for _, p := range d.Parts {
		switch p.State {
		case Moving:
			return Draining
		case Moved:
			moved++
		case Stayed, Waiting:
			stayed++
		}
	}
	switch {
	case stayed == 0:
		return Drained
	case moved == 0:
		return Unchanged
	}
	return Partly
}

// Keeper drains hosts. It is safe for concurrent use.
type Keeper struct {
	journal   *journal.Journal
	fleet     *upstream.Fleet
	approvals *cache.Approvals
	log       cache.Log
	now       func() time.Time
	// Leased, if set before the first call, names a temporary change of a node's settings, which CONFIG REWRITE would make last;
	// empty: there is none.
	Leased func(cluster, addr string) string
	// step is called between steps with what comes next; tests kill the gateway there.
	step func(string)

	mu     sync.Mutex
	drains map[string]*Drain
	busy   map[string]bool // that a call is working on
}

// Open reads the journal at path. How drains ended that were under way is found out as soon as Run runs.
func Open(path string, fleet *upstream.Fleet, approvals *cache.Approvals, log cache.Log, now func() time.Time) (*Keeper, error) {
	if now == nil {
		now = time.Now
	}
	j, recs, err := journal.Open(path)
	if err != nil {
		return nil, err
	}
	k := &Keeper{journal: j, fleet: fleet, approvals: approvals, log: log, now: now, step: func(string) {}, drains: map[string]*Drain{}, busy: map[string]bool{}}
	for i, rec := range recs {
		var d Drain
		if err := json.Unmarshal(rec, &d); err != nil {
			return nil, errors.Join(fmt.Errorf("the journal %s: record %d does not read: %w", path, i+1, err), j.Close())
		}
		k.drains[d.ID] = &d
	}
	return k, nil
}

// Close closes the journal.
func (k *Keeper) Close() error { return k.journal.Close() }

// change changes a drain and writes it down before it counts.
func (k *Keeper) change(d *Drain, f func()) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
	b, err := json.Marshal(d)
	if err == nil {
		err = k.journal.Append(b)
	}
	if err != nil {
		return cache.Errorf(cache.CodeErr, "make room on the disk of the gateway", "the journal of drains cannot be written: %v", err)
	}
	return nil
}

// copyOf is a drain as it is now.
func (k *Keeper) copyOf(d *Drain) Drain {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := *d
	c.Parts = slices.Clone(d.Parts)
	return c
}

func (k *Keeper) list() []Drain {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []Drain
	for _, d := range k.drains {
		c := *d
		c.Parts = slices.Clone(d.Parts)
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Drain) int { return a.At.Compare(b.At) })
	return out
}

// begin makes d one of those that there are, unless another works on one of its shards' clusters: at most one primary of
// a cluster is moved at a time.
func (k *Keeper) begin(d *Drain) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, o := range k.drains {
		if !k.busy[id] && o.State != Draining {
			continue
		}
		for _, p := range o.Parts {
			if slices.ContainsFunc(d.Parts, func(q Part) bool { return q.Cluster == p.Cluster }) {
				return cache.Errorf(cache.CodeBusy, "wait for its end; CACHE.DRAINS shows how it stands", "%s is draining %s, which has nodes of cluster %s", id, o.What, p.Cluster)
			}
		}
	}
	k.drains[d.ID], k.busy[d.ID] = d, true
	return nil
}

func (k *Keeper) release(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.busy, id)
}

// Run finds out how hand-overs ended that were under way when a gateway was killed or a call gave up, and gives replicas that stood aside
// and did not answer what they are owed, until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		var open, owing []*Drain
		k.mu.Lock()
		for id, d := range k.drains {
			switch {
			case k.busy[id]:
			case d.State == Draining:
				k.busy[id] = true
				open = append(open, d)
			case slices.ContainsFunc(d.Parts, func(p Part) bool { return len(p.Aside) > 0 }):
				owing = append(owing, d) // and it is not busy with that: other drains may begin
			}
		}
		k.mu.Unlock()
		for _, d := range open {
			k.reconcile(ctx, d)
			k.release(d.ID)
		}
		for _, d := range owing {
			for i := range d.Parts {
				_ = k.comeBack(ctx, d, &d.Parts[i]) // tried again in a second
			}
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// reconcile ends a drain whose caller is gone: what was begun is looked at until it is over, and nothing new is begun.
func (k *Keeper) reconcile(ctx context.Context, d *Drain) {
	for i := range d.Parts {
		p := &d.Parts[i]
		if p.State != Moving {
			continue
		}
		one, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := k.await(one, d, p)
		cancel()
		if err != nil {
			k.mu.Lock()
			p.Why = err.Error()
			k.mu.Unlock()
			return
		}
	}
	_ = k.end(d, "gateway", "")
}

// end writes down how a drain ended.
func (k *Keeper) end(d *Drain, who, job string) error {
	err := k.change(d, func() { d.State = d.outcome() })
	_, lerr := k.log.Append(cache.Event{At: k.now().UTC(), Who: who, Kind: "host." + d.State, Command: "CACHE.DRAIN", Job: job, What: d.What + " is " + d.State, Why: d.ID})
	return errors.Join(err, lerr)
}
