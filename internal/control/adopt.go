package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/rollout"
)

// lostOwner is the owner of an operation whose rollout this store does not know: no rollout's id has a space.
const lostOwner = "lost rollout"

// tookOver is what a host's journal says that the rows do not.
type tookOver struct {
	ops    []fleet.Operation // rows to write, oldest first
	events []store.Event
	// failed are kernels that the host went back from, under operations that were lost, by release: with why.
	failed map[string]lostFailure
}

type lostFailure struct {
	owner string
	why   string
}

// takeOver compares what a host told, oldest first, with the rows of its operations, newest first. owner says whose
// operation one is that the rows do not have. It is pure.
func takeOver(h fleet.HostID, told []fleet.OperationReport, rows []fleet.Operation, owner func(fleet.OperationReport) string, now time.Time) tookOver {
	out := tookOver{failed: map[string]lostFailure{}}
	known := map[fleet.OperationID]fleet.Operation{}
	for _, op := range rows {
		known[op.ID] = op
	}
	who := "host " + string(h)
	heard := map[fleet.OperationID]bool{}
	for _, x := range told {
		if heard[x.ID] || !x.Phase.Known() {
			continue
		}
		heard[x.ID] = true
		op, ok := known[x.ID]
		switch {
		case ok && op.Phase.Ended():
			if op.Phase == fleet.PhaseCommitted && x.Phase != fleet.PhaseCommitted {
				// Its disk was put back to before that, and it has gone back. The row stays, and does not show it: nobody owns this.
				out.failed[op.Release] = lostFailure{why: fmt.Sprintf("it had committed %s in operation %s, and its journal says %s", op.Release, op.ID, x.Phase)}
			}
			continue
		case ok:
			if observe(&op, fleet.Report{Host: h, Operation: &x}, now) {
				out.ops = append(out.ops, op)
				out.events = append(out.events, told1(who, op, "its journal says what became of it"))
			}
			continue
		}
		op = adopted(h, x, owner(x), now)
		out.ops = append(out.ops, op)
		why := fmt.Sprintf("the journal of %s has an operation that this store does not: it was begun after the backup, for %s", h, orUnknown(x.Owner))
		out.events = append(out.events, told1(who, op, why))
		out.learn(op, x)
	}
	for _, op := range slices.Backward(rows) {
		if op.Phase.Ended() || heard[op.ID] {
			continue
		}
		if op.Phase == fleet.PhasePlanned {
			op.Phase, op.PhaseSince = fleet.PhaseCancelled, now
			op.Problem = &fleet.Problem{Cause: fleet.CauseTold, What: "the host had not begun it when the backup was made, and its journal does not show it"}
		} else {
			observe(&op, fleet.Report{Host: h}, now)
		}
		out.ops = append(out.ops, op)
		out.events = append(out.events, told1(who, op, "its journal does not show it"))
	}
	return out
}

func told1(who string, op fleet.Operation, why string) store.Event {
	ev := store.Event{Who: who, Kind: "operation.adopted", Host: op.Host, Operation: op.ID, What: fmt.Sprintf("%s: %s", op.Host, op.Phase), Why: why}
	if op.Owner != lostOwner {
		ev.Rollout = op.Owner
	}
	return ev
}

func orUnknown(owner string) string {
	if owner == "" {
		return "a rollout that it does not name"
	}
	return fmt.Sprintf("rollout %.60q", owner)
}

