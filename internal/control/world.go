package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/rollout"
)

// world is what one tick looks at. Decisions change it together with the rows, so that the arbiter sees what the
// rollouts have just decided.
type world struct {
	c       *Control
	tx      store.Tx // nil in a world that only looks
	r       store.Reader
	now     time.Time
	stopped string
	rebuild rebuildView

	hosts    map[fleet.HostID]fleet.Host
	open     map[fleet.HostID]fleet.Operation // the open operation of each host
	rollouts []*openRollout
	grants   []store.Grant
	// planned is the type under which an open rollout planned a host. The budget keeps to it: a new kernel may name a
	// driver anew, and a type that splits in the middle of a wave must not double its budget.
	planned map[fleet.HostID]fleet.HostTypeID
}

// openRollout is one rollout with what its Step looks at. It implements rollout.View.
type openRollout struct {
	w         *world
	row       store.Rollout
	r         rollout.Rollout
	ops       map[fleet.HostID][]fleet.Operation
	approvals map[fleet.HostTypeID]string
}

var _ rollout.View = (*openRollout)(nil)

// load reads what a tick needs. In a look-only world the caller passes a Reader that is no Tx.
func (c *Control) load(r store.Reader, now time.Time) (*world, error) {
	w := &world{c: c, r: r, now: now, hosts: map[fleet.HostID]fleet.Host{}, open: map[fleet.HostID]fleet.Operation{},
		planned: map[fleet.HostID]fleet.HostTypeID{}}
	w.tx, _ = r.(store.Tx)
	if why, yes := c.stopped(); yes {
		w.stopped = why
	}
	hosts, err := r.Hosts()
	if err != nil {
		return nil, fmt.Errorf("load hosts: %w", err)
	}
	c.count(hosts)
	rb, err := r.Rebuild()
	if err != nil {
		return nil, fmt.Errorf("load the rebuild: %w", err)
	}
	w.rebuild = c.rebuilding(rb, hosts, now)
	c.sayRebuild(w.rebuild)
	for _, h := range hosts {
		w.hosts[h.ID] = h
	}
	ops, err := r.OpenOperations()
	if err != nil {
		return nil, fmt.Errorf("load operations: %w", err)
	}
	for _, o := range ops {
		w.open[o.Host] = o
	}
	if w.grants, err = r.LiveGrants(); err != nil {
		return nil, fmt.Errorf("load grants: %w", err)
	}
	rows, err := r.OpenRollouts()
	if err != nil {
		return nil, fmt.Errorf("load rollouts: %w", err)
	}
	for _, row := range rows {
		one, err := w.loadRollout(row)
		if err != nil {
			return nil, err
		}
		w.rollouts = append(w.rollouts, one)
		for _, h := range one.r.Plan.Hosts {
			w.planned[h.ID] = h.Type
		}
	}
	return w, nil
}

// loadRollout reads one rollout's plan, state, operations and approvals.
func (w *world) loadRollout(row store.Rollout) (*openRollout, error) {
	o := &openRollout{w: w, row: row, ops: map[fleet.HostID][]fleet.Operation{}}
	o.r.ID = rollout.ID(row.ID)
	if err := o.decode(); err != nil {
		return nil, err
	}
	ops, err := w.r.OperationsOf(row.ID)
	if err != nil {
		return nil, fmt.Errorf("load operations of rollout %s: %w", row.ID, err)
	}
	for _, op := range ops {
		o.ops[op.Host] = append(o.ops[op.Host], op)
	}
	o.approvals, err = approvals(w.r, o.r.Plan.Kernel, w.now)
	return o, err
}

// decode reads spec, plan and state out of the row.
func (o *openRollout) decode() error {
	if err := errors.Join(json.Unmarshal(o.row.Spec, &o.r.Spec), json.Unmarshal(o.row.Plan, &o.r.Plan), json.Unmarshal(o.row.State, &o.r.State)); err != nil {
		return fmt.Errorf("read rollout %s: %w", o.row.ID, err)
	}
	return nil
}

