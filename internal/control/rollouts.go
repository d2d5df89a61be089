package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/rollout"
)

// PlanRollout says what StartRollout would do, and stores nothing.
func (c *Control) PlanRollout(ctx context.Context, who string, spec operator.RolloutSpec, now time.Time) (operator.Rollout, error) {
	var out operator.Rollout
	err := c.store.View(ctx, func(r store.Reader) error {
		o, err := c.plan(r, who, spec, "plan", now)
		if err != nil {
			return err
		}
		out = o.show(true)
		out.ID, out.Status, out.StartedBy, out.CanaryRun, out.Next = "", "planned", "", "", ""
		for i := range out.Stages {
			out.Stages[i].BeganAt = time.Time{}
		}
		return nil
	})
	return out, err
}

// plan makes a rollout that begins now, without storing it.
func (c *Control) plan(r store.Reader, who string, asked operator.RolloutSpec, id string, now time.Time) (*openRollout, error) {
	const op = "plan rollout"
	spec := specOf(asked)
	if err := spec.Validate(); err != nil {
		return nil, invalid(op, err, "see kernwave rollout plan --help")
	}
	sel, err := fleet.ParseSelector(spec.Selector)
	if err != nil {
		return nil, invalid(op, err, "write it like workload=web,rack!=r1")
	}
	k, err := r.Kernel(spec.Kernel)
	if errors.Is(err, store.ErrNotFound) {
		return nil, operator.Refuse(operator.ErrNotFound, &fleet.Error{
			Op: op, Err: fmt.Errorf("there is no kernel %q", spec.Kernel),
			Next: "see kernwave kernel list, or add it with: kernwave kernel add FILE.deb",
		})
	}
	if err != nil {
		return nil, err
	}
	w, err := c.load(r, now)
	if err != nil {
		return nil, err
	}
	all, err := r.Hosts()
	if err != nil {
		return nil, err
	}
	var chosen []fleet.Host
	for _, h := range all {
		if sel.Matches(h) && h.Status != fleet.StatusRetired {
			if !c.unheard(h.ID, now).IsZero() {
				h.Now.InService = false // as far as anybody knows
			}
			chosen = append(chosen, h)
		}
	}
	known, _ := approvals(w.hot.Approvals, k.Checksum(), now)
	plan, err := rollout.MakePlan(spec, k, chosen, func(t fleet.HostTypeID) bool { _, ok := known[t]; return ok }, k.Checksum())
	if err != nil {
		return nil, refusedAs(err)
	}
	for _, t := range spec.LeaveOut {
		if !plan.HasType(t) {
			return nil, invalid(op, fmt.Errorf("leave out: the selection has no host type %q", t), "see the types with: kernwave rollout plan")
		}
	}
	o := &openRollout{w: w, mine: true}
	o.r = rollout.Rollout{ID: rollout.ID(id), Spec: spec, Plan: plan, State: rollout.Begin(spec, plan, who, now)}
	o.t = &tracked{r: o.r, checksum: k.Checksum(), x: rollout.NewIndex(plan)}
	o.row = store.Rollout{ID: id, Kernel: k.ID, Open: true, CreatedBy: who, CreatedAt: now}
	return o, nil
}

// refusedAs keeps a fleet.Error and marks it as a refusal.
func refusedAs(err error) error { return operator.Refuse(operator.ErrState, err) }

