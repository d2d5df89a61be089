package control

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/store"
)

// CheckIn takes what a host says and returns what should be. Only differences are written. A report that may be late,
// repeated or another machine's changes nothing, and its answer begins nothing; see order.go.
func (c *Control) CheckIn(ctx context.Context, r fleet.Report, now time.Time) (fleet.Desired, error) {
	if r.Copied != "" {
		return c.keepAway(ctx, r, now)
	}
	var d fleet.Desired
	var ch change
	var t turn
	heard := false
	look := func(tx store.Reader) error {
		h, err := tx.Host(r.Host)
		if err != nil {
			return err
		}
		if !heard {
			t, heard = c.hear(r, h.Lineage, now), true
		}
		if !t.counts {
			return nil
		}
		if ch, err = c.compare(tx, r, t, now); err != nil || ch.any() {
			return err
		}
		d, err = c.desired(tx, ch, r, now)
		return err
	}
	err := errNotInMemory
	if m, ok := c.memoryFor(r); ok {
		err = look(m)
	}
	if errors.Is(err, errNotInMemory) {
		err = c.store.View(ctx, look)
	}
	if err == nil {
		err = c.obeys(ctx, r, now)
	}
	if err == nil && t.counts && ch.any() {
		err = c.store.Update(ctx, func(tx store.Tx) (err error) {
			if t.counts = c.current(r, t); !t.counts {
				return nil
			}
			if ch, err = c.compare(tx, r, t, now); err != nil { // again: someone may have come between
				return err
			}
			if err := ch.write(tx, now); err != nil {
				return err
			}
			d, err = c.desired(tx, ch, r, now)
			return err
		})
	}
	if err != nil {
		return fleet.Desired{}, fmt.Errorf("check-in of %s: %w", r.Host, err)
	}
	if !t.counts {
		return c.again(t, now), nil
	}
	d.Answer = t.String()
	switch before := c.lastSeen(r.Host); {
	case before.IsZero() || now.Sub(before) > c.cfg.SilentAfter || ch.urgent():
		defer c.Poke() // somebody may wait for this host
	case ch.any():
		defer c.nudge()
	}
	c.heard(r.Host, now)
	return d, nil
}

// againAfter is how soon a host is to prove that it is there: its word counts for nothing until then.
const againAfter = 200 * time.Millisecond

// again answers a report that was not believed.
func (c *Control) again(t turn, now time.Time) fleet.Desired {
	return fleet.Desired{From: c.cfg.From, ServerTime: now, CheckInAfter: againAfter, Again: true, Answer: t.String()}
}

// change is what a report changes in the rows.
type change struct {
	host     fleet.Host
	hostNew  bool
	op       *fleet.Operation // the open one, as the report leaves it; nil: none is open
	opNew    bool
	other    *fleet.Operation // an older one that the host still works at
	events   []store.Event
	incident *store.Incident // without its id
	wantFact bool
	// Of a host of which nothing is known since the store was restored: see adopt.go.
	wantHistory bool
	adopt       []fleet.Operation
	holds       []hold
	suspect     bool // whether the host is who it says is not settled yet
}

func (ch change) any() bool { return ch.hostNew || ch.opNew || ch.other != nil || len(ch.events) > 0 }

// urgent says whether a change is more than an operation or a service going its way.
func (ch change) urgent() bool {
	return len(ch.events) > 0 || ch.other != nil || ch.opNew && ch.op.Problem != nil
}

// compare holds a report against the rows.
func (c *Control) compare(r store.Reader, rep fleet.Report, t turn, now time.Time) (change, error) {
	var ch change
	h, err := r.Host(rep.Host)
	if err != nil {
		return ch, err
	}
	before := h
	if h.Frozen != "" {
		return ch, ch.frozen(r, h, rep, now)
	}
	if !t.legacy && ch.trace(&h, rep, t, now) || suspect(&h, c.cfg.SilentAfter, now) {
		ch.host, ch.suspect = h, true
		return ch, ch.distrust(r, h, now)
	}
	said := rep.Now
	said.Uptime = h.Now.Uptime // it always changes, and nobody decides on it
	if !reflect.DeepEqual(said, h.Now) {
		h.Now = rep.Now
		ch.hostNew = true
	}
	if rep.Facts != nil && (h.FactsHash != rep.Facts.Hash() || h.FactsHash == "") {
		h.Facts, h.FactsHash, h.Type = *rep.Facts, rep.Facts.Hash(), fleet.TypeOf(*rep.Facts)
		ch.hostNew = true
	}
	ch.wantFact = h.FactsHash != rep.FactsHash
	ch.host = h
	rb, err := r.Rebuild()
	if err != nil {
		return ch, err
	}
	if rb.Missing(h) {
		if err := ch.rebuildHost(c, r, h, rep, now); err != nil {
			return ch, err
		}
		ch.notice(before, rep)
		return ch, nil
	}

	ops, err := r.OperationsOn(rep.Host, 1)
	if err != nil {
		return ch, err
	}
	if len(ops) == 1 && !ops[0].Phase.Ended() {
		op := ops[0]
		ch.op = &op
		ch.opNew = observe(&op, rep, now)
	}
	if o := rep.Operation; o != nil && (ch.op == nil || o.ID != ch.op.ID) {
		if err := ch.older(r, rep, now); err != nil {
			return ch, err
		}
	}
	ch.notice(before, rep)
	return ch, nil
}

