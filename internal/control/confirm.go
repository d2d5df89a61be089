package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/rollout"
)

// ConfirmReboot answers the last-moment question, in a write transaction of its own: a pause or an abort is either
// before it, and then the answer is no, or after it, and then the host begins its reboot within fleet.ConfirmLife.
func (c *Control) ConfirmReboot(ctx context.Context, host fleet.HostID, id fleet.OperationID, g fleet.GrantID, now time.Time) (fleet.Confirmation, error) {
	answer := fleet.Confirmation{From: c.cfg.From}
	err := c.store.Update(ctx, func(tx store.Tx) error {
		why, err := c.confirm(tx, host, id, g, now)
		if err != nil {
			return err
		}
		answer.Yes, answer.WhyNot = why == "", why
		ev := store.Event{At: now, Who: "control", Kind: "reboot.confirmed", Host: host, Operation: id, What: fmt.Sprintf("%s may reboot now", host)}
		if op, err := tx.Operation(id); err == nil && op.Host == host {
			ev.Rollout = op.Owner
		}
		if why != "" {
			ev.Kind, ev.What, ev.Why = "reboot.refused", fmt.Sprintf("%s may not reboot", host), why
		}
		_, err = tx.AppendEvent(ev)
		return err
	})
	if err != nil {
		return fleet.Confirmation{}, fmt.Errorf("confirm the reboot of %s: %w", host, err)
	}
	// A stop does not wait for the store: one that came while we wrote takes the answer back.
	if why, yes := c.stopped(); yes && answer.Yes {
		answer.Yes, answer.WhyNot = false, "everything is stopped: "+why
	}
	return answer, nil
}

// confirm says why not, or marks operation and grant as confirmed.
func (c *Control) confirm(tx store.Tx, host fleet.HostID, id fleet.OperationID, g fleet.GrantID, now time.Time) (whyNot string, err error) {
	if why, yes := c.stopped(); yes {
		return "everything is stopped: " + why, nil
	}
	op, err := tx.Operation(id)
	if errors.Is(err, store.ErrNotFound) || err == nil && op.Host != host {
		return fmt.Sprintf("there is no operation %s on this host", id), nil
	}
	if err != nil {
		return "", err
	}
	gr, err := tx.Grant(g)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return fmt.Sprintf("there is no grant %s", g), nil
	case err != nil:
		return "", err
	case gr.Operation != id || gr.Host != host:
		return fmt.Sprintf("grant %s is for another operation", g), nil
	case !gr.EndedAt.IsZero():
		return fmt.Sprintf("grant %s has ended: %s", g, gr.EndedWhy), nil
	case !now.Before(gr.ExpiresAt):
		return fmt.Sprintf("grant %s ran out %s ago", g, now.Sub(gr.ExpiresAt).Round(time.Millisecond)), nil
	}
	h, err := tx.Host(host)
	if err != nil {
		return "", err
	}
	if why := c.distrusted(h, now); why != "" {
		return "the host " + why, nil
	}
	o, err := c.loadFor(tx, op, now)
	if err != nil {
		return "", err
	}
	if why := rollout.MayReboot(o, id, host); why != "" {
		return why, nil
	}
	op.ConfirmedAt, gr.ConfirmedAt = now, now
	return "", errors.Join(tx.PutOperation(op), tx.PutGrant(gr))
}

// loadFor is op's rollout with as much of the world as the last moment of one host looks at: many hosts ask in the
// same second, one after another, and each has five of them.
func (c *Control) loadFor(tx store.Tx, op fleet.Operation, now time.Time) (*openRollout, error) {
	row, err := tx.Rollout(op.Owner)
	if err != nil {
		return nil, fmt.Errorf("load rollout %s: %w", op.Owner, err)
	}
	h, err := tx.Host(op.Host)
	if err != nil {
		return nil, fmt.Errorf("load host %s: %w", op.Host, err)
	}
	w := &world{c: c, tx: tx, r: tx, now: now, hosts: map[fleet.HostID]fleet.Host{h.ID: h}}
	if why, yes := c.stopped(); yes {
		w.stopped = why
	}
	o := &openRollout{w: w, row: row, ops: map[fleet.HostID][]fleet.Operation{}}
	o.r.ID = rollout.ID(row.ID)
	if err := o.decode(); err != nil {
		return nil, err
	}
	ops, err := tx.OperationsOn(h.ID, 0)
	if err != nil {
		return nil, fmt.Errorf("load operations on %s: %w", h.ID, err)
	}
	for _, one := range slices.Backward(ops) { // oldest first, as a View has them
		if one.Owner == row.ID {
			o.ops[h.ID] = append(o.ops[h.ID], one)
		}
	}
	return o, nil
}

// trialDeadline is the dead-man's time that an operation's owner asked for. A rollout's spec never changes, and its row
// is large: it is read once.
func (c *Control) trialDeadline(r store.Reader, owner string) (time.Duration, error) {
	c.mu.Lock()
	d, known := c.deadlines[owner]
	c.mu.Unlock()
	if known {
		return d, nil
	}
	row, err := r.Rollout(owner)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil // it was lost in a restore; the host keeps to what it was told
	}
	if err != nil {
		return 0, fmt.Errorf("load rollout %s: %w", owner, err)
	}
	var spec rollout.Spec
	if err := json.Unmarshal(row.Spec, &spec); err != nil {
		return 0, fmt.Errorf("read rollout %s: %w", owner, err)
	}
	c.mu.Lock()
	c.deadlines[owner] = spec.TrialDeadline
	c.mu.Unlock()
	return spec.TrialDeadline, nil
}