// adopted is the row of an operation that the store has forgotten. Whoever decided on it is forgotten too, so it is
// brought to an end: called off where the host has not rebooted, reverted where it runs the kernel on trial. A host
// that has gone further ends by itself.
func adopted(h fleet.HostID, x fleet.OperationReport, owner string, now time.Time) fleet.Operation {
	op := fleet.Operation{
		ID: x.ID, Host: h, Kind: x.Kind, Kernel: x.Kernel, Release: x.Release, Owner: owner, Stage: x.Stage, Phase: x.Phase,
		FromRelease: x.FromRelease, FromBootID: x.FromBootID, CreatedAt: now, PhaseSince: now, Problem: x.Problem, Trial: x.Trial,
	}
	const why = "the decisions behind it were lost when the control plane was restored"
	switch {
	case x.Phase.BeforeReboot():
		op.Word, op.WordWhy = fleet.WordCancel, why
	case x.Phase == fleet.PhaseRebooting, x.Phase == fleet.PhaseTrial, x.Phase == fleet.PhasePassed:
		op.Word, op.WordWhy = fleet.WordRevert, why
	}
	return op
}

// learn keeps which kernels the host went back from. A later success of the same kernel clears it: a person had it
// tried again.
func (t *tookOver) learn(op fleet.Operation, x fleet.OperationReport) {
	switch {
	case op.Phase == fleet.PhaseCommitted:
		delete(t.failed, op.Release)
	case op.Problem != nil && rollout.Anomalous(op.Problem.Cause):
		t.failed[op.Release] = lostFailure{op.Owner, fmt.Sprintf("it went back from %s in operation %s (%s): %s", op.Release, op.ID, orUnknown(x.Owner), op.Problem.What)}
	}
}

// rebuildHost takes over the journal of a host of which nothing is known since the restore, or asks for it. h is the
// host as its report leaves it.
func (ch *change) rebuildHost(c *Control, r store.Reader, h fleet.Host, rep fleet.Report, now time.Time) error {
	ch.host = h
	if rep.History == nil || rep.Seen.Incarnation != c.cfg.From.Incarnation {
		ch.wantHistory = true // and what it says of its operation is not final: an older control plane may still be obeyed
		return nil
	}
	rows, err := r.OperationsOn(h.ID, 0)
	if err != nil {
		return err
	}
	told := rep.History.Ended
	if rep.Operation != nil {
		told = append(slices.DeleteFunc(slices.Clone(told), func(x fleet.OperationReport) bool { return x.ID == rep.Operation.ID }), *rep.Operation)
	}
	var lookup error
	took := takeOver(h.ID, told, rows, func(x fleet.OperationReport) string {
		owner, err := c.ownerOf(r, h.ID, x)
		lookup = errors.Join(lookup, err)
		return owner
	}, now)
	if lookup != nil {
		return lookup
	}
	if ch.holds, err = holdsOf(r, h.ID, took); err != nil {
		return err
	}
	ch.adopt = took.ops
	ch.events = append(ch.events, took.events...)
	ch.events = append(ch.events, store.Event{
		Who: "host " + string(h.ID), Kind: "host.journal-told", Host: h.ID,
		What: fmt.Sprintf("told %d operations, of which %d were news", len(told), len(took.ops)),
	})
	ch.host.JournalTold, ch.hostNew = c.cfg.From.Incarnation, true
	ch.op = newestOpen(rep.Operation, rows, took.ops)
	return nil
}

// newestOpen is the operation that the host works at now, or else the newest one that should be; nil: none is open.
func newestOpen(said *fleet.OperationReport, rows, took []fleet.Operation) *fleet.Operation {
	now := map[fleet.OperationID]fleet.Operation{}
	for _, ops := range [][]fleet.Operation{rows, took} {
		for _, op := range ops {
			now[op.ID] = op
		}
	}
	var ids []fleet.OperationID
	if said != nil {
		ids = append(ids, said.ID)
	}
	if len(rows) > 0 {
		ids = append(ids, rows[0].ID)
	}
	for _, id := range ids {
		if op, ok := now[id]; ok && !op.Phase.Ended() {
			return &op
		}
	}
	return nil
}

// planIndex is what of a rollout's plan never changes and is asked for every host.
type planIndex struct {
	release string
	hosts   map[fleet.HostID]bool
}

// maxPlanIndexes bounds them; there are as many as rollouts are open, which hosts keep apart.
const maxPlanIndexes = 64