// older follows an operation that is not the newest one: the host finishes it before it begins the next.
func (ch *change) older(r store.Reader, rep fleet.Report, now time.Time) error {
	op, err := r.Operation(rep.Operation.ID)
	if errors.Is(err, store.ErrNotFound) {
		return nil // of another control plane's time; the host ends it by itself
	}
	if err != nil {
		return err
	}
	if op.Host == rep.Host && !op.Phase.Ended() && observe(&op, rep, now) {
		ch.other = &op
	}
	return nil
}

// observe brings op up to what the host's journal says, and reports whether that changed anything.
func observe(op *fleet.Operation, rep fleet.Report, now time.Time) bool {
	before := *op
	said := rep.Operation
	if said == nil || said.ID != op.ID {
		if op.Phase == fleet.PhasePlanned || op.Problem != nil {
			return false // it has not begun it yet
		}
		op.Problem = &fleet.Problem{
			Cause: fleet.CauseUnknownPhase, What: fmt.Sprintf("the host's journal does not know operation %s any more (it was %s)", op.ID, op.Phase),
			Expected: "the journal keeps every operation until its end", NoEvidence: "the journal is gone",
			Next: "find out whether the host's disk was restored or replaced, then skip or retry the host",
		}
		return true
	}
	if said.Phase != op.Phase {
		if !op.Phase.CanBecome(said.Phase) && op.Problem == nil {
			op.Problem = &fleet.Problem{
				Cause: fleet.CauseUnknownPhase, What: fmt.Sprintf("the host says %s after it said %s", said.Phase, op.Phase),
				Expected: "an operation goes forward only", NoEvidence: "see the host's journal",
				Next: "find out whether the host's disk was restored, then skip or retry the host",
			}
		}
		if said.Phase.Known() {
			op.Phase, op.PhaseSince = said.Phase, now
		}
	}
	if said.FromRelease != "" {
		op.FromRelease = said.FromRelease
	}
	if said.FromBootID != "" {
		op.FromBootID = said.FromBootID
	}
	if said.Problem != nil {
		op.Problem = said.Problem
	}
	if said.Trial != nil {
		op.Trial = said.Trial
	}
	return !reflect.DeepEqual(before, *op)
}

// notice makes events of what people will ask about later.
func (ch *change) notice(before fleet.Host, rep fleet.Report) {
	who, id := "host "+string(rep.Host), rep.Host
	if b := before.Now.BootID; b != "" && rep.Now.BootID != b {
		granted := ch.op != nil && !ch.op.ConfirmedAt.IsZero()
		ev := store.Event{Who: who, Kind: "host.rebooted", Host: id, What: fmt.Sprintf("booted %s", rep.Now.Release), Why: "in its operation"}
		if !granted {
			ev.Why = "nobody granted this reboot"
		}
		ch.events = append(ch.events, ev)
	}
	if before.FactsHash != "" && before.Type.ID != ch.host.Type.ID {
		ch.events = append(ch.events, store.Event{
			Who: who, Kind: "host.type", Host: id,
			What: fmt.Sprintf("is of type %s now, it was %s", ch.host.Type.ID, before.Type.ID), Why: ch.host.Type.String(),
		})
	}
	if before.Now.Parked != rep.Now.Parked && rep.Now.Parked != "" {
		ch.events = append(ch.events, store.Event{Who: who, Kind: "host.parked", Host: id, What: "its agent refuses every operation", Why: rep.Now.Parked})
	}
}

