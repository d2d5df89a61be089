package control

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/grant"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/rollout"
)

// index is what a tick needs of the hot rows besides finding one by its id. It says what the Hot that it is at says, and
// nothing else: follow brings it to any other one, by what differs between the two. So a transaction that failed needs
// no undoing, though decisions were followed as they were written: the way leads on from the Hot that never came to be.
// Its rows are shared: nobody may change them.
type index struct {
	c  *Control
	at *store.Hot // nil: empty, or half way

	hosts  int // not retired
	frozen int
	rows   map[fleet.HostID]*fleet.Host // the Hot's own: one map instead of a walk for each look
	// odd are hosts that may be out of service by what their row says, unheard those that may not have been heard since
	// the start. Who is in them is looked at; who is not, is not out for such a reason.
	odd, unheard map[fleet.HostID]bool
	open         map[fleet.HostID][]*store.Numbered[fleet.Operation] // of each host, oldest first
	rollouts     map[string]*tracked                                 // the open ones
	order        []*tracked                                          // the same, oldest first
	groups       groups
}

// groups are those of the hosts that a tick asked for, by what budgets are grouped by.
type groups struct {
	by    []string
	hosts map[fleet.HostID]grant.Groups
}

// of returns what is known of a host; nil: nothing.
func (g *groups) of(bs []grant.Budget, id fleet.HostID) grant.Groups {
	if !slices.EqualFunc(g.by, bs, func(by string, b grant.Budget) bool { return by == b.By }) {
		g.by = g.by[:0]
		for _, b := range bs {
			g.by = append(g.by, b.By)
		}
		clear(g.hosts)
	}
	return g.hosts[id]
}

// tracked is one rollout with its operations.
type tracked struct {
	n        store.Numbered[store.Rollout]
	r        rollout.Rollout
	checksum string // of its kernel
	ops      map[fleet.HostID]*operations
	open     int // hosts whose newest operation here has not ended
	x        *rollout.Index

	// The approvals of its kernel that count from approvedAt to approvedUntil (zero: for ever), out of approvedOf.
	approved                  map[fleet.HostTypeID]string
	approvedOf                []store.Approval
	approvedAt, approvedUntil time.Time
}

// operations of one rollout on one host, oldest first.
type operations struct {
	seqs []int64
	ops  []fleet.Operation
}

func newIndex(c *Control) *index {
	return &index{
		c: c, rows: map[fleet.HostID]*fleet.Host{}, odd: map[fleet.HostID]bool{}, unheard: map[fleet.HostID]bool{},
		open: map[fleet.HostID][]*store.Numbered[fleet.Operation]{}, rollouts: map[string]*tracked{},
		groups: groups{hosts: map[fleet.HostID]grant.Groups{}},
	}
}

// follow brings x to h.
func (x *index) follow(h *store.Hot) error {
	if x.at == h {
		return nil
	}
	if x.at == nil {
		*x = *newIndex(x.c)
		x.at = &store.Hot{}
	}
	was := x.at
	x.at = nil
	h.Hosts.Since(was.Hosts, x.host)
	if err := x.followRollouts(was, h); err != nil {
		return err
	}
	h.Operations.Since(was.Operations, func(_ fleet.OperationID, was, is *store.Numbered[fleet.Operation]) { x.operation(was, is) })
	x.at = h
	return nil
}

func (x *index) host(id fleet.HostID, was, is *fleet.Host) {
	delete(x.groups.hosts, id)
	if was != nil && was.Status != fleet.StatusRetired {
		x.hosts--
	}
	if was != nil && was.Frozen != "" {
		x.frozen--
	}
	if is != nil && is.Frozen != "" {
		x.frozen++
	}
	if is == nil {
		delete(x.rows, id)
		delete(x.odd, id)
		delete(x.unheard, id)
		return
	}
	x.rows[id] = is
	if is.Status != fleet.StatusRetired {
		x.hosts++
	}
	if !is.Now.InService || is.Frozen != "" || !is.Lineage.ReturnedAt.IsZero() {
		x.odd[id] = true
	} else {
		delete(x.odd, id)
	}
	if was == nil && x.c.lastSeen(id).IsZero() {
		x.unheard[id] = true
	}
}

