package control

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/grant"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/rollout"
)

// stepGrants asks the arbiter over every wish there is, and writes what it decides.
func (w *world) stepGrants() (wake time.Time, err error) {
	v, err := w.stepView()
	if err != nil {
		return time.Time{}, err
	}
	ds, wake := grant.Step(v, w.now)
	for _, d := range ds {
		if err := w.carryOutGrant(d); err != nil {
			return wake, err
		}
	}
	return wake, nil
}

func (w *world) carryOutGrant(d grant.Decision) error {
	switch d := d.(type) {
	case grant.Give:
		id, err := w.tx.NextGrantID()
		if err != nil {
			return fmt.Errorf("draw a grant id: %w", err)
		}
		g := store.Grant{ID: id, Operation: d.Operation, Host: d.Host, GivenAt: w.now, ExpiresAt: d.ExpiresAt}
		w.grants = append(w.grants, g)
		owner, _ := w.x.openOn(d.Host)
		return errors.Join(w.tx.PutGrant(g), w.event(store.Event{
			Kind: "grant.given", Rollout: owner.Owner, Host: d.Host, Operation: d.Operation,
			What: fmt.Sprintf("%s may leave service (%s)", d.Host, id),
		}))
	case grant.Renew:
		for i := range w.grants {
			if w.grants[i].ID == d.Grant {
				w.grants[i].ExpiresAt = d.ExpiresAt
				return w.tx.PutGrant(w.grants[i]) // no event: a renewal decides nothing new
			}
		}
	case grant.End:
		for _, g := range w.grants {
			if g.ID == d.Grant {
				g.EndedAt, g.EndedWhy = w.now, d.Why
				op, err := w.r.Operation(g.Operation)
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					return err
				}
				return errors.Join(w.tx.PutGrant(g), w.event(store.Event{
					Kind: "grant.ended", Rollout: op.Owner, Host: g.Host, Operation: g.Operation,
					What: fmt.Sprintf("%s of %s is over", g.ID, g.Host), Why: d.Why,
				}))
			}
		}
	}
	return nil
}

// grantView gathers every wish, every grant that has not ended, and every host that is out or must be taken for it.
func (w *world) grantView() (grant.View, error) { return w.grantViewFor(true) }

// stepView is grantView for grant.Step alone: as long as nobody waits for a grant, nobody asks who is out.
func (w *world) stepView() (grant.View, error) { return w.grantViewFor(false) }

func (w *world) grantViewFor(all bool) (grant.View, error) {
	v := grant.View{Stopped: w.stopped, Life: w.c.cfg.GrantLife}
	bs, err := budgets(w.r)
	if err != nil {
		return v, err
	}
	for _, b := range bs {
		v.Budgets = append(v.Budgets, grant.Budget{By: b.By, Limit: b.Limit})
	}
	for _, o := range w.rollouts {
		for _, op := range rollout.Wishes(o) {
			v.Requests = append(v.Requests, grant.Request{
				Operation: op.ID, Host: op.Host, Groups: w.groups(v.Budgets, op.Host), Since: op.PhaseSince, Unfit: w.unfit(op.Host),
			})
		}
	}
	granted := map[fleet.HostID]bool{}
	for _, g := range w.grants {
		over, err := w.over(g)
		if err != nil {
			return v, err
		}
		op, open := w.x.openOn(g.Host)
		v.Grants = append(v.Grants, grant.Grant{
			ID: g.ID, Operation: g.Operation, Host: g.Host, ExpiresAt: g.ExpiresAt, Over: over,
			Used: open && op.ID == g.Operation && !op.Phase.BeforeReboot(),
		})
		if over == "" {
			granted[g.Host] = true
			why := "holds a grant"
			if open && op.ID == g.Operation {
				why = "is " + string(op.Phase)
			}
			v.Out = append(v.Out, grant.Out{Host: g.Host, Groups: w.groups(v.Budgets, g.Host), Why: why})
		}
	}
	if !all && !v.Waits() {
		return v, nil
	}
	for id := range w.maybeOut() {
		if granted[id] {
			continue
		}
		if h := w.host(id); h != nil {
			if why := w.out(h); why != "" {
				v.Out = append(v.Out, grant.Out{Host: id, Groups: w.groups(v.Budgets, id), Why: why})
			}
		}
	}
	sortOut(v.Out)
	return v, nil
}

// maybeOut are the hosts that out can say anything of, and perhaps more.
func (w *world) maybeOut() map[fleet.HostID]bool {
	ids := map[fleet.HostID]bool{}
	if w.rebuild.Open() { // any host may be missing
		for id := range w.hot.Hosts.All() {
			ids[id] = true
		}
		return ids
	}
	maps.Copy(ids, w.x.odd)
	for id := range w.x.open {
		if op, _ := w.x.openOn(id); op.Phase != fleet.PhasePlanned && op.Phase != fleet.PhasePreparing && op.Phase != fleet.PhasePrepared {
			ids[id] = true
		}
	}
	w.c.addAbsent(ids, w.x.unheard, w.now)
	return ids
}