// write puts the change into rows.
func (ch change) write(tx store.Tx, now time.Time) error {
	if ch.hostNew {
		if err := tx.PutHost(ch.host); err != nil {
			return err
		}
	}
	if err := ch.writeAdopted(tx, now); err != nil {
		return err
	}
	for _, op := range []*fleet.Operation{ch.op, ch.other} {
		if op == nil || op == ch.op && !ch.opNew {
			continue
		}
		if err := tx.PutOperation(*op); err != nil {
			return err
		}
		ev := store.Event{
			At: now, Who: "host " + string(op.Host), Kind: "operation." + string(op.Phase), Rollout: op.Owner,
			Host: op.Host, Operation: op.ID, What: fmt.Sprintf("%s: %s", op.Host, op.Phase),
		}
		if op.Problem != nil {
			ev.Why = op.Problem.What
		}
		if _, err := tx.AppendEvent(ev); err != nil {
			return err
		}
	}
	for _, ev := range ch.events {
		ev.At = now
		if _, err := tx.AppendEvent(ev); err != nil {
			return err
		}
	}
	return ch.openIncident(tx, now)
}

// desired is what should be, after the report.
func (c *Control) desired(r store.Reader, ch change, rep fleet.Report, now time.Time) (fleet.Desired, error) {
	d := fleet.Desired{From: c.cfg.From, ServerTime: now, CheckInAfter: c.cfg.IdlePace, WantFacts: ch.wantFact}
	op := ch.op
	switch {
	case ch.host.Frozen != "":
		d.Operation = callOff(op, rep, ch.host)
		return d, nil
	case ch.suspect:
		d.Again, d.CheckInAfter, d.WantFacts = true, c.cfg.OperationPace, false
		return d, nil
	case ch.wantHistory:
		// Nothing is wanted of it until it has told what it did: what has not rebooted is called off by that.
		d.WantHistory, d.CheckInAfter = true, c.cfg.OperationPace
		return d, nil
	case op == nil || op.Phase.Ended():
		return d, nil
	}
	d.CheckInAfter = c.cfg.OperationPace
	k, err := kernelOf(r, *op, ch.host)
	if err != nil {
		return d, err
	}
	want := fleet.DesiredOperation{
		ID: op.ID, Kind: op.Kind, Kernel: k, Word: op.Word, WordWhy: op.WordWhy,
		Owner: op.Owner, Stage: op.Stage,
	}
	if want.TrialDeadline, err = c.trialDeadline(r, op.Owner); err != nil {
		return d, err
	}
	if why, yes := c.stopped(); yes && op.NotGone(ch.host.Now.BootID) {
		want.Word, want.WordWhy = fleet.WordCancel, "everything is stopped: "+why
	}
	if want.Word == fleet.WordNone && op.NotGone(ch.host.Now.BootID) {
		if want.Grant, err = c.liveGrant(r, *op, now); err != nil {
			return d, err
		}
	}
	d.Operation = &want
	return d, nil
}

// liveGrant is op's grant, as the store has it at this moment; nil: it has none.
func (c *Control) liveGrant(r store.Reader, op fleet.Operation, now time.Time) (*fleet.Grant, error) {
	hot, err := r.Hot()
	if err != nil {
		return nil, err
	}
	var oldest *store.Numbered[store.Grant]
	for _, n := range hot.Grants.All() { // no more than the budgets allow: far fewer than there are hosts
		if g := &n.Row; g.Operation == op.ID && g.Host == op.Host && c.lives(g.ExpiresAt, now) && (oldest == nil || n.Seq < oldest.Seq) {
			oldest = n
		}
	}
	if oldest == nil {
		return nil, nil
	}
	return &fleet.Grant{ID: oldest.Row.ID, Life: min(oldest.Row.ExpiresAt.Sub(now), c.cfg.GrantLife)}, nil
}

// kernelOf is the kernel that an operation brings to h. Where the control plane never had its packages, the release
// alone says what to go back to: h ran it, so it fits h.
func kernelOf(r store.Reader, op fleet.Operation, h fleet.Host) (fleet.Kernel, error) {
	k, err := r.Kernel(op.Kernel)
	if errors.Is(err, store.ErrNotFound) {
		return fleet.Kernel{
			ID: op.Kernel, Release: op.Release,
			Family: h.Facts.OS.Family, Arch: h.Facts.Arch, Flavour: h.Facts.Kernel.Flavour,
		}, nil
	}
	return k, err
}
