package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
)

// A store that was restored or cloned is older than what the hosts did. Its control plane begins with everything
// stopped and every rollout paused, and asks each host for its journal (adopt.go). Until a host has told it, it counts
// as out of service, whatever it says of itself, and is granted nothing. Told means: in a report that was made after
// the host had obeyed this incarnation; from then on no older control plane can have it leave service.

// SettleMove does what has to be done once when a store begins as restored or cloned, in one transaction: every open
// rollout is paused with the reason, and the record says what happened. Everything must have been stopped before, and
// durably. Where start says that the store did not move, it does nothing.
func SettleMove(ctx context.Context, st store.Store, start store.Start, now time.Time) error {
	if start.Moved == "" {
		return nil
	}
	return st.Update(ctx, func(tx store.Tx) error {
		w := &world{tx: tx, r: tx, now: now}
		if err := w.event(store.Event{Kind: "stop.set", What: "everything is stopped", Why: start.Moved}); err != nil {
			return err
		}
		rows, err := tx.OpenRollouts()
		if err != nil {
			return fmt.Errorf("load rollouts: %w", err)
		}
		for _, row := range rows {
			o := &openRollout{w: w, row: row}
			if err := o.decode(); err != nil {
				return err
			}
			if o.r.State.Outcome != "" {
				continue // it only waits for a host that a person gave up
			}
			why := start.Moved + "; a person must say whether it goes on"
			if o.r.State.Paused != "" {
				why += "; it was paused before: " + o.r.State.Paused
			}
			o.r.State.Paused = why
			if err := errors.Join(o.saveAs(true), w.event(store.Event{Kind: "rollout.paused", Rollout: row.ID, What: "paused " + row.ID, Why: why})); err != nil {
				return err
			}
		}
		return tx.SettleMove()
	})
}

// rebuildView is what a tick knows of a rebuild.
type rebuildView struct {
	store.Rebuild
	waiting []operator.Out // all of them, by id
	hosts   int
}

// rebuilding looks who has not told its journal yet.
func (c *Control) rebuilding(hot *store.Hot, now time.Time) rebuildView {
	v := rebuildView{Rebuild: hot.Rebuild}
	if !v.Open() {
		return v
	}
	for _, h := range hot.Hosts.All() {
		if h.Status != fleet.StatusActive {
			continue
		}
		v.hosts++
		if v.Missing(*h) {
			v.waiting = append(v.waiting, operator.Out{Host: h.ID, Why: c.missingWhy(h, now)})
		}
	}
	slices.SortFunc(v.waiting, func(a, b operator.Out) int {
		if a.Host < b.Host {
			return -1
		}
		return 1
	})
	return v
}

// missingWhy says why nothing is known of a host yet.
func (c *Control) missingWhy(h *fleet.Host, now time.Time) string {
	if h.Revoked {
		return "its certificate is revoked"
	}
	if why := c.distrusted(h, now); why != "" {
		return why
	}
	if c.lastSeen(h.ID).IsZero() {
		return "silent since the restore"
	}
	if u := c.unheard(h.ID, now); !u.IsZero() {
		return "silent since " + u.UTC().Format("2006-01-02 15:04:05Z")
	}
	return "asked for its journal"
}

// show is what operators are told; nil when the state is whole.
func (v rebuildView) show() *operator.Rebuild {
	if !v.Open() {
		return nil
	}
	return &operator.Rebuild{
		Why: v.Why, Since: v.At, Hosts: v.hosts, Reported: v.hosts - len(v.waiting),
		Waiting: v.waiting[:min(len(v.waiting), operator.MaxWaiting)],
	}
}

// sayRebuild keeps it for [Control.Status].
func (c *Control) sayRebuild(v rebuildView) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.rebuild = v.show()
}

// stepRebuild ends the rebuild when nobody is waited for any more.
func (w *world) stepRebuild() error {
	if !w.rebuild.Open() || len(w.rebuild.waiting) > 0 {
		return nil
	}
	w.rebuild.DoneAt = w.now
	w.c.sayRebuild(w.rebuild)
	return errors.Join(w.tx.PutRebuild(w.rebuild.Rebuild), w.event(store.Event{
		Kind: "control.rebuilt", What: fmt.Sprintf("all %d active hosts have told their journals", w.rebuild.hosts),
		Why: "the state is whole again; the stop and the paused rollouts wait for a person",
	}))
}

// missing says that nobody knows what h does; empty: somebody does.
func (w *world) missing(h *fleet.Host) string {
	if w.rebuild.Incarnation == 0 || !w.rebuild.Missing(*h) {
		return ""
	}
	return "has not told its journal since the control plane was restored: " + w.c.missingWhy(h, w.now)
}

// MayLift says why the stop must not be lifted now; nil: it may. A person may do it all the same ([Control.Accept]).
func (c *Control) MayLift(ctx context.Context, now time.Time) error {
	const op = "lift the stop"
	if why := c.Superseded(); why != "" {
		return refused(op, "", errors.New(why), nextSuperseded)
	}
	var v rebuildView
	err := c.store.View(ctx, func(r store.Reader) error {
		hot, err := r.Hot()
		if err == nil {
			v = c.rebuilding(hot, now)
		}
		return err
	})
	if err != nil {
		return err
	}
	if s := v.show(); s != nil && len(v.waiting) > 0 {
		h := v.waiting[0].Host
		return refused(op, "", errors.New(s.String()), fmt.Sprintf(
			"wait for them; decide on one that will not come: kernwave host maintenance %s --why …, or kernwave host retire %s --why …; or lift it with --force: those that are waited for then count as out of service", h, h))
	}
	return nil
}
