package sim

import (
	"fmt"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
)

// cloned is one certificate with two machines, and what each store has heard of them: where a copy of the store is used as well,
// one may have heard only one of the two.
type cloned map[*rows]*turns

// turns is how often a store believed another machine than last time.
type turns struct {
	last *host
	n    int
}

func (c cloned) heard(r *rows, h *host) {
	t := c[r]
	if t == nil {
		t = &turns{}
		c[r] = t
	}
	if t.last != h {
		t.last = h
		t.n++
	}
}

// detectable says whether the store must have noticed: each of the two was heard twice.
func (c cloned) detectable(r *rows) bool { return c[r] != nil && c[r].n >= 4 }

// committed takes what a transaction wrote into the truth about its store, and checks it.
func (w *world) committed(p *plane, got *written) {
	r := p.dir.rows
	for _, e := range got.events {
		if w.opt.Trace != nil || e.Host == "" {
			w.note(&p.ring, p.name, "records "+e.Kind+":", e.What, e.Why)
		}
		if h := w.byID[e.Host]; h != nil {
			w.note(&h.ring, p.name, "records "+e.Kind+":", e.What, e.Why)
		}
		w.count("event-" + e.Kind)
	}
	r.events = max(r.events, got.lastSeq)
	for _, h := range got.hosts {
		if h.Status != r.status[h.ID] {
			w.progress = w.now
		}
		r.status[h.ID], r.known[h.ID] = h.Status, h.FactsHash != ""
		if h.Frozen != "" || r.frozen[h.ID] {
			r.frozen[h.ID] = h.Frozen != ""
		}
	}
	for _, b := range got.budgets {
		if b.Limit == 0 {
			delete(r.budgets, b.By)
			continue
		}
		r.budgets[b.By] = b.Limit
	}
	for _, row := range got.rollouts {
		w.tookRollout(p, row)
	}
	for _, op := range got.ops {
		w.tookOperation(p, op)
	}
	var given []store.Grant
	for _, g := range got.grants {
		if _, known := r.grants[g.ID]; !known {
			given = append(given, g)
			if first := r.live[g.Host]; first != "" && g.EndedAt.IsZero() {
				w.breaks(1, "a host is given a second grant when the first has ended, and not before", w.machines(g.Host), p,
					"%s gives %s to %s for %s, and %s for %s has not ended", p.name, g.ID, g.Host, g.Operation, first, r.grants[first].Operation)
			}
		}
		r.grants[g.ID] = g
		if g.EndedAt.IsZero() {
			r.live[g.Host] = g.ID
		} else if r.live[g.Host] == g.ID {
			delete(r.live, g.Host)
		}
	}
	for _, g := range given {
		w.count("grant")
		w.checkGrant(p, g)
	}
}

// excuse notes which canaries of a rollout were out of the fleet by a person's word when its first wave began: they are not
// waited for, also once they are back.
func (r *rows) excuse(id string) {
	row := r.rollouts[id]
	if row.plan == nil {
		return
	}
	for _, t := range row.plan.Types {
		for _, c := range t.Canaries {
			if r.status[c] != fleet.StatusActive {
				r.excused[id+" "+string(c)] = true
			}
		}
	}
}

func (w *world) tookRollout(p *plane, row store.Rollout) {
	r := p.dir.rows
	before, known := r.rollouts[row.ID]
	now, err := readRollout(row, before, known, w.now)
	if err != nil {
		w.broken(fmt.Errorf("read rollout %s: %w", row.ID, err))
		return
	}
	w.sawStage(p, before, &now)
	r.rollouts[row.ID] = now
	if !known || now.status != before.status || now.state.Stage != before.state.Stage {
		w.progress = w.now
	}
	if before.state.Stage == 0 && now.state.Stage > 0 {
		r.excuse(row.ID)
	}
	if now.status == "paused" && before.status != "paused" {
		w.sawPause(row.ID, now.state.Paused)
	}
}

// tookOperation checks that operations go forward, one at a time.
func (w *world) tookOperation(p *plane, op fleet.Operation) {
	w.count(SeenChecks)
	r := p.dir.rows
	hs := w.machines(op.Host)
	before, known := r.ops[op.ID]
	_, adopted := w.owners[op.ID]
	if !known && adopted {
		w.count("operation-adopted") // from a host's journal, after a restore
	}
	if !known && !adopted {
		w.owners[op.ID] = op.Owner
		w.count("operation")
		w.standsIn(op, r)
		if other := r.open[op.Host]; other != "" && other != op.ID {
			w.breaks(6, "a host has one operation at a time", hs, p, "%s wants %s of %s, whose operation %s is open", p.name, op.ID, op.Host, other)
		}
		for _, h := range hs {
			g, failed := h.truth.failed[op.Owner]
			if _, here := r.ops[g.op]; g.forgotten && !here {
				continue // put back to before it, the host and this store alike: nobody could know
			}
			if failed && op.Stage >= 0 {
				w.breaks(6, "a kernel from which a host has gone back is not offered to it again without a person", hs, p,
					"%s wants %s of %s in %s, which has gone back from it: %s", p.name, op.Release, op.Host, op.Owner, g.why)
			}
		}
	}
	if known && before.Phase.Ended() && op.Phase != before.Phase {
		w.breaks(6, "an operation that has ended stays so", hs, p, "operation %s of %s is %s, after it was %s", op.ID, op.Host, op.Phase, before.Phase)
	}
	if !known || op.Phase != before.Phase || op.Problem != nil && before.Problem == nil {
		w.progress = w.now
	}
	r.ops[op.ID] = op
	switch {
	case !op.Phase.Ended():
		r.open[op.Host] = op.ID
	case r.open[op.Host] == op.ID:
		delete(r.open, op.Host)
	}
}

// asks notes what a person is about to ask for: it may be written even if no answer comes.
func (w *world) asks(p *plane, c operator.Change) {
	switch c.Action {
	case operator.ActionRetry:
		for _, h := range w.machines(c.Host) {
			if g, failed := h.truth.failed[c.Rollout]; failed {
				h.truth.retried[g.op] = true
				delete(h.truth.failed, c.Rollout)
			}
			if !h.a.Ended() {
				h.truth.retried[h.opID()] = true
			}
		}
	case operator.ActionSkip:
		w.asked[c.Rollout+" skip "+string(c.Host)] = true
	case operator.ActionLeaveOut:
		w.asked[c.Rollout+" leave-out "+string(c.Type)] = true
	case operator.ActionRollback:
		w.asked[c.Rollout+" rollback"] = true
	case operator.ActionResume:
		p.dir.rows.resumed[c.Rollout] = true
	}
}
