package lease

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/kernwave/kernwave/cache"
)

// canaryWithin is how long the first node may take to answer after the change: connecting, logging in and two questions.
const canaryWithin = 500 * time.Millisecond

// Take makes the change on every node of l.Parts, in order, and holds it until l.Deadline. l's id, beginning and states
// are filled in. Where one node fails, what was changed is taken back at once, and the error says why.
func (k *Keeper) Take(ctx context.Context, l Lease) (Lease, error) {
	l.ID, l.Begun, l.Held = cache.NewID("l"), k.clock.Now().UTC(), false
	l.Parts = slices.Clone(l.Parts)
	for i := range l.Parts {
		l.Parts[i].State, l.Parts[i].busy = Unchanged, true
	}
	if err := k.begin(&l); err != nil {
		return clone(&l), err
	}
	err := k.apply(ctx, &l)
	k.mu.Lock()
	for i := range l.Parts {
		l.Parts[i].busy = false
	}
	if err == nil {
		l.Held = true
		if err = k.write(&l); err != nil {
			l.Held = false
		}
	}
	if err != nil {
		// Whoever asked may be gone; what was changed must not stay.
		rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		k.revert(rctx, &l, &wg)
		k.mu.Unlock()
		wg.Wait()
		k.mu.Lock()
	}
	defer k.mu.Unlock()
	return clone(&l), err
}

// begin makes a lease one of those that there are, if no other holds the setting on one of its nodes.
func (k *Keeper) begin(l *Lease) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, o := range k.leases {
		for _, p := range o.Parts {
			if o.Param == l.Param && (open(p.State) || p.busy) && slices.ContainsFunc(l.Parts, func(q Part) bool { return q.Cluster == p.Cluster && q.Addr == p.Addr }) {
				return cache.Errorf(cache.CodeBusy, "CACHE.CONFIG TEMP REVERT "+o.ID+", or wait until its deadline", "%s holds %s on %s until %s", o.ID, l.Param, p.Addr, o.Deadline.Wall.Format(time.RFC3339))
			}
		}
	}
	k.leases[l.ID] = l
	return nil
}

// apply sets the value on each node. The first one is the canary.
func (k *Keeper) apply(ctx context.Context, l *Lease) error {
	for i := range l.Parts {
		p := &l.Parts[i]
		n := k.nodes.Node(p.Cluster, p.Addr)
		changed, err := k.applyOne(ctx, l, p, n)
		if err != nil {
			return err
		}
		if i == 0 && len(l.Parts) > 1 && changed {
			began := time.Now()
			if _, _, err := n.Get(ctx, l.Param); err != nil {
				return nodeError(p, err)
			}
			if took := time.Since(began); took > canaryWithin {
				return cache.Errorf(cache.CodeGuard, "look at the node; nothing of the change stays", "%s took %s to answer after the change", p.Addr, took.Round(time.Millisecond))
			}
		}
	}
	return nil
}

func (k *Keeper) applyOne(ctx context.Context, l *Lease, p *Part, n Node) (changed bool, err error) {
	old, run, err := n.Get(ctx, l.Param)
	if err != nil {
		return false, nodeError(p, err)
	}
	if p.Old != "" && !same(p.Old, old) {
		return false, cache.Errorf(cache.CodeStale, "look with CACHE.CONFIG DIFF and ask again", "%s: %s is %s now, and was %s when the change was approved", p.Addr, l.Param, old, p.Old)
	}
	k.mu.Lock()
	p.Old, p.RunID = old, run
	k.mu.Unlock()
	if same(old, l.Value) {
		return false, nil // nothing to change, and nothing to take back
	}
	did, err := n.Swap(ctx, Change{Param: l.Param, From: old, To: l.Value}, func(a Attempt) error {
		return k.change(l, func() { p.State, p.Attempt = Intended, a })
	})
	unchanged := func() error { return k.change(l, func() { p.State, p.Attempt = Unchanged, Attempt{} }) }
	switch {
	case err != nil:
		if _, refused := errors.AsType[*cache.Error](err); refused {
			err = errors.Join(err, unchanged())
		}
		return false, nodeError(p, err) // else it may have been set, or still be: taking back looks
	case did.Raced:
		err := unchanged()
		k.mu.Lock()
		k.event(l, "config.conflict", p, fmt.Sprintf("someone else set %s to %s at the same moment; that is what it is", l.Param, did.Found))
		k.mu.Unlock()
		return false, errors.Join(cache.Errorf(cache.CodeConflict, "see who else changes it, with CACHE.AUDIT and on the node", "%s: someone else set %s to %s at the same moment; that is what it is", p.Addr, l.Param, did.Found), err)
	case !did.Done:
		return false, cache.Errorf(cache.CodeConflict, "look with CACHE.CONFIG DIFF and ask again", "%s: someone else changes %s: it was %s and is %s", p.Addr, l.Param, old, did.Found)
	case !same(did.Now, l.Value):
		return false, cache.Errorf(cache.CodeUnsupported, "give a value that the server takes as it is", "%s made %s of %s = %s", p.Addr, did.Now, l.Param, l.Value)
	}
	if err := k.change(l, func() { p.State, p.Attempt = Applied, Attempt{} }); err != nil {
		return true, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.event(l, "config.changed", p, fmt.Sprintf("%s is %s until %s, and was %s", l.Param, l.Value, l.Deadline.Wall.Format(time.RFC3339), p.Old))
	return true, nil
}

func nodeError(p *Part, err error) error {
	if e, ok := errors.AsType[*cache.Error](err); ok {
		return e
	}
	return cache.Errorf(cache.CodeUnreachable, "see CACHE.NODES; nothing of the change stays", "%s: %v", p.Addr, err)
}