// StartRollout starts one. The same operator's key again returns the rollout that it started.
func (c *Control) StartRollout(ctx context.Context, who string, asked operator.RolloutSpec, key string, now time.Time) (operator.Rollout, error) {
	var out operator.Rollout
	err := c.store.Update(ctx, func(tx store.Tx) error {
		scope := "rollout of " + who
		if key != "" {
			id, err := tx.IdempotencyKey(scope, key)
			if err == nil {
				out, err = c.showRollout(tx, id, now, true)
				return err
			}
			if !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
		id, err := tx.NextID("r")
		if err != nil {
			return err
		}
		o, err := c.plan(tx, who, asked, id, now)
		if err != nil {
			return err
		}
		if err := o.refuseOverlap("start rollout"); err != nil {
			return err
		}
		if err := o.insert(); err != nil {
			return err
		}
		if key != "" {
			if err := tx.PutIdempotencyKey(scope, key, id, now); err != nil {
				return err
			}
		}
		out = o.show(true)
		return nil
	})
	if err == nil {
		c.Poke()
	}
	return out, err
}

// refuseOverlap keeps two rollouts from pulling one host two ways.
func (o *openRollout) refuseOverlap(op string) error {
	for _, other := range o.w.rollouts {
		if other.row.ID == o.row.ID || other.r.State.Outcome != "" {
			continue
		}
		theirs := map[fleet.HostID]bool{}
		for _, h := range other.r.Plan.Hosts {
			theirs[h.ID] = true
		}
		for _, h := range o.r.Plan.Hosts {
			if theirs[h.ID] {
				return refused(op, h.ID, fmt.Errorf("the host is in rollout %s, which is %s", other.row.ID, other.r.State.Status()),
					fmt.Sprintf("finish or abort %s first, or select other hosts", other.row.ID))
			}
		}
	}
	return nil
}

// insert writes a new rollout and the events of its beginning.
func (o *openRollout) insert() error {
	var errs [3]error
	o.row.Spec, errs[0] = json.Marshal(o.r.Spec)
	o.row.Plan, errs[1] = json.Marshal(o.r.Plan)
	o.row.State, errs[2] = json.Marshal(o.r.State)
	if err := errors.Join(errs[:]...); err != nil {
		return fmt.Errorf("encode rollout: %w", err)
	}
	if err := o.save(); err != nil {
		return err
	}
	p := o.r.Plan
	return errors.Join(
		o.w.event(store.Event{
			Who: o.row.CreatedBy, Kind: "rollout.started", Rollout: o.row.ID, Why: o.r.Spec.Note,
			What: fmt.Sprintf("%s: %s to %d hosts of %d types, %d excluded", o.row.ID, p.Kernel.Release, len(p.Hosts), len(p.Types), len(p.Excluded)),
		}),
		o.w.event(store.Event{
			Kind: "stage.began", Rollout: o.row.ID,
			What: fmt.Sprintf("canary run %s begins", o.canaryRun()), Why: fmt.Sprintf("%d canaries", p.Stages[0].Adds),
		}),
	)
}

// ChangeRollout does what a person wants, and what follows from it, in one transaction: after a pause is answered,
// no later confirmation says yes.
func (c *Control) ChangeRollout(ctx context.Context, who string, ch operator.Change, now time.Time) (operator.Rollout, error) {
	var out operator.Rollout
	err := c.store.Update(ctx, func(tx store.Tx) error {
		row, err := tx.Rollout(ch.Rollout)
		if err != nil {
			return err
		}
		w, giveBack, err := c.borrow(tx, now)
		if err != nil {
			return err
		}
		defer giveBack()
		o := w.find(row.ID)
		if o == nil { // ended; a rollback opens it again
			if o, err = w.loadRollout(row); err != nil {
				return err
			}
			w.rollouts = append(w.rollouts, o)
		}
		a := rollout.Action{Kind: rollout.ActionKind(ch.Action), Host: ch.Host, Type: ch.Type, Who: who, Why: ch.Why}
		ended := o.r.State.Outcome != ""
		o.own()
		if err := o.r.Act(a, now); err != nil {
			return refusedAs(err)
		}
		if ended { // and is open again
			if !rollout.GoesBack(o) {
				return refused(fmt.Sprintf("%s rollout %s", a.Kind, row.ID), "", fmt.Errorf("no host that it brought to %s runs that now", o.r.Plan.Kernel.Release),
					"see what they run with: kernwave hosts")
			}
			if err := o.refuseOverlap(fmt.Sprintf("%s rollout %s", a.Kind, row.ID)); err != nil {
				return err
			}
		}
		if err := o.recordAction(a); err != nil {
			return err
		}
		if _, err := w.stepRollout(o); err != nil {
			return err
		}
		if _, err := w.stepGrants(); err != nil {
			return err
		}
		out = o.show(true)
		return nil
	})
	if err == nil {
		c.Poke()
	}
	return out, err
}

// recordAction writes the changed state, the event, and closes what the action decides.
func (o *openRollout) recordAction(a rollout.Action) error {
	what := fmt.Sprintf("%s %s", a.Kind, o.row.ID)
	if a.Host != "" {
		what += " host " + string(a.Host)
	}
	if a.Type != "" {
		what += " type " + string(a.Type)
	}
	if err := errors.Join(o.save(), o.w.event(store.Event{
		Who: a.Who, Kind: "rollout." + string(a.Kind), Rollout: o.row.ID, Host: a.Host, What: what, Why: a.Why,
	})); err != nil {
		return err
	}
	if a.Kind == rollout.ActRollback {
		if err := o.withdrawApprovals(a); err != nil {
			return err
		}
	}
	switch a.Kind {
	case rollout.ActResume, rollout.ActAbort, rollout.ActRollback:
		return o.w.closeIncidents(o.row.ID, fmt.Sprintf("%s: %s %s", a.Who, a.Kind, a.Why))
	}
	return nil
}

// withdrawApprovals takes back what this rollout approved: whoever rolls a kernel back does not want the next rollout
// to skip its canaries.
func (o *openRollout) withdrawApprovals(a rollout.Action) error {
	as, err := o.w.r.Approvals(o.r.Plan.Kernel.Checksum())
	if err != nil {
		return fmt.Errorf("load approvals: %w", err)
	}
	for _, ap := range as {
		if ap.By != "rollout "+o.row.ID {
			continue
		}
		if err := errors.Join(o.w.tx.WithdrawApproval(ap.ID, a.Who, "rolled back: "+a.Why, o.w.now), o.w.event(store.Event{
			Who: a.Who, Kind: "approval.withdrawn", Rollout: o.row.ID,
			What: fmt.Sprintf("%s is not approved for %s any more", ap.Kernel, ap.Type), Why: "rolled back",
		})); err != nil {
			return err
		}
	}
	return o.w.sync()
}

// Rollout shows one.
func (c *Control) Rollout(ctx context.Context, id string, now time.Time) (out operator.Rollout, err error) {
	err = c.store.View(ctx, func(r store.Reader) (err error) {
		out, err = c.showRollout(r, id, now, true)
		return err
	})
	return out, err
}

// Rollouts lists all, newest first, without their hosts.
func (c *Control) Rollouts(ctx context.Context, now time.Time) (out []operator.Rollout, err error) {
	err = c.store.View(ctx, func(r store.Reader) error {
		rows, err := r.Rollouts()
		if err != nil {
			return err
		}
		w, giveBack, err := c.borrow(r, now)
		if err != nil {
			return err
		}
		defer giveBack()
		for _, row := range rows {
			o, err := w.loadRollout(row)
			if err != nil {
				return err
			}
			out = append(out, o.show(false))
		}
		return nil
	})
	return out, err
}

func (c *Control) showRollout(r store.Reader, id string, now time.Time, hosts bool) (operator.Rollout, error) {
	row, err := r.Rollout(id)
	if err != nil {
		return operator.Rollout{}, err
	}
	w, giveBack, err := c.borrow(r, now)
	if err != nil {
		return operator.Rollout{}, err
	}
	defer giveBack()
	o, err := w.loadRollout(row)
	if err != nil {
		return operator.Rollout{}, err
	}
	return o.show(hosts), nil
}

func (w *world) find(id string) *openRollout {
	for _, o := range w.rollouts {
		if o.row.ID == id {
			return o
		}
	}
	return nil
}
