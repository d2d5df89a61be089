package control

import (
	"context"
	"fmt"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/grant"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/rollout"
)

// specOf turns what an operator asked for into a spec without gaps.
func specOf(a operator.RolloutSpec) rollout.Spec {
	s := rollout.Spec{
		Kernel: a.Kernel, Selector: a.Selector, Waves: a.Waves, Soak: rollout.DefaultSoak, Canaries: a.Canaries,
		ReturnWithin: a.ReturnWithin, TrialDeadline: a.TrialDeadline, LeaveOut: a.LeaveOut, Note: a.Note,
	}
	if a.Soak != nil {
		s.Soak = *a.Soak
	}
	return s.WithDefaults()
}

// canaryRun is the id of stage 0.
func (o *openRollout) canaryRun() string { return o.row.ID + ".canaries" }

// show is the rollout as operators see it.
func (o *openRollout) show(hosts bool) operator.Rollout {
	sp, st, p := o.r.Spec, o.r.State, o.r.Plan
	soak := sp.Soak
	out := operator.Rollout{
		ID: o.row.ID, Kernel: p.Kernel, Status: st.Status(), StatusWhy: st.Paused, StartedBy: o.row.CreatedBy,
		StartedAt: o.row.CreatedAt, EndedAt: st.EndedAt, Stage: st.Stage, CanaryRun: o.canaryRun(),
		Next: o.waitsFor(),
		Spec: operator.RolloutSpec{
			Kernel: sp.Kernel, Selector: sp.Selector, Waves: sp.Waves, Soak: &soak, Canaries: sp.Canaries,
			ReturnWithin: sp.ReturnWithin, TrialDeadline: sp.TrialDeadline, LeaveOut: sp.LeaveOut, Note: sp.Note,
		},
	}
	for i, s := range p.Stages {
		ss := st.Stages[i]
		out.Stages = append(out.Stages, operator.Stage{
			Number: i, Name: p.Name(i), Percent: s.Percent, Hosts: s.Adds, BeganAt: ss.BeganAt, SoakUntil: ss.SoakUntil,
			EndedAt: ss.EndedAt, Skipped: ss.Skipped,
		})
	}
	types := map[fleet.HostTypeID]int{}
	for i, t := range p.Types {
		types[t.ID] = i
		out.Types = append(out.Types, operator.Type{
			ID: t.ID, Description: t.Description, Hosts: t.Hosts, Canaries: t.Canaries, LeftOut: st.LeftOut[t.ID],
		})
	}
	approved := o.t.approvals(o.w.hot.Approvals, o.w.now)
	for i := range out.Types {
		out.Types[i].Approval = approved[out.Types[i].ID]
	}
	for _, h := range p.Hosts {
		rh := o.showHost(h)
		if rh.State == string(fleet.PhaseCommitted) {
			out.Stages[h.Stage].Committed++
			out.Types[types[h.Type]].Committed++
		}
		if hosts {
			out.Hosts = append(out.Hosts, rh)
		}
	}
	for _, e := range p.Excluded {
		out.Excluded = append(out.Excluded, operator.Out{Host: e.ID, Why: e.Why})
	}
	return out
}

// waitsFor says in one sentence what the rollout waits for.
func (o *openRollout) waitsFor() string {
	next := rollout.WaitsFor(o, o.w.now)
	if s := o.w.rebuild.show(); s != nil && o.r.State.Outcome == "" {
		return s.String() + "; then for " + next
	}
	return next
}

// showHost says in one word where a host of the rollout stands.
func (o *openRollout) showHost(h rollout.PlanHost) operator.RolloutHost {
	st := o.r.State
	rh := operator.RolloutHost{ID: h.ID, Type: h.Type, Stage: h.Stage, State: "waiting"}
	if ops := o.t.on(h.ID); len(ops) > 0 {
		op := ops[len(ops)-1]
		rh.Operation = &op
		if op.Phase == fleet.PhaseCommitted && op.Stage == fleet.RollbackStage {
			rh.State, rh.Why = "rolled-back", "back on "+op.Release
			return rh
		}
		if !op.Phase.Ended() || op.Phase == fleet.PhaseCommitted {
			rh.State = string(op.Phase)
			if op.Problem != nil {
				rh.Why = op.Problem.What
			}
			return rh
		}
	}
	switch {
	case st.Held[h.ID] != "":
		rh.State, rh.Why = "held", st.Held[h.ID]
	case st.Skipped[h.ID] != "":
		rh.State, rh.Why = "skipped", st.Skipped[h.ID]
	case st.LeftOut[h.Type] != "":
		rh.State, rh.Why = "left-out", st.LeftOut[h.Type]
	}
	return rh
}

// Budgets lists the budgets and how much of them is used.
func (c *Control) Budgets(ctx context.Context, now time.Time) (bs []operator.Budget, use []operator.GroupUse, err error) {
	err = c.store.View(ctx, func(r store.Reader) error {
		if bs, err = budgets(r); err != nil {
			return err
		}
		w, giveBack, err := c.borrow(r, now)
		if err != nil {
			return err
		}
		defer giveBack()
		v, err := w.grantView()
		if err != nil {
			return err
		}
		for _, u := range grant.InUse(v) {
			g := operator.GroupUse{Group: u.Group, Limit: u.Limit}
			for _, out := range u.Out {
				g.Out = append(g.Out, operator.Out{Host: out.Host, Why: out.Why})
			}
			use = append(use, g)
		}
		return nil
	})
	return bs, use, err
}

// SetBudget sets one; Limit 0 removes a label's.
func (c *Control) SetBudget(ctx context.Context, who string, b operator.Budget, now time.Time) error {
	const op = "set budget"
	isLabel := len(b.By) > len(operator.BudgetByLabel) && b.By[:len(operator.BudgetByLabel)] == operator.BudgetByLabel
	switch {
	case b.By != operator.BudgetByType && !isLabel:
		return invalid(op, fmt.Errorf("by %q", b.By), "use type or label:KEY")
	case b.Limit < 0, b.Limit == 0 && !isLabel:
		return invalid(op, fmt.Errorf("limit %d by %s", b.Limit, b.By), "the limit by type is at least 1; use kernwave stop to let nobody leave service")
	}
	err := c.store.Update(ctx, func(tx store.Tx) error {
		what := fmt.Sprintf("at most %d hosts out of service for each %s", b.Limit, b.By)
		err := error(nil)
		if b.Limit == 0 {
			what = fmt.Sprintf("no budget by %s any more", b.By)
			err = tx.DeleteBudget(b.By)
		} else {
			err = tx.PutBudget(b)
		}
		if err != nil {
			return err
		}
		_, err = tx.AppendEvent(store.Event{At: now, Who: who, Kind: "budget.set", What: what})
		return err
	})
	if err == nil {
		c.Poke()
	}
	return err
}

// Status is the control plane at a glance. It reads memory alone: it is what one looks at when the store is sick.
func (c *Control) Status(now time.Time) operator.Status {
	c.mu.Lock()
	st := operator.Status{
		Hosts: c.status.hosts, Frozen: c.status.frozen, LiveGrants: c.status.grants, OpenIncidents: c.status.incidents, LastTick: c.lastTick,
		Rebuild: c.status.rebuild, Superseded: c.superseded.why(c.cfg.From),
	}
	if c.storeErr != nil {
		st.StoreError = c.storeErr.Error()
	}
	heard := 0
	for _, last := range c.seen {
		if now.Sub(last) <= c.cfg.SilentAfter {
			heard++
		}
	}
	c.mu.Unlock()
	st.Silent = max(st.Hosts-heard, 0)
	return st
}
