package control

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/rollout"
)

// ApprovalLife is how long an approval is good: hardware, firmware and workloads under a type move on.
const ApprovalLife = 90 * 24 * time.Hour

// stepRollout asks one rollout what should change, and writes it.
func (w *world) stepRollout(o *openRollout) (wake time.Time, err error) {
	ds, wake := rollout.Step(o, w.now)
	if len(ds) > 0 {
		o.own()
	}
	for _, d := range ds {
		o.r.State.Apply(d, w.now)
		if err := o.carryOut(d); err != nil {
			return wake, err
		}
	}
	if len(ds) > 0 || o.reopens() {
		return wake, o.save()
	}
	return wake, nil
}

// carryOut turns one decision into rows.
func (o *openRollout) carryOut(d rollout.Decision) error {
	w := o.w
	ev := store.Event{Rollout: o.row.ID}
	switch d := d.(type) {
	case rollout.Want:
		return o.want(d)
	case rollout.Say:
		op := o.operation(d.Host)
		op.Word, op.WordWhy = d.Word, d.Why
		ev.Kind, ev.Host, ev.Operation = "operation.word", d.Host, d.Operation
		ev.What, ev.Why = fmt.Sprintf("told %s to %s", d.Host, d.Word), d.Why
		return errors.Join(o.putOperation(op), w.event(ev))
	case rollout.Lose:
		op := o.operation(d.Host)
		p := d.Problem
		op.Problem = &p
		ev.Kind, ev.Host, ev.Operation, ev.What, ev.Why = "host.lost", d.Host, d.Operation, fmt.Sprintf("%s %s", d.Host, p.What), p.Expected
		return errors.Join(o.putOperation(op), w.event(ev))
	case rollout.Hold:
		ev.Kind, ev.Host, ev.Operation = "host.held", d.Host, d.Operation
		ev.What, ev.Why = fmt.Sprintf("%s is not offered %s again without a person", d.Host, o.r.Plan.Kernel.Release), d.Why
	case rollout.Raise:
		return o.openIncident(d.Anomaly)
	case rollout.Pause:
		ev.Kind, ev.What, ev.Why = "rollout.paused", "paused "+o.row.ID, d.Why
	case rollout.Approve:
		_, err := w.tx.AppendApproval(store.Approval{
			Kernel: o.r.Plan.Kernel.ID, Checksum: o.r.Plan.Kernel.Checksum(), Type: d.Type, TypeKeyVersion: fleet.TypeKeyVersion,
			By: "rollout " + o.row.ID, Evidence: d.Evidence, At: w.now, Until: w.now.Add(ApprovalLife),
		})
		if err != nil {
			return fmt.Errorf("append approval: %w", err)
		}
		if err := w.sync(); err != nil {
			return err
		}
		ev.Kind, ev.What, ev.Why = "approval.given", fmt.Sprintf("approved %s for %s", o.r.Plan.Kernel.ID, d.Type), d.Evidence
	case rollout.Soak:
		ev.Kind = "stage.soaking"
		ev.What = fmt.Sprintf("%s is done, soaking until %s", o.r.Plan.Name(d.Stage), d.Until.UTC().Format(time.RFC3339))
	case rollout.Advance:
		ev.Kind, ev.What, ev.Why = "stage.began", o.r.Plan.Name(d.To)+" begins", d.Why
		if d.Skipped != "" {
			ev.Kind, ev.What, ev.Why = "stage.skipped", o.r.Plan.Name(d.To)+" is skipped", d.Skipped
		}
	case rollout.Finish:
		ev.Kind, ev.What, ev.Why = "rollout.ended", fmt.Sprintf("%s is %s", o.row.ID, d.Outcome), d.Why
		return errors.Join(w.event(ev), w.closeIncidents(o.row.ID, fmt.Sprintf("the rollout is %s", d.Outcome)))
	default:
		panic(fmt.Sprintf("control: a decision that cannot happen: %#v", d))
	}
	return w.event(ev)
}

// want begins an operation.
func (o *openRollout) want(d rollout.Want) error {
	id, err := o.w.tx.NextOperationID()
	if err != nil {
		return fmt.Errorf("draw an operation id: %w", err)
	}
	kernel := o.r.Plan.Kernel.ID
	if d.Stage == fleet.RollbackStage {
		if kernel, err = kernelOfRelease(o.w.r, d.Release); err != nil {
			return err
		}
	}
	h := o.w.hostOrNone(d.Host)
	op := fleet.Operation{
		ID: id, Host: d.Host, Kind: fleet.KindUpdate, Kernel: kernel, Release: d.Release, Owner: o.row.ID, Stage: d.Stage,
		Phase: fleet.PhasePlanned, FromRelease: h.Now.Release, CreatedAt: o.w.now, PhaseSince: o.w.now,
	}
	return errors.Join(o.putOperation(op), o.w.event(store.Event{
		Kind: "operation.wanted", Rollout: o.row.ID, Host: d.Host, Operation: id,
		What: fmt.Sprintf("wants %s on %s (%s)", d.Release, d.Host, o.stageName(d.Stage)),
	}))
}

