package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
)

// A host that was left and came back is under suspicion for as long as a host may be silent: if there are two, the
// other one is heard within that time. Until then nothing is begun on either, and nothing that they say is written.
func suspect(h *fleet.Host, silentAfter time.Duration, now time.Time) bool {
	at := h.Lineage.ReturnedAt
	return !at.IsZero() && now.Sub(at) < silentAfter && at.Sub(now) < silentAfter
}

// distrusted is why nothing may be granted to a host whose identity is in doubt; empty: it is not.
func (c *Control) distrusted(h *fleet.Host, now time.Time) string {
	switch {
	case h.Frozen != "":
		return "is frozen: " + h.Frozen
	case suspect(h, c.cfg.SilentAfter, now):
		return "was heard from two boots in turn, and it is not known yet whether it is two machines"
	}
	return ""
}

// trace takes the report into the host's lineage, and says whether that put the host in doubt.
func (ch *change) trace(h *fleet.Host, rep fleet.Report, t turn, now time.Time) (doubt bool) {
	facts := rep.Facts
	if facts == nil && rep.FactsHash != "" && rep.FactsHash == h.FactsHash {
		facts = &h.Facts
	}
	if facts != nil && h.Copied != "" && facts.MachineID != "" && strings.Contains(h.Copied, "this is "+fleet.MachineName(facts.MachineID, facts.Hardware.Serial)) {
		h.Copied, ch.hostNew = "", true // it was a move: a person said so on that machine
	}
	s := follow(h.Lineage, t.answer.line, t.left, rep, facts, now)
	if !s.changed {
		return false
	}
	h.Lineage, ch.hostNew = s.lineage, true
	ev := store.Event{Who: "host " + string(h.ID), Host: h.ID}
	switch {
	case s.cloned != "":
		h.Frozen, h.FrozenAt = s.cloned, now
	case s.returned != "":
		ev.Kind, ev.What = "host.returned", s.returned
		ev.Why = "a second machine with a copy of its certificate, or a virtual machine that was put back; nothing is granted until that is known"
	case s.putBack != "":
		ev.Kind, ev.What = "host.put-back", s.putBack
		ev.Why = "a virtual machine's memory was restored, or a second one runs from the same snapshot"
	}
	if ev.Kind != "" {
		ch.events = append(ch.events, ev)
	}
	return s.returned != ""
}

// distrust stops what can be stopped on a host that has just become two.
func (ch *change) distrust(r store.Reader, h fleet.Host, now time.Time) error {
	ops, err := r.OperationsOn(h.ID, 1)
	if err != nil {
		return err
	}
	if len(ops) == 1 && !ops[0].Phase.Ended() {
		op := ops[0]
		ch.op = &op
	}
	if h.Frozen == "" {
		return nil
	}
	ch.events = append(ch.events, store.Event{
		Who: "control", Kind: "host.frozen", Host: h.ID,
		What: fmt.Sprintf("%s is frozen: no grant, no confirmation, no new operation", h.ID), Why: h.Frozen,
	})
	in := store.Incident{
		At: now, Type: h.Type.ID, Hosts: []fleet.HostID{h.ID}, Saw: fmt.Sprintf("%s: %s", h.ID, h.Frozen),
		Expected: "one machine under one certificate", Evidence: evidence(h.Lineage),
		Choices: []store.Choice{
			{
				What:    "make the copy a host of its own: create a token, and on the copy enrol it under another name, with a new key",
				Command: fmt.Sprintf("kernwave token create, then on the copy: kernwave-agent enrol --anew --name %s-copy", h.ID),
			},
			{
				What:    "or enrol the right machine anew under this name, which locks the other one out",
				Command: "kernwave token create, then on the right machine: kernwave-agent enrol --anew",
			},
			{What: "or, if the other machine is gone for good", Command: fmt.Sprintf("kernwave host unfreeze %s --why …", h.ID)},
		},
	}
	if op := ch.op; op != nil {
		in.Rollout, in.Kernel = op.Owner, op.Kernel
		known := op.Problem != nil
		op.Problem = &fleet.Problem{
			Cause: fleet.CauseClone, What: h.Frozen, Expected: "one machine under one certificate",
			Evidence: evidence(h.Lineage), Next: unfreezeNext(h.ID),
		}
		ch.opNew = true
		if !known {
			return nil // the rollout that owns it makes an incident of it
		}
	}
	ch.incident = &in
	return nil
}

// unfreezeNext is what a person does about a frozen host.
func unfreezeNext(h fleet.HostID) string {
	return fmt.Sprintf("find the copy (kernwave host show %s names the boots), create a token, and on the copy: kernwave-agent enrol --anew --name NEW-NAME; if it is gone for good: kernwave host unfreeze %s --why …", h, h)
}

func evidence(l fleet.Lineage) string {
	s := ""
	for _, one := range l.Lines {
		s += fmt.Sprintf("%s since %s (boot %s)\n", describe(one), one.Since.UTC().Format("2006-01-02 15:04:05Z"), one.BootID)
	}
	return s
}

// frozen takes from a frozen host only that its operation went on, as when it was called off: which of the two
// machines says so, nobody knows.
func (ch *change) frozen(r store.Reader, h fleet.Host, rep fleet.Report, now time.Time) error {
	ch.host = h
	ops, err := r.OperationsOn(h.ID, 1)
	if err != nil || len(ops) == 0 || ops[0].Phase.Ended() {
		return err
	}
	op := ops[0]
	ch.op = &op
	if o := rep.Operation; o != nil && o.ID == op.ID && op.Phase != o.Phase && op.Phase.CanBecome(o.Phase) {
		ch.opNew = observe(&op, rep, now)
	}
	return nil
}

