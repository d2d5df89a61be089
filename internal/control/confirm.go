package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
		now := c.later(now)
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
	case now.Before(gr.ExpiresAt) && !c.lives(gr.ExpiresAt, now):
		return fmt.Sprintf("grant %s was given by a clock that has been set back since", g), nil
	case !now.Before(gr.ExpiresAt):
		return fmt.Sprintf("grant %s ran out %s ago", g, now.Sub(gr.ExpiresAt).Round(time.Millisecond)), nil
	}
	h, err := tx.Host(host)
	if err != nil {
		return "", err
	}
	if why := c.distrusted(&h, now); why != "" {
		return "the host " + why, nil
	}
	w, giveBack, err := c.borrow(tx, now)
	if err != nil {
		return "", err
	}
	defer giveBack()
	row, err := tx.Rollout(op.Owner)
	if err != nil {
		return "", fmt.Errorf("load rollout %s: %w", op.Owner, err)
	}
	o, err := w.loadRollout(row)
	if err != nil {
		return "", err
	}
	ask := rollout.MayReboot
	if op.Phase == fleet.PhaseRebooting && op.NotGone(h.Now.BootID) {
		ask = rollout.MayRebootAgain
	}
	if why := ask(o, id, host); why != "" {
		return why, nil
	}
	op.ConfirmedAt, gr.ConfirmedAt = now, now
	return "", errors.Join(tx.PutOperation(op), tx.PutGrant(gr))
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
