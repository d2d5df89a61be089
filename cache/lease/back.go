package lease

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// every is how often deadlines are looked at: well within the second that taking back may be late.
	every = 200 * time.Millisecond
	// patience is how long one attempt at one node may take. It takes four round trips; a server or a machine that is busy
	// must not be given up in the middle and asked anew from the beginning, again and again.
	patience = 10 * time.Second
	// settle is for how long a change that was cut off, and is not there, is still looked for where its connection cannot
	// be killed. What a killed gateway sent last may wait in a socket of a busy server, or on its way, and be carried out
	// after the next gateway has looked.
	settle = 5 * time.Second
)

// Run takes leases back when they are due, until ctx ends. A node that cannot be reached is tried again; nobody waits for
// it meanwhile.
func (k *Keeper) Run(ctx context.Context) {
	t := time.NewTicker(every)
	defer t.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		k.due(ctx, &wg)
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

// Due takes back what is due now, and returns when every node has been tried once.
func (k *Keeper) Due(ctx context.Context) {
	var wg sync.WaitGroup
	k.due(ctx, &wg)
	wg.Wait()
}

func (k *Keeper) due(ctx context.Context, wg *sync.WaitGroup) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, l := range k.leases {
		if (!l.Held || k.clock.past(l.Deadline)) && ctx.Err() == nil {
			k.revert(ctx, l, wg)
		}
	}
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
	var wg sync.WaitGroup
	k.revert(ctx, l, &wg)
	k.mu.Unlock()
	wg.Wait()
	k.mu.Lock()
	return clone(l), nil
}

// revert begins to take back what is open of l, on all nodes at once. mu is held.
func (k *Keeper) revert(ctx context.Context, l *Lease, wg *sync.WaitGroup) {
	for i := range l.Parts {
		if p := &l.Parts[i]; open(p.State) && !p.busy {
			p.busy = true
			wg.Go(func() { k.revertOne(ctx, l, p) })
		}
	}
	k.close(l)
}

// close lets go of a lease of which nothing is open. mu is held.
func (k *Keeper) close(l *Lease) {
	if k.leases[l.ID] == l && !l.Open() && !l.busy() {
		delete(k.leases, l.ID)
		k.end(l)
	}
}

// revertOne takes back one node's part. What it cannot reach stays open, with the reason.
func (k *Keeper) revertOne(ctx context.Context, l *Lease, p *Part) {
	one, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer within %s", patience))
	defer cancel()
	r, err := k.back(one, l, p)
	k.mu.Lock()
	defer k.mu.Unlock()
	defer k.close(l)
	p.busy = false
	if err != nil {
		p.Err = err.Error()
		return
	}
	p.Doubt = p.Doubt || r.state == Conflicted && r.found == ""
	if !r.sure && k.settling(l, p, r.found) {
		return
	}
	was := *p
	p.State, p.Found, p.Err, p.Attempt = r.state, r.found, "", Attempt{}
	if err := k.write(l); err != nil { // it is done, and will be found done again
		*p = was
		p.Err = err.Error()
		return
	}
	switch {
	case r.state == Conflicted && r.raced:
		k.event(l, "config.conflict", p, fmt.Sprintf("someone else set %s to %s while it was taken back; that is what it is, and was %s before", l.Param, r.found, p.Old))
	case r.state == Conflicted && r.found == "":
		k.event(l, "config.conflict", p, fmt.Sprintf("%s is %s again; someone else set something while the gateway was cut off, and if it was %s, theirs was overwritten", l.Param, p.Old, l.Param))
	case r.state == Conflicted:
		k.event(l, "config.conflict", p, fmt.Sprintf("%s is %s: someone else changed it from %s, which was set for a while; it is left alone, and was %s before", l.Param, r.found, l.Value, p.Old))
	case r.state == Restarted:
		k.event(l, "config.reverted", p, fmt.Sprintf("the server was restarted: %s is %s, as its file says", l.Param, r.found))
	case r.state == Reverted:
		k.event(l, "config.reverted", p, fmt.Sprintf("%s is %s again", l.Param, p.Old))
	}
}

// settling says whether p, a change that was cut off and may still arrive, must be looked for again. mu is held.
func (k *Keeper) settling(l *Lease, p *Part, found string) bool {
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

// result is how taking back one part ended.
type result struct {
	state, found string
	raced        bool // someone else's value was overwritten for an instant
	sure         bool // nothing that was sent before can arrive any more
}

// back takes one node's value back, if it still is the one that was set.
func (k *Keeper) back(ctx context.Context, l *Lease, p *Part) (result, error) {
	k.mu.Lock()
	was := *p
	k.mu.Unlock()
	to := was.Old
	if was.Found != "" { // a change that was cut off may have arrived late, over someone else's
		to = was.Found
	}
	prior := was.Attempt
	did, err := k.nodes.Node(was.Cluster, was.Addr).Swap(ctx, Change{l.Param, l.Value, to, prior}, func(a Attempt) error {
		a.Back = true
		return k.change(l, func() {
			p.Doubt = p.Doubt || prior.RunID == a.RunID && prior.Sets >= 0 && a.Sets-prior.Sets > 1
			p.Attempt = a
		})
	})
	if err != nil {
		return result{}, err
	}
	known := was.State != Intended || prior != (Attempt{}) // a journal of an older version does not know the attempt
	r := result{sure: did.Sure && known || did.Done && !prior.Back || did.RunID != was.RunID}
	// Of the settings that were set since that attempt looked, one may be its own.
	others := prior != (Attempt{}) && did.Sets > 1
	switch {
	case did.Raced:
		r.state, r.found, r.raced = Conflicted, did.Found, true
	case did.Done && (was.Found != "" || !same(did.Now, was.Old)):
		r.state, r.found = Conflicted, did.Now
	case (did.Done || same(did.Found, was.Old)) && (was.Doubt || others && (did.Done || prior.Back)):
		r.state = Conflicted // whose value, if any, was overwritten is not known
	case did.Done:
		r.state = Reverted
	case same(did.Found, was.Old) && was.State == Intended && !prior.Back:
		r.state = Unchanged
	case same(did.Found, was.Old):
		r.state = Reverted
	case did.RunID != was.RunID:
		r.state, r.found = Restarted, did.Found
	default:
		r.state, r.found = Conflicted, did.Found
	}
	return r, nil
}