func (c *Control) indexOf(row store.Rollout) (planIndex, error) {
	c.mu.Lock()
	p, ok := c.plans[row.ID]
	c.mu.Unlock()
	if ok {
		return p, nil
	}
	var plan rollout.Plan
	if err := json.Unmarshal(row.Plan, &plan); err != nil {
		return p, fmt.Errorf("read the plan of rollout %s: %w", row.ID, err)
	}
	p = planIndex{release: plan.Kernel.Release, hosts: make(map[fleet.HostID]bool, len(plan.Hosts))}
	for _, h := range plan.Hosts {
		p.hosts[h.ID] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.plans) >= maxPlanIndexes {
		clear(c.plans)
	}
	c.plans[row.ID] = p
	return p, nil
}

// ownerOf says whose an operation is that only the host knows of: the open rollout that it names, if that has the host
// and brings that kernel; of an agent that names none, the open one that does.
func (c *Control) ownerOf(r store.Reader, h fleet.HostID, x fleet.OperationReport) (string, error) {
	rows, err := r.OpenRollouts()
	if err != nil {
		return "", fmt.Errorf("load rollouts: %w", err)
	}
	for _, row := range rows {
		if x.Owner != "" && x.Owner != row.ID {
			continue
		}
		p, err := c.indexOf(row)
		if err != nil {
			return "", err
		}
		if p.hosts[h] && (p.release == x.Release || x.Stage == fleet.RollbackStage) {
			return row.ID, nil
		}
	}
	return lostOwner, nil
}

// rolloutsWith are the open rollouts that have a host.
func rolloutsWith(r store.Reader, h fleet.HostID) (with []*openRollout, err error) {
	rows, err := r.OpenRollouts()
	if err != nil {
		return nil, fmt.Errorf("load rollouts: %w", err)
	}
	for _, row := range rows {
		o := &openRollout{row: row}
		if err := o.decode(); err != nil {
			return nil, err
		}
		if o.has(h) {
			with = append(with, o)
		}
	}
	return with, nil
}

// hold keeps a host from being offered a kernel by a rollout that did not see it fail.
type hold struct {
	rollout string
	why     string
}

// holdsOf finds the open rollouts that would offer a host a kernel that it went back from under another owner. A
// rollout's own operations it sees itself.
func holdsOf(r store.Reader, h fleet.HostID, took tookOver) (hs []hold, err error) {
	if len(took.failed) == 0 {
		return nil, nil
	}
	with, err := rolloutsWith(r, h)
	if err != nil {
		return nil, err
	}
	for _, o := range with {
		f, ok := took.failed[o.r.Plan.Kernel.Release]
		if ok && f.owner != o.row.ID && o.r.State.Held[h] == "" && o.r.State.Outcome == "" {
			hs = append(hs, hold{o.row.ID, f.why})
		}
	}
	return hs, nil
}

// writeAdopted writes what a host told.
func (ch change) writeAdopted(tx store.Tx, now time.Time) error {
	for _, op := range ch.adopt {
		if err := tx.PutOperation(op); err != nil {
			return fmt.Errorf("write operation %s: %w", op.ID, err)
		}
	}
	for _, hd := range ch.holds {
		row, err := tx.Rollout(hd.rollout)
		if err != nil {
			return fmt.Errorf("load rollout %s: %w", hd.rollout, err)
		}
		w := &world{tx: tx, r: tx, now: now}
		o := &openRollout{w: w, row: row}
		if err := o.decode(); err != nil {
			return err
		}
		if o.r.State.Held == nil {
			o.r.State.Held = map[fleet.HostID]string{}
		}
		o.r.State.Held[ch.host.ID] = hd.why
		if err := errors.Join(o.saveAs(row.Open), w.event(store.Event{
			Kind: "host.held", Rollout: row.ID, Host: ch.host.ID,
			What: fmt.Sprintf("%s is not offered %s again without a person", ch.host.ID, o.r.Plan.Kernel.Release), Why: hd.why,
		})); err != nil {
			return err
		}
	}
	return nil
}
