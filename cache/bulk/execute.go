package bulk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

// chosen are the shards that a plan is about, each with the node to count on: a replica that keeps up, where idle times do
// not matter, for only primaries know them.
func (m *Manager) chosen(ctx context.Context, sel cache.Select, p *Plan) ([]*upstream.Node, *upstream.View, error) {
	v, err := m.fleet.Look(ctx, sel)
	if err != nil {
		return nil, nil, err
	}
	best := map[string]*upstream.Node{}
	var order []string
	down := map[string]string{}
	for _, n := range v.Nodes {
		s := n.Cluster + "/" + n.Shard
		if n.Down != "" || n.Loading {
			if n.Role == upstream.Primary {
				down[s] = n.Addr + ": " + n.Down
			}
			continue
		}
		if n.Mode == "cluster" && n.Role == upstream.Primary && len(n.Slots) == 0 {
			continue // it holds nothing
		}
		fit := n.Role == upstream.Replica && p.Idle == 0 && n.LinkUp && n.LagBytes >= 0 && n.LagBytes <= 1<<20
		switch {
		case n.Role == upstream.Primary && best[s] == nil, fit && (best[s] == nil || best[s].Role == upstream.Primary):
			if best[s] == nil {
				order = append(order, s)
			}
			best[s] = n
		}
	}
	for s, why := range down {
		return nil, nil, cache.Errorf(cache.CodeUnreachable, "choose others with ON, or mend it", "keys are changed on all chosen shards or none, and the primary of %s does not answer: %s", s, why)
	}
	if len(v.Lost) > 0 {
		return nil, nil, cache.Errorf(cache.CodeUnreachable, "choose others with ON, or mend it", "keys are changed on all chosen shards or none: %v", v.Lost[0])
	}
	nodes := make([]*upstream.Node, len(order))
	for i, s := range order {
		nodes[i] = best[s]
	}
	if len(nodes) == 0 {
		return nil, nil, cache.Errorf(cache.CodeErr, "choose shards with ON cluster:NAME", "no shard with a primary is chosen")
	}
	return nodes, v, nil
}

// dryRun counts what p would change and fills in its shards.
func (m *Manager) dryRun(ctx context.Context, job string, sel cache.Select, p *Plan, tell func(done, of int)) (upstream.GuardReport, error) {
	var guards upstream.GuardReport
	nodes, _, err := m.chosen(ctx, sel, p)
	if err != nil {
		return guards, err
	}
	p.Shards = make([]Shard, len(nodes))
	errs := make([]error, len(nodes))
	var mu sync.Mutex
	done := 0
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			release, err := m.fleet.Heavy.Take(ctx, n, job, nil)
			if err != nil {
				errs[i] = err
				return
			}
			defer release()
			pace, err := n.Pace(ctx, p.Slack, 0)
			if err != nil {
				errs[i] = err
				return
			}
			defer pace.Close()
			p.Shards[i], errs[i] = countMatches(ctx, n, p, pace)
			mu.Lock()
			defer mu.Unlock()
			guards.Add(pace.Report())
			done++
			tell(done, len(nodes))
		})
	}
	wg.Wait()
	return guards, plain(ctx, "make the dry run again when they answer, or choose others with ON", "nothing was counted to its end", cmpOr(errs))
}

// plain is err as a caller reads it; nil stays nil.
func plain(ctx context.Context, next, what string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	code := cache.CodeErr
	if e, ok := errors.AsType[*cache.Error](err); ok {
		code = e.Code
		return cache.Errorf(code, next, "%s: %s", what, e.Msg)
	}
	switch _, guard := errors.AsType[*upstream.ErrGuard](err); {
	case guard, errors.Is(err, errTooMany), errors.Is(err, errFull):
		code = cache.CodeGuard
	default:
		if _, ok := errors.AsType[*upstream.Failure](err); ok {
			code = cache.CodeUnreachable
		}
	}
	return cache.Errorf(code, next, "%s: %s", what, why(err))
}

// keep remembers a plan under the id of the question for its approval. Plans live as long as their questions.
func (m *Manager) keep(p *Plan, command string) (string, error) {
	id, err := m.approvals.Ask(cache.Ask{Hash: p.Hash(), Command: command, By: p.By, What: p.By + " wants to " + p.String()})
	if err != nil {
		return "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for old, q := range m.plans {
		if m.now().Sub(q.At) > 2*cache.ApprovalFor {
			delete(m.plans, old)
		}
	}
	m.plans[id] = p
	return id, nil
}