// callOff tells a frozen host to cancel the operation that it says it has; a machine that has none must not begin it.
func callOff(op *fleet.Operation, rep fleet.Report, h fleet.Host) *fleet.DesiredOperation {
	o := rep.Operation
	if op == nil || o == nil || o.ID != op.ID || o.Phase.Ended() {
		return nil
	}
	d := &fleet.DesiredOperation{ID: o.ID, Kind: o.Kind, Kernel: fleet.Kernel{ID: o.Kernel, Release: o.Release}}
	if o.Phase.BeforeReboot() || o.Phase == fleet.PhaseRebooting {
		d.Word, d.WordWhy = fleet.WordCancel, "the host "+h.Frozen
	}
	return d
}

// openIncident writes the incident of a host that was frozen outside of any operation.
func (ch change) openIncident(tx store.Tx, now time.Time) error {
	if ch.incident == nil {
		return nil
	}
	id, err := tx.NextID("i")
	if err != nil {
		return fmt.Errorf("draw an incident id: %w", err)
	}
	in := *ch.incident
	in.ID = id
	_, err = tx.AppendEvent(store.Event{
		At: now, Who: "control", Kind: "incident.opened", Host: ch.host.ID,
		Rollout: in.Rollout, What: fmt.Sprintf("%s: %s", id, in.Saw), Why: in.Expected,
	})
	return errors.Join(err, tx.PutIncident(in))
}

// UnfreezeHost records a person's word that only one machine uses the host's certificate now. If it was wrong, the
// two are noticed again.
func (c *Control) UnfreezeHost(ctx context.Context, who string, id fleet.HostID, why string, now time.Time) (operator.Host, error) {
	const op = "unfreeze the host"
	err := c.store.Update(ctx, func(tx store.Tx) error {
		h, err := tx.Host(id)
		if err != nil {
			return err
		}
		if h.Frozen == "" && h.Copied == "" {
			return refused(op, id, errors.New("the host is not frozen"), fmt.Sprintf("see what holds it: kernwave why %s", id))
		}
		return c.Unfreeze(tx, &h, who, why, now)
	})
	if err != nil {
		return operator.Host{}, err
	}
	c.Poke()
	h, _, err := c.Host(ctx, id, now)
	return h, err
}

// Unfreeze ends a host's freeze, with its event, and closes its incidents. Its operations are left as they are: whose
// they were nobody knows, so a person decides about them.
func (c *Control) Unfreeze(tx store.Tx, h *fleet.Host, who, why string, now time.Time) error {
	was := h.Frozen
	if was == "" {
		was = h.Copied
	}
	h.Frozen, h.FrozenAt, h.Copied, h.Lineage = "", time.Time{}, "", fleet.Lineage{}
	is, err := tx.Incidents(false)
	if err != nil {
		return fmt.Errorf("load incidents: %w", err)
	}
	for _, in := range is {
		if !slices.Contains(in.Hosts, h.ID) || !strings.Contains(in.Saw, was) {
			continue
		}
		in.ClosedAt, in.ClosedWhy = now, who+" unfroze the host: "+why
		if err := tx.PutIncident(in); err != nil {
			return fmt.Errorf("close incident %s: %w", in.ID, err)
		}
	}
	_, err = tx.AppendEvent(store.Event{
		At: now, Who: who, Kind: "host.unfrozen", Host: h.ID,
		What: fmt.Sprintf("%s is one machine again", h.ID), Why: why,
	})
	return errors.Join(err, tx.PutHost(*h))
}

// keepAway takes note of a machine that found another host's state on its disk, and lets it do nothing. It is no sign of
// life of the host.
func (c *Control) keepAway(ctx context.Context, rep fleet.Report, now time.Time) (fleet.Desired, error) {
	said := false
	err := c.store.View(ctx, func(r store.Reader) error {
		h, err := r.Host(rep.Host)
		said = h.Copied == rep.Copied
		return err
	})
	if err == nil && !said {
		err = c.store.Update(ctx, func(tx store.Tx) error {
			h, err := tx.Host(rep.Host)
			if err != nil {
				return err
			}
			h.Copied = rep.Copied
			_, err = tx.AppendEvent(store.Event{
				At: now, Who: "host " + string(h.ID), Kind: "host.copied", Host: h.ID,
				What: fmt.Sprintf("a machine with a copy of the state of %s keeps away", h.ID), Why: rep.Copied,
			})
			return errors.Join(err, tx.PutHost(h))
		})
	}
	if err != nil {
		return fleet.Desired{}, fmt.Errorf("check-in of a copy of %s: %w", rep.Host, err)
	}
	return fleet.Desired{From: c.cfg.From, ServerTime: now, CheckInAfter: c.cfg.IdlePace, Again: true}, nil
}

// copiedNext is what a person does about a host whose state was found on another machine.
func copiedNext(h fleet.HostID) string {
	return fmt.Sprintf("if it is a copy: on it, kernwave-agent enrol --anew --name NEW-NAME with a new token; if the disk of %s was moved or its hardware replaced: on it, kernwave-agent enrol --moved", h)
}