func (o *openRollout) stageName(stage int) string {
	if stage == fleet.RollbackStage {
		return "rollback"
	}
	return o.r.Plan.Name(stage)
}

// kernelOfRelease names the kernel that shows a release. One that the control plane was never given is named by its
// release: it can be gone back to where it is still installed.
func kernelOfRelease(r store.Reader, release string) (fleet.KernelID, error) {
	ks, err := r.Kernels()
	if err != nil {
		return "", fmt.Errorf("load kernels: %w", err)
	}
	for _, k := range ks {
		if k.Release == release {
			return k.ID, nil
		}
	}
	return fleet.KernelID(release), nil
}

// openIncident records what an anomaly shows and what a person can do about it.
func (o *openRollout) openIncident(a rollout.Anomaly) error {
	id, err := o.w.tx.NextID("i")
	if err != nil {
		return fmt.Errorf("draw an incident id: %w", err)
	}
	in := store.Incident{
		ID: id, At: o.w.now, Rollout: o.row.ID, Kernel: o.r.Plan.Kernel.ID, Type: a.Type, Hosts: []fleet.HostID{a.Host},
		Saw:      fmt.Sprintf("%s (%s) %s", a.Host, o.stageName(a.Stage), a.Problem.What),
		Expected: a.Problem.Expected, Evidence: a.Problem.Evidence, NoEvidence: a.Problem.NoEvidence,
		Choices: o.choices(a),
	}
	if o.r.State.Outcome != "" { // a host that was given up came back: there is nothing left to decide
		in.ClosedAt, in.ClosedWhy, in.Choices = o.w.now, "the rollout is "+o.r.State.Status(), nil
	}
	if err := o.w.tx.PutIncident(in); err != nil {
		return fmt.Errorf("write incident: %w", err)
	}
	return o.w.event(store.Event{
		Kind: "incident.opened", Rollout: o.row.ID, Host: a.Host, Operation: a.Operation,
		What: fmt.Sprintf("%s: %s", id, in.Saw), Why: a.Problem.Expected,
	})
}

// choices are what a person can do about an anomaly, the most careful first.
func (o *openRollout) choices(a rollout.Anomaly) []store.Choice {
	var cs []store.Choice
	offer := func(what, format string, args ...any) {
		cs = append(cs, store.Choice{What: what, Command: "kernwave rollout " + fmt.Sprintf(format, args...)})
	}
	if a.Problem.Next != "" {
		cs = append(cs, store.Choice{What: a.Problem.Next})
	}
	id, goal := o.row.ID, o.r.State.Goal
	if goal == rollout.GoalForward {
		offer("stop here: hosts in trial go back, committed ones stay", "abort %s", id)
		offer("bring the previous kernel back to every host that has committed", "rollback %s", id)
		offer(fmt.Sprintf("go on without hosts of type %s", a.Type), "leave-out %s %s --why … && kernwave rollout resume %s", id, a.Type, id)
	}
	if goal == rollout.GoalForward || a.Stage == fleet.RollbackStage {
		offer(fmt.Sprintf("the kernel is not to blame: give up on %s alone and go on", a.Host), "skip %s %s --why … && kernwave rollout resume %s", id, a.Host, id)
		offer(fmt.Sprintf("offer the kernel to %s once more", a.Host), "retry %s %s && kernwave rollout resume %s", id, a.Host, id)
	} else { // it goes back already, and does not wait for this
		offer(fmt.Sprintf("give up on %s: the rollout is %s, and ends without it", a.Host, o.r.State.Status()), "skip %s %s --why …", id, a.Host)
	}
	return cs
}

// closeIncidents closes those of one rollout, when a person has decided how to go on.
func (w *world) closeIncidents(rolloutID, why string) error {
	is, err := w.r.Incidents(false)
	if err != nil {
		return fmt.Errorf("load incidents: %w", err)
	}
	for _, in := range is {
		if in.Rollout != rolloutID {
			continue
		}
		in.ClosedAt, in.ClosedWhy = w.now, strings.TrimSpace(why)
		if err := w.tx.PutIncident(in); err != nil {
			return fmt.Errorf("close incident %s: %w", in.ID, err)
		}
		if err := w.event(store.Event{Kind: "incident.closed", Rollout: rolloutID, What: "closed " + in.ID, Why: why}); err != nil {
			return err
		}
	}
	return nil
}
