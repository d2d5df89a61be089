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

// Hosts lists the hosts that selector chooses, by id.
func (c *Control) Hosts(ctx context.Context, selector string, now time.Time) ([]operator.Host, error) {
	sel, err := fleet.ParseSelector(selector)
	if err != nil {
		return nil, invalid("list hosts", err, "write it like workload=web,rack!=r1")
	}
	var out []operator.Host
	err = c.store.View(ctx, func(r store.Reader) error {
		hs, err := r.Hosts()
		if err != nil {
			return err
		}
		saved, err := r.LastSeen()
		if err != nil {
			return err
		}
		ops, err := r.OpenOperations()
		if err != nil {
			return err
		}
		open := map[fleet.HostID]fleet.Operation{}
		for _, o := range ops {
			open[o.Host] = o
		}
		for _, h := range hs {
			if sel.Matches(h) {
				out = append(out, c.see(h, saved, open, now))
			}
		}
		return nil
	})
	return out, err
}

// see adds to a host what is known of it at now.
func (c *Control) see(h fleet.Host, saved map[fleet.HostID]time.Time, open map[fleet.HostID]fleet.Operation, now time.Time) operator.Host {
	one := operator.Host{Host: h, LastSeen: c.lastSeen(h.ID)}
	if one.LastSeen.IsZero() {
		one.LastSeen = saved[h.ID]
	}
	one.Silent = h.Status != fleet.StatusRetired && !c.unheard(h.ID, now).IsZero()
	if op, ok := open[h.ID]; ok {
		one.Operation = &op
	}
	return one
}

// maxOperations is how many of a host's operations its page shows.
const maxOperations = 50

// Host returns one host and its newest operations.
func (c *Control) Host(ctx context.Context, id fleet.HostID, now time.Time) (operator.Host, []fleet.Operation, error) {
	var one operator.Host
	var ops []fleet.Operation
	err := c.store.View(ctx, func(r store.Reader) error {
		h, err := r.Host(id)
		if err != nil {
			return err
		}
		saved, err := r.LastSeen()
		if err != nil {
			return err
		}
		if ops, err = r.OperationsOn(id, maxOperations); err != nil {
			return err
		}
		open := map[fleet.HostID]fleet.Operation{}
		if len(ops) > 0 && !ops[0].Phase.Ended() {
			open[id] = ops[0]
		}
		one = c.see(h, saved, open, now)
		return nil
	})
	return one, ops, err
}

// SetHostStatus puts a host into maintenance, takes it back, or retires it. A retired host does not come back.
func (c *Control) SetHostStatus(ctx context.Context, who string, id fleet.HostID, s fleet.Status, why string, now time.Time) (operator.Host, error) {
	op := fmt.Sprintf("set host status to %s", s)
	err := c.store.Update(ctx, func(tx store.Tx) error {
		h, err := tx.Host(id)
		if err != nil {
			return err
		}
		switch s {
		case fleet.StatusActive, fleet.StatusMaintenance, fleet.StatusRetired:
		default:
			return invalid(op, fmt.Errorf("there is no status %q", s), "use active, maintenance or retired")
		}
		if h.Status == fleet.StatusRetired && s != fleet.StatusRetired {
			return refused(op, id, fmt.Errorf("the host is retired (%s)", h.StatusWhy), "enrol it again with a new token")
		}
		if h.Status == s {
			return nil // said already
		}
		before := h.Status
		h.Status, h.StatusWhy = s, who+": "+why
		if s == fleet.StatusActive {
			h.StatusWhy = ""
		}
		if err := tx.PutHost(h); err != nil {
			return err
		}
		_, err = tx.AppendEvent(store.Event{
			At: now, Who: who, Kind: "host." + string(s), Host: id,
			What: fmt.Sprintf("%s is %s, it was %s", id, s, before), Why: why,
		})
		return err
	})
	if err != nil {
		return operator.Host{}, err
	}
	c.Poke()
	h, _, err := c.Host(ctx, id, now)
	return h, err
}

// WhyHost says in one sentence why a host is not updated.
func (c *Control) WhyHost(ctx context.Context, id fleet.HostID, now time.Time) (operator.Why, error) {
	why := operator.Why{Host: id}
	err := c.store.View(ctx, func(r store.Reader) error {
		h, err := r.Host(id)
		if err != nil {
			return err
		}
		w, giveBack, err := c.borrow(r, now)
		if err != nil {
			return err
		}
		defer giveBack()
		why.Why, why.Next, err = w.why(h)
		return err
	})
	return why, err
}

// why asks the rollout that has the host, or says why none has.
func (w *world) why(h fleet.Host) (why, next string, err error) {
	switch h.Status {
	case fleet.StatusRetired:
		return "it is retired: " + h.StatusWhy, "", nil
	case fleet.StatusMaintenance:
		return "it is in maintenance: " + h.StatusWhy, fmt.Sprintf("when it may take part again: kernwave host activate %s", h.ID), nil
	}
	if h.Revoked {
		return "its certificate is revoked, so it cannot check in", "enrol it again with a new token", nil
	}
	if h.FactsHash == "" {
		return "it was enrolled and has never checked in", "see kernwave-agent doctor on the host", nil
	}
	if h.Frozen != "" {
		return "it is frozen: " + h.Frozen, unfreezeNext(h.ID), nil
	}
	if why := w.missing(&h); why != "" {
		why = "it " + why + "; until then it counts as out of service"
		if s := w.rebuild.show(); s != nil {
			why += "; " + s.String()
		}
		return why, fmt.Sprintf("look at the host; if it will not come: kernwave host maintenance %s --why …", h.ID), nil
	}
	if why := w.c.elsewhere(h.ID); why != "" {
		return "it " + why + " and refuses this one", nextSuperseded, nil
	}
	v, err := w.grantView()
	if err != nil {
		return "", "", err
	}
	var last rollout.Reason
	for _, o := range w.rollouts {
		r := rollout.Explain(o, h.ID, w.now, func(op fleet.OperationID) string { return grant.Explain(v, op) })
		if o.has(h.ID) {
			return fmt.Sprintf("%s in rollout %s", r.Why, o.row.ID), r.Next, nil
		}
		last = r
	}
	if last.Why != "" {
		return last.Why, last.Next, nil
	}
	if h.Copied != "" && !w.c.unheard(h.ID, w.now).IsZero() {
		return "it is silent, but another machine has its state: " + h.Copied, copiedNext(h.ID), nil
	}
	if u := w.c.unheard(h.ID, w.now); !u.IsZero() {
		return "no rollout is open, and it is silent since " + u.UTC().Format("2006-01-02 15:04:05Z"), "look at the host's console", nil
	}
	return fmt.Sprintf("no rollout is open; it runs %s", h.Now.Release), "kernwave rollout plan KERNEL", nil
}

func (o *openRollout) has(id fleet.HostID) bool {
	for _, h := range o.r.Plan.Hosts {
		if h.ID == id {
			return true
		}
	}
	return false
}