func (x *index) followRollouts(was, h *store.Hot) (err error) {
	opened := map[string]*tracked{}
	changed := false
	h.Rollouts.Since(was.Rollouts, func(id string, _, is *store.Numbered[store.Rollout]) {
		changed = true
		switch t := x.rollouts[id]; {
		case is == nil:
			delete(x.rollouts, id)
			clear(x.groups.hosts) // it said of which type its hosts are
		case t != nil:
			plan := t.x
			err = errors.Join(err, t.read(*is))
			if t.x != plan {
				clear(x.groups.hosts)
			}
		default:
			clear(x.groups.hosts)
			t, e := track(*is)
			err = errors.Join(err, e)
			x.rollouts[id], opened[id] = t, t
		}
	})
	if !changed || err != nil {
		return err
	}
	x.order = x.order[:0]
	for _, t := range x.rollouts {
		x.order = append(x.order, t)
	}
	slices.SortFunc(x.order, func(a, b *tracked) int { return cmp.Compare(a.n.Seq, b.n.Seq) })
	if len(opened) == 0 {
		return nil
	}
	for _, n := range h.Operations.All() { // some of them may have been here before their rollout
		if t := opened[n.Row.Owner]; t != nil {
			t.put(n.Seq, n.Row)
		}
	}
	return nil
}

// operation follows one that came (was is nil), changed or went (is is nil).
func (x *index) operation(was, is *store.Numbered[fleet.Operation]) {
	if was != nil {
		h := was.Row.Host
		if x.open[h] = slices.DeleteFunc(x.open[h], func(n *store.Numbered[fleet.Operation]) bool { return n.Seq == was.Seq }); len(x.open[h]) == 0 {
			delete(x.open, h)
		}
		if t := x.rollouts[was.Row.Owner]; t != nil && (is == nil || is.Row.Owner != was.Row.Owner || is.Row.Host != h) {
			t.drop(was.Seq, h)
		}
	}
	if is == nil {
		return
	}
	if !is.Row.Phase.Ended() {
		ns := append(x.open[is.Row.Host], is)
		slices.SortFunc(ns, func(a, b *store.Numbered[fleet.Operation]) int { return cmp.Compare(a.Seq, b.Seq) })
		x.open[is.Row.Host] = ns
	}
	if t := x.rollouts[is.Row.Owner]; t != nil {
		t.put(is.Seq, is.Row)
	}
}

// openOn is the newest open operation of a host.
func (x *index) openOn(h fleet.HostID) (fleet.Operation, bool) {
	ns := x.open[h]
	if len(ns) == 0 {
		return fleet.Operation{}, false
	}
	return ns[len(ns)-1].Row, true
}

// plannedType is the type under which the newest open rollout that has a host planned it; empty: none has it.
func (x *index) plannedType(h fleet.HostID) fleet.HostTypeID {
	for _, t := range slices.Backward(x.order) {
		if i, ok := t.x.Has(h); ok {
			return t.r.Plan.Hosts[i].Type
		}
	}
	return ""
}

// track reads a rollout that has no operations yet.
func track(n store.Numbered[store.Rollout]) (*tracked, error) {
	t := &tracked{ops: map[fleet.HostID]*operations{}}
	return t, t.read(n)
}