// out says why a host counts as out of service for reasons of its own; empty: it does not. Only a person's decision
// (maintenance, retired) takes a host out of the count, never a timeout.
func (w *world) out(h *fleet.Host) string {
	if h.Status != fleet.StatusActive {
		return ""
	}
	if why := w.c.distrusted(h, w.now); why != "" {
		return why
	}
	if why := w.missing(h); why != "" {
		return why
	}
	if why := w.c.elsewhere(h.ID); why != "" {
		return why
	}
	if u := w.c.unheard(h.ID, w.now); !u.IsZero() {
		return w.silentSince(u)
	}
	if !h.Now.InService {
		return "is not in service: " + h.Now.NotInServiceWhy
	}
	// Under a grant it is counted by that. One that left under a grant which this store has forgotten has none.
	switch op, _ := w.x.openOn(h.ID); op.Phase {
	case "", fleet.PhasePlanned, fleet.PhasePreparing, fleet.PhasePrepared:
		return ""
	default:
		return "is " + string(op.Phase)
	}
}

// silentSince says so. After a start that is the same time for all who have not been heard yet.
func (w *world) silentSince(u time.Time) string {
	if w.silent.why == "" || !u.Equal(w.silent.since) {
		w.silent.since, w.silent.why = u, "is silent since "+u.UTC().Format("2006-01-02 15:04:05Z")
	}
	return w.silent.why
}

// unfit is why a host must not be granted anything, whatever the budgets say.
func (w *world) unfit(id fleet.HostID) string {
	h := w.hostOrNone(id)
	switch {
	case h.Status != fleet.StatusActive:
		return "the host is in " + string(h.Status)
	case w.c.unheard(id, w.now) != (time.Time{}):
		return "the host is silent"
	case w.c.distrusted(h, w.now) != "":
		return "the host " + w.c.distrusted(h, w.now)
	case w.missing(h) != "":
		return "the host " + w.missing(h)
	case w.c.elsewhere(id) != "":
		return "the host " + w.c.elsewhere(id)
	case h.Now.Parked != "":
		return "its agent is parked: " + h.Now.Parked
	}
	return ""
}

// over says why a grant is not needed any more; empty: it still is.
func (w *world) over(g store.Grant) (string, error) {
	h := w.hostOrNone(g.Host)
	if h.Status != fleet.StatusActive {
		return fmt.Sprintf("a person has put the host into %s: %s", h.Status, h.StatusWhy), nil
	}
	if w.c.distrusted(h, w.now) != "" {
		return "", nil // nobody knows which of two machines is out of service
	}
	if w.missing(h) != "" || w.c.elsewhere(h.ID) != "" {
		return "", nil // nobody knows what it does
	}
	silent := !w.c.unheard(g.Host, w.now).IsZero()
	if op, ok := w.x.openOn(g.Host); ok && op.ID == g.Operation && !op.Phase.Ended() {
		if op.Phase == fleet.PhasePrepared && h.Now.InService && !silent && w.c.heardAfter(g, w.now) {
			return "ran out before the host left service", nil
		}
		return "", nil
	}
	op, err := w.r.Operation(g.Operation)
	if errors.Is(err, store.ErrNotFound) {
		return "", nil // a damaged store: nobody knows what the host does, so a person has to look
	}
	if err != nil {
		return "", fmt.Errorf("load operation %s of grant %s: %w", g.Operation, g.ID, err)
	}
	if !op.Phase.Ended() || !h.Now.InService || silent {
		return "", nil
	}
	return "in service again, the operation is " + string(op.Phase), nil
}

// groups says to which group of each budget a host belongs. Nobody may change what it returns: the index keeps it for
// the next tick.
func (w *world) groups(bs []grant.Budget, id fleet.HostID) grant.Groups {
	if g := w.x.groups.of(bs, id); g != nil {
		return g
	}
	g := w.findGroups(bs, id)
	w.x.groups.hosts[id] = g
	return g
}

func (w *world) findGroups(bs []grant.Budget, id fleet.HostID) grant.Groups {
	h := w.hostOrNone(id)
	g := make(grant.Groups, len(bs))
	for _, b := range bs {
		if b.By == operator.BudgetByType {
			g[b.By] = string(cmp.Or(w.x.plannedType(id), h.Type.ID))
		} else {
			g[b.By] = h.Facts.Labels[b.By[len(operator.BudgetByLabel):]]
		}
	}
	return g
}

// budgets are those that operators set, and the one that always exists.
func budgets(r store.Reader) ([]store.Budget, error) {
	bs, err := r.Budgets()
	if err != nil {
		return nil, fmt.Errorf("load budgets: %w", err)
	}
	for _, b := range bs {
		if b.By == operator.BudgetByType {
			return bs, nil
		}
	}
	return append([]store.Budget{{By: operator.BudgetByType, Limit: 1}}, bs...), nil
}

func sortOut(os []grant.Out) {
	slices.SortFunc(os, func(a, b grant.Out) int { return cmp.Compare(a.Host, b.Host) })
}