// approved uses an approval up and makes work of its plan. same says whether the call is the one that was approved.
func (m *Manager) approved(id string, by cache.User, same func(*Plan) bool) (*Work, error) {
	m.mu.Lock()
	p := m.plans[id]
	m.mu.Unlock()
	if p == nil {
		return nil, cache.Errorf(cache.CodeApproval, "make a plan with DRYRUN", "there is no plan of that id: it was carried out, or expired, or the gateway was restarted")
	}
	if !same(p) {
		return nil, cache.Errorf(cache.CodeStale, "give the same words, with APPROVAL in the place of DRYRUN, or make a new plan", "%s was given for other arguments", id)
	}
	if err := m.approvals.Take(id, p.Hash(), by); err != nil {
		return nil, err
	}
	m.mu.Lock()
	delete(m.plans, id)
	m.mu.Unlock()
	w, err := m.begin(p)
	if err != nil {
		return nil, cache.Errorf(cache.CodeErr, "make room on the disk of the gateway, or look at its permissions", "the work cannot be written down, and nothing was changed: %v", err)
	}
	return w, nil
}

// carryOut carries work out, or on, and returns what the guards did. An error says how far it came; the rest can be resumed.
func (m *Manager) carryOut(ctx context.Context, c *cache.Call, w *Work) (guards upstream.GuardReport, err error) {
	m.record(c, w, "keys.began", w.Plan.String())
	r := &run{m: m, w: w, done: map[string]int64{}, tell: func(p Progress) {
		keys, _, _ := w.Plan.sum()
		c.Progress(cache.Dict("job", cache.String(c.Job), "id", cache.String(w.ID), "changed", cache.Number(p.Changed), "of", cache.Number(keys), "keys_seen", cache.Number(p.Seen)))
	}}
	r.changed.Store(w.total().Changed)
	err = r.carryOut(ctx)
	t := w.total()
	if jerr := w.end(err); jerr != nil {
		err = errors.Join(err, jerr)
	}
	m.record(c, w, "keys.changed", fmt.Sprintf("%s: %d keys changed, %d were gone; it is %s", w.Plan.Op, t.Changed, t.Gone, w.State()))
	if err == nil {
		return r.guards, nil
	}
	next := "CACHE.BULK RESUME " + w.ID + " goes on from here"
	switch {
	case errors.Is(err, errTooMany):
		next = "look for who makes such keys, and make a new plan for the rest"
	case errors.Is(err, errFull):
		next = "make a new plan for the rest with a larger CAPTURE; CACHE.UNDO " + w.ID + " puts back what was unlinked"
	}
	keys, _, _ := w.Plan.sum()
	return r.guards, plain(ctx, next, fmt.Sprintf("%s stopped after %d of %d keys", w.ID, t.Changed, keys), err)
}

func (r *run) carryOut(ctx context.Context) (err error) {
	if r.w.Plan.Op == Undo {
		return r.undo(ctx)
	}
	if r.w.Plan.Op == Expire || r.w.Plan.Capture > 0 {
		r.cap, err = openCapture(r.w.capturePath(), func(k Captured) {
			if r.w.Plan.Op == Expire {
				r.done[where(k)] = k.Set
			}
		})
		if err != nil {
			return fmt.Errorf("the capture of %s: %w", r.w.ID, err)
		}
		defer func() { err = errors.Join(err, r.cap.close()) }()
	}
	return r.each(ctx, func(ctx context.Context, x *node) error { return x.walk(ctx) })
}

func (w *Work) capturePath() string { return filepath.Join(w.dir, "capture") }

// captured is the size of what was captured, in bytes.
func (w *Work) captured() int64 {
	st, err := os.Stat(w.capturePath())
	if err != nil {
		return 0
	}
	return st.Size()
}

// record puts work on record. It is done, or about to be: a record that fails does not undo it.
func (m *Manager) record(c *cache.Call, w *Work, kind, what string) {
	_, _ = m.log.Append(cache.Event{At: m.now().UTC(), Who: c.User.Name, Kind: kind, Command: c.Command.Name, Job: c.Job, What: what, Why: w.ID + " " + w.Plan.Hash()})
}
