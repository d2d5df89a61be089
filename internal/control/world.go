package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/rollout"
)

// world is what one tick looks at. Decisions change the rows, and it follows them, so that the arbiter sees what the
// rollouts have just decided.
type world struct {
	c       *Control
	tx      store.Tx // nil in a world that only looks
	r       store.Reader
	now     time.Time
	stopped string
	rebuild rebuildView

	hot      *store.Hot
	x        *index // nil in a world that only writes
	rollouts []*openRollout
	grants   []store.Grant
	silent   struct { // the newest answer of silentSince
		since time.Time
		why   string
	}
}

// openRollout is one rollout with what its Step looks at. It implements rollout.View.
type openRollout struct {
	w    *world
	row  store.Rollout
	r    rollout.Rollout // State is the index's until own
	t    *tracked
	mine bool
}

var _ rollout.Indexed = (*openRollout)(nil)

// load reads what a tick needs, from scratch. In a look-only world the caller passes a Reader that is no Tx.
func (c *Control) load(r store.Reader, now time.Time) (*world, error) {
	return c.loadWith(newIndex(c), r, now)
}

// borrow is load with the index of the tick before, for what happens all the time. The caller gives it back when the
// world is not looked at any more. Where somebody else has it, this one is from scratch: slower, and the same.
func (c *Control) borrow(r store.Reader, now time.Time) (w *world, giveBack func(), err error) {
	x, giveBack := newIndex(c), func() {}
	if c.shared.TryLock() {
		x, giveBack = c.index, c.shared.Unlock
	}
	if w, err = c.loadWith(x, r, now); err != nil {
		giveBack()
		return nil, nil, err
	}
	return w, giveBack, nil
}

func (c *Control) loadWith(x *index, r store.Reader, now time.Time) (*world, error) {
	hot, err := r.Hot()
	if err != nil {
		return nil, fmt.Errorf("load the state: %w", err)
	}
	if err := x.follow(hot); err != nil {
		return nil, err
	}
	w := &world{c: c, r: r, now: now, hot: hot, x: x}
	w.tx, _ = r.(store.Tx)
	if why, yes := c.stopped(); yes {
		w.stopped = why
	}
	c.count(x.hosts, x.frozen)
	w.rebuild = c.rebuilding(hot, now)
	c.sayRebuild(w.rebuild)
	w.grants = store.Sorted(hot.Grants, nil)
	for _, t := range x.order {
		w.rollouts = append(w.rollouts, w.openRollout(t))
	}
	return w, nil
}

func (w *world) openRollout(t *tracked) *openRollout {
	return &openRollout{w: w, row: t.n.Row, r: t.r, t: t}
}

// sync follows what this transaction has just written.
func (w *world) sync() error {
	if w.x == nil {
		return nil
	}
	hot, err := w.tx.Hot()
	if err != nil {
		return err
	}
	if err := w.x.follow(hot); err != nil {
		return err
	}
	w.hot = hot
	for _, o := range w.rollouts { // one that was just opened has its place in the index now
		if t := w.x.rollouts[o.row.ID]; t != nil {
			o.t = t
		}
	}
	return nil
}

// host returns a host as it is now, which nobody may change; nil: there is none.
func (w *world) host(id fleet.HostID) *fleet.Host {
	if w.x != nil && w.x.at == w.hot {
		return w.x.rows[id]
	}
	return w.hot.Hosts.Get(id)
}

// hostOrNone is host, or the zero Host where there is none.
func (w *world) hostOrNone(id fleet.HostID) *fleet.Host {
	if h := w.host(id); h != nil {
		return h
	}
	return &fleet.Host{}
}

// loadRollout reads one rollout's plan, state, operations and approvals, open or not.
func (w *world) loadRollout(row store.Rollout) (*openRollout, error) {
	if t := w.x.rollouts[row.ID]; t != nil {
		return w.openRollout(t), nil
	}
	t, err := track(store.Numbered[store.Rollout]{Row: row})
	if err != nil {
		return nil, err
	}
	ops, err := w.r.OperationsOf(row.ID)
	if err != nil {
		return nil, fmt.Errorf("load operations of rollout %s: %w", row.ID, err)
	}
	for i, op := range ops {
		t.put(int64(i), op)
	}
	return w.openRollout(t), nil
}

// own gives o a state that it may change: the index's says what the row says.
func (o *openRollout) own() {
	if o.mine {
		return
	}
	o.mine = true
	st := &o.r.State
	st.Stages = slices.Clone(st.Stages)
	st.LeftOut, st.Skipped = maps.Clone(st.LeftOut), maps.Clone(st.Skipped)
	st.Held, st.Settled = maps.Clone(st.Held), maps.Clone(st.Settled)
}

// decode reads spec, plan and state out of the row.
func (o *openRollout) decode() error {
	if err := errors.Join(json.Unmarshal(o.row.Spec, &o.r.Spec), json.Unmarshal(o.row.Plan, &o.r.Plan), json.Unmarshal(o.row.State, &o.r.State)); err != nil {
		return fmt.Errorf("read rollout %s: %w", o.row.ID, err)
	}
	return nil
}

func (o *openRollout) Rollout() *rollout.Rollout                   { return &o.r }
func (o *openRollout) Index() *rollout.Index                       { return o.t.x }
func (o *openRollout) Stopped() string                             { return o.w.stopped }
func (o *openRollout) Operations(h fleet.HostID) []fleet.Operation { return o.t.on(h) }
func (o *openRollout) Approved(t fleet.HostTypeID) (string, bool) {
	e, ok := o.t.approvals(o.w.hot.Approvals, o.w.now)[t]
	return e, ok
}

func (o *openRollout) Status(id fleet.HostID) fleet.Status {
	if h := o.w.host(id); h != nil {
		return h.Status
	}
	return fleet.StatusRetired
}

func (o *openRollout) Unheard(id fleet.HostID) time.Time {
	if o.w.host(id) == nil {
		return time.Time{}
	}
	return o.w.c.unheard(id, o.w.now)
}

func (o *openRollout) Host(id fleet.HostID) rollout.HostNow {
	h := o.w.host(id)
	if h == nil {
		return rollout.HostNow{Status: fleet.StatusRetired}
	}
	now := rollout.HostNow{
		Status: h.Status, Unheard: o.w.c.unheard(id, o.w.now), InService: h.Now.InService,
		NotInServiceWhy: h.Now.NotInServiceWhy, Parked: h.Now.Parked, Release: h.Now.Release,
		Default: h.Facts.Boot.Default, Type: h.Type.ID,
		Distrusted: o.w.c.distrusted(h, o.w.now),
	}
	if op, ok := o.w.x.openOn(id); ok && op.Owner != o.row.ID {
		now.BusyWith = op.Owner
	}
	return now
}

// reopens says whether the row says wrongly whether the rollout is open.
func (o *openRollout) reopens() bool {
	return o.row.Open != (o.r.State.Outcome == "" || o.hasOpenOperation())
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
	if err := o.w.tx.PutRollout(o.row); err != nil {
		return err
	}
	return o.w.sync()
}

func (o *openRollout) hasOpenOperation() bool { return o.t.open > 0 }

// putOperation writes an operation and keeps the world in step.
func (o *openRollout) putOperation(op fleet.Operation) error {
	if err := o.w.tx.PutOperation(op); err != nil {
		return fmt.Errorf("write operation %s: %w", op.ID, err)
	}
	return o.w.sync()
}

// operation returns the newest operation of a host in this rollout.
func (o *openRollout) operation(h fleet.HostID) fleet.Operation {
	ops := o.t.on(h)
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