// read takes in a row. Its spec and plan are decoded only where they are new.
func (t *tracked) read(n store.Numbered[store.Rollout]) error {
	r := rollout.Rollout{ID: rollout.ID(n.Row.ID), Spec: t.r.Spec, Plan: t.r.Plan}
	var errs []error
	replan := t.x == nil || !bytes.Equal(n.Row.Spec, t.n.Row.Spec) || !bytes.Equal(n.Row.Plan, t.n.Row.Plan)
	if replan {
		r.Spec, r.Plan = rollout.Spec{}, rollout.Plan{}
		errs = append(errs, json.Unmarshal(n.Row.Spec, &r.Spec), json.Unmarshal(n.Row.Plan, &r.Plan))
	}
	if err := errors.Join(append(errs, json.Unmarshal(n.Row.State, &r.State))...); err != nil {
		return fmt.Errorf("read rollout %s: %w", n.Row.ID, err)
	}
	t.n, t.r = n, r
	if replan {
		t.checksum, t.approvedOf, t.approved = r.Plan.Kernel.Checksum(), nil, nil
		t.x = rollout.NewIndex(r.Plan)
		for h := range t.ops {
			t.tell(h)
		}
	}
	return nil
}

// put takes in an operation as it is now.
func (t *tracked) put(seq int64, op fleet.Operation) {
	o := t.ops[op.Host]
	if o == nil {
		o = &operations{}
		t.ops[op.Host] = o
	}
	t.open -= o.open()
	if i, there := slices.BinarySearch(o.seqs, seq); there {
		o.ops[i] = op
	} else {
		o.seqs, o.ops = slices.Insert(o.seqs, i, seq), slices.Insert(o.ops, i, op)
	}
	t.open += o.open()
	t.tell(op.Host)
}

// drop forgets one.
func (t *tracked) drop(seq int64, h fleet.HostID) {
	o := t.ops[h]
	if o == nil {
		return
	}
	t.open -= o.open()
	if i, there := slices.BinarySearch(o.seqs, seq); there {
		o.seqs, o.ops = slices.Delete(o.seqs, i, i+1), slices.Delete(o.ops, i, i+1)
	}
	t.open += o.open()
	if len(o.ops) == 0 {
		delete(t.ops, h)
	}
	t.tell(h)
}

// open is 1 if the newest has not ended, else 0.
func (o *operations) open() int {
	if len(o.ops) > 0 && !o.ops[len(o.ops)-1].Phase.Ended() {
		return 1
	}
	return 0
}

// tell keeps the rollout's own index in step.
func (t *tracked) tell(h fleet.HostID) {
	if o := t.ops[h]; o != nil {
		t.x.Put(h, o.ops[len(o.ops)-1])
	} else {
		t.x.Drop(h)
	}
}

// on are the rollout's operations on a host, oldest first.
func (t *tracked) on(h fleet.HostID) []fleet.Operation {
	if o := t.ops[h]; o != nil {
		return o.ops
	}
	return nil
}

// approvals are the types for which its kernel is approved at now, with the evidence. as are all approvals there are.
func (t *tracked) approvals(as []store.Approval, now time.Time) map[fleet.HostTypeID]string {
	same := len(as) == len(t.approvedOf) && (len(as) == 0 || &as[0] == &t.approvedOf[0])
	if same && t.approved != nil && !now.Before(t.approvedAt) && (t.approvedUntil.IsZero() || now.Before(t.approvedUntil)) {
		return t.approved
	}
	t.approvedOf, t.approvedAt = as, now
	t.approved, t.approvedUntil = approvals(as, t.checksum, now)
	return t.approved
}

// approvals lists the types for which a kernel is approved at now, with the evidence, and until when that is all.
func approvals(as []store.Approval, checksum string, now time.Time) (out map[fleet.HostTypeID]string, until time.Time) {
	out = map[fleet.HostTypeID]string{}
	for _, a := range as {
		if a.Checksum != checksum || a.TypeKeyVersion != fleet.TypeKeyVersion || !a.Until.IsZero() && !now.Before(a.Until) {
			continue
		}
		out[a.Type] = fmt.Sprintf("%s (%s, %s)", a.Evidence, a.By, a.At.UTC().Format("2006-01-02"))
		until = sooner(until, a.Until)
	}
	return out, until
}