// approvals lists the types for which k is approved at now, with the evidence.
func approvals(r store.Reader, k fleet.Kernel, now time.Time) (map[fleet.HostTypeID]string, error) {
	as, err := r.Approvals(k.Checksum())
	if err != nil {
		return nil, fmt.Errorf("load approvals of kernel %s: %w", k.ID, err)
	}
	out := map[fleet.HostTypeID]string{}
	for _, a := range as {
		if a.TypeKeyVersion == fleet.TypeKeyVersion && (a.Until.IsZero() || now.Before(a.Until)) {
			out[a.Type] = fmt.Sprintf("%s (%s, %s)", a.Evidence, a.By, a.At.UTC().Format("2006-01-02"))
		}
	}
	return out, nil
}

func (o *openRollout) Rollout() *rollout.Rollout                   { return &o.r }
func (o *openRollout) Stopped() string                             { return o.w.stopped }
func (o *openRollout) Operations(h fleet.HostID) []fleet.Operation { return o.ops[h] }
func (o *openRollout) Approved(t fleet.HostTypeID) (string, bool) {
	e, ok := o.approvals[t]
	return e, ok
}

func (o *openRollout) Host(id fleet.HostID) rollout.HostNow {
	h, ok := o.w.hosts[id]
	if !ok {
		return rollout.HostNow{Status: fleet.StatusRetired}
	}
	now := rollout.HostNow{
		Status: h.Status, Unheard: o.w.c.unheard(id, o.w.now), InService: h.Now.InService,
		NotInServiceWhy: h.Now.NotInServiceWhy, Parked: h.Now.Parked, Release: h.Now.Release,
		Default: h.Facts.Boot.Default, Type: h.Type.ID,
		Distrusted: o.w.c.distrusted(h, o.w.now),
	}
	if op, ok := o.w.open[id]; ok && op.Owner != o.row.ID {
		now.BusyWith = op.Owner
	}
	return now
}

// save writes the rollout's state. It stays open as long as one of its operations is.
func (o *openRollout) save() error { return o.saveAs(o.r.State.Outcome == "" || o.hasOpenOperation()) }

func (o *openRollout) saveAs(open bool) error {
	st := o.r.State
	o.row.Status = st.Status()
	o.row.EndedAt = st.EndedAt
	o.row.Open = open
	o.row.UpdatedAt = o.w.now
	var err error
	if o.row.State, err = json.Marshal(st); err != nil {
		return fmt.Errorf("encode rollout %s: %w", o.row.ID, err)
	}
	return o.w.tx.PutRollout(o.row)
}

func (o *openRollout) hasOpenOperation() bool {
	for _, ops := range o.ops {
		if !ops[len(ops)-1].Phase.Ended() {
			return true
		}
	}
	return false
}

// putOperation writes an operation and keeps the world in step.
func (o *openRollout) putOperation(op fleet.Operation) error {
	if err := o.w.tx.PutOperation(op); err != nil {
		return fmt.Errorf("write operation %s: %w", op.ID, err)
	}
	ops := o.ops[op.Host]
	if n := len(ops); n > 0 && ops[n-1].ID == op.ID {
		ops[n-1] = op
	} else {
		o.ops[op.Host] = append(ops, op)
	}
	o.w.open[op.Host] = op
	return nil
}

// operation returns the newest operation of a host in this rollout.
func (o *openRollout) operation(h fleet.HostID) fleet.Operation {
	ops := o.ops[h]
	return ops[len(ops)-1]
}

// event appends one row to the record.
func (w *world) event(e store.Event) error {
	e.At = w.now
	if e.Who == "" {
		e.Who = "control"
	}
	if _, err := w.tx.AppendEvent(e); err != nil {
		return fmt.Errorf("append event %s: %w", e.Kind, err)
	}
	return nil
}
