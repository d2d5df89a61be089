package sqlite

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
)

func (r *reader) Kernel(id fleet.KernelID) (fleet.Kernel, error) {
	h, err := r.Hot()
	if err != nil {
		return fleet.Kernel{}, err
	}
	k := h.Kernel(id)
	if k == nil {
		return fleet.Kernel{}, fmt.Errorf("kernel %s: %w", id, store.ErrNotFound)
	}
	return *k, nil
}

func (r *reader) Kernels() ([]fleet.Kernel, error) {
	h, err := r.Hot()
	if err != nil {
		return nil, err
	}
	return slices.Clone(h.Kernels), nil
}

func (w *writer) AddKernel(k fleet.Kernel) error {
	h, err := w.Hot()
	if err != nil {
		return err
	}
	if h.Kernel(k.ID) != nil {
		return fmt.Errorf("kernel %s: %w", k.ID, operator.ErrExists)
	}
	read, _, err := write(w, "add kernel "+string(k.ID), k, "INSERT INTO kernel (id, body) VALUES (?, ?)", k.ID)
	if err == nil {
		w.change(func(h *store.Hot) { h.Kernels = append(slices.Clip(h.Kernels), *read) })
	}
	return err
}

// selectRollout joins what changes all the time with what never does and is large.
const selectRollout = `SELECT rollout.seq, rollout.body, rollout_plan.spec, rollout_plan.plan
	FROM rollout LEFT JOIN rollout_plan ON rollout_plan.id = rollout.id `

func (r *reader) rollouts(what, query string, args ...any) (rs []*store.Numbered[store.Rollout], err error) {
	err = r.each(what, func(rows *sql.Rows) error {
		n := &store.Numbered[store.Rollout]{}
		var body sql.RawBytes
		var spec, plan []byte
		if err := rows.Scan(&n.Seq, &body, &spec, &plan); err != nil {
			return err
		}
		if err := json.Unmarshal(body, &n.Row); err != nil {
			return err
		}
		n.Row.Spec, n.Row.Plan = raw(spec), raw(plan)
		rs = append(rs, n)
		return nil
	}, query, args...)
	return rs, err
}

// raw is a column as it was put: nil for none.
func raw(b []byte) json.RawMessage {
	if len(b) == 0 {
		return nil
	}
	return b
}

func (r *reader) Rollout(id string) (store.Rollout, error) {
	h, err := r.Hot()
	if err != nil {
		return store.Rollout{}, err
	}
	if n := h.Rollouts.Get(id); n != nil {
		return n.Row, nil
	}
	rs, err := r.rollouts("rollout "+id, selectRollout+"WHERE rollout.id = ?", id)
	if err != nil {
		return store.Rollout{}, err
	}
	if len(rs) == 0 {
		return store.Rollout{}, fmt.Errorf("rollout %s: %w", id, store.ErrNotFound)
	}
	return rs[0].Row, nil
}

func (r *reader) Rollouts() (rows []store.Rollout, err error) {
	rs, err := r.rollouts("rollouts", selectRollout+"ORDER BY rollout.seq DESC")
	for _, n := range rs {
		rows = append(rows, n.Row)
	}
	return rows, err
}

func (r *reader) OpenRollouts() ([]store.Rollout, error) {
	h, err := r.Hot()
	if err != nil {
		return nil, err
	}
	return store.Sorted(h.Rollouts, nil), nil
}

// PutRollout writes spec and plan only where they are new: they hold every host, and the rest changes all the time.
func (w *writer) PutRollout(r store.Rollout) error {
	h, err := w.Hot()
	if err != nil {
		return err
	}
	was := h.Rollouts.Get(r.ID)
	if was == nil || !bytes.Equal(was.Row.Spec, r.Spec) || !bytes.Equal(was.Row.Plan, r.Plan) {
		if err := w.exec("put plan of rollout "+r.ID,
			"INSERT INTO rollout_plan (id, spec, plan) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET spec = excluded.spec, plan = excluded.plan",
			r.ID, string(r.Spec), string(r.Plan)); err != nil {
			return err
		}
		r.Spec, r.Plan = bytes.Clone(r.Spec), bytes.Clone(r.Plan)
	} else {
		r.Spec, r.Plan = was.Row.Spec, was.Row.Plan
	}
	small := r
	small.Spec, small.Plan = nil, nil
	if err := putNumbered(w, "put rollout "+r.ID, func(h *store.Hot) *store.Table[string, store.Numbered[store.Rollout]] { return &h.Rollouts },
		r.ID, r.Open, small, "SELECT seq FROM rollout WHERE id = ?",
		"INSERT INTO rollout (id, open, body) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET open = excluded.open, body = excluded.body",
		r.ID, r.Open); err != nil {
		return err
	}
	if r.Open {
		w.change(func(h *store.Hot) {
			n := *h.Rollouts.Get(r.ID)
			n.Row.Spec, n.Row.Plan = r.Spec, r.Plan
			h.Rollouts = h.Rollouts.Put(r.ID, &n)
		})
	}
	switch {
	case r.Open && was == nil:
		return w.heat(r.ID)
	case !r.Open && was != nil:
		w.cool(r.ID)
	}
	return nil
}

// heat brings the operations of a rollout that opens to the hot rows.
func (w *writer) heat(rollout string) error {
	ops := w.hot.Operations
	err := each(&w.reader, "operations of "+rollout, func(seq int64, v *fleet.Operation) {
		ops = ops.Put(v.ID, &store.Numbered[fleet.Operation]{Seq: seq, Row: *v})
	}, "SELECT seq, body FROM operation WHERE owner = ?", rollout)
	if err == nil {
		w.change(func(h *store.Hot) { h.Operations = ops })
	}
	return err
}

// cool takes the ended operations of a rollout that closes away from them.
func (w *writer) cool(rollout string) {
	ops := w.hot.Operations
	for id, n := range w.hot.Operations.All() {
		if n.Row.Owner == rollout && n.Row.Phase.Ended() {
			ops = ops.Delete(id)
		}
	}
	w.change(func(h *store.Hot) { h.Operations = ops })
}

func (r *reader) Operation(id fleet.OperationID) (fleet.Operation, error) {
	h, err := r.Hot()
	if err != nil {
		return fleet.Operation{}, err
	}
	if n := h.Operations.Get(id); n != nil {
		return n.Row, nil
	}
	return one[fleet.Operation](r, "operation "+string(id), "SELECT body FROM operation WHERE id = ?", id)
}

func (r *reader) OpenOperations() ([]fleet.Operation, error) {
	h, err := r.Hot()
	if err != nil {
		return nil, err
	}
	return store.Sorted(h.Operations, func(o *fleet.Operation) bool { return !o.Phase.Ended() }), nil
}

func (r *reader) OperationsOn(host fleet.HostID, limit int) ([]fleet.Operation, error) {
	if limit == 1 {
		h, err := r.Hot()
		if err != nil {
			return nil, err
		}
		if n := h.Newest.Get(host); n != nil {
			return []fleet.Operation{n.Row}, nil
		}
		return nil, nil
	}
	return many[fleet.Operation](r, "operations of a host",
		"SELECT body FROM operation WHERE host = ? ORDER BY seq DESC LIMIT ?", host, orAll(limit))
}

func (r *reader) OperationsOf(owner string) ([]fleet.Operation, error) {
	h, err := r.Hot()
	if err != nil {
		return nil, err
	}
	if h.Rollouts.Get(owner) != nil {
		return store.Sorted(h.Operations, func(o *fleet.Operation) bool { return o.Owner == owner }), nil
	}
	return many[fleet.Operation](r, "operations of an owner", "SELECT body FROM operation WHERE owner = ? ORDER BY seq", owner)
}

func (w *writer) PutOperation(o fleet.Operation) error {
	what := "put operation " + string(o.ID)
	h, err := w.Hot()
	if err != nil {
		return err
	}
	seq, host := int64(0), fleet.HostID("") // as it is before; 0: it is not there
	if n := h.Operations.Get(o.ID); n != nil {
		seq, host = n.Seq, n.Row.Host
	} else if _, err := w.scan(what, []any{&seq, &host}, "SELECT seq, host FROM operation WHERE id = ?", o.ID); err != nil {
		return err
	}
	read, res, err := write(w, what, o,
		`INSERT INTO operation (id, host, owner, open, body) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET host = excluded.host, owner = excluded.owner, open = excluded.open, body = excluded.body`,
		o.ID, o.Host, o.Owner, !o.Phase.Ended())
	if err != nil {
		return err
	}
	if seq == 0 {
		if seq, err = res.LastInsertId(); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		host = o.Host
	}
	n := &store.Numbered[fleet.Operation]{Seq: seq, Row: *read}
	w.change(func(h *store.Hot) {
		if !o.Phase.Ended() || h.Rollouts.Get(o.Owner) != nil {
			h.Operations = h.Operations.Put(o.ID, n)
		} else {
			h.Operations = h.Operations.Delete(o.ID)
		}
		if last := h.Newest.Get(o.Host); last == nil || seq >= last.Seq {
			h.Newest = h.Newest.Put(o.Host, n)
		}
	})
	if host != o.Host {
		return w.findNewest(host)
	}
	return nil
}

// findNewest looks for the newest operation of a host that has lost one. No caller moves an operation from host to
// host, but the rows would allow it.
func (w *writer) findNewest(host fleet.HostID) error {
	var newest *store.Numbered[fleet.Operation]
	err := each(&w.reader, "newest operation of a host", func(seq int64, v *fleet.Operation) {
		newest = &store.Numbered[fleet.Operation]{Seq: seq, Row: *v}
	}, "SELECT seq, body FROM operation WHERE host = ? ORDER BY seq DESC LIMIT 1", host)
	if err != nil {
		return err
	}
	w.change(func(h *store.Hot) {
		if newest == nil {
			h.Newest = h.Newest.Delete(host)
		} else {
			h.Newest = h.Newest.Put(host, newest)
		}
	})
	return nil
}

func (r *reader) Grant(id fleet.GrantID) (store.Grant, error) {
	h, err := r.Hot()
	if err != nil {
		return store.Grant{}, err
	}
	if n := h.Grants.Get(id); n != nil {
		return n.Row, nil
	}
	return one[store.Grant](r, "grant "+string(id), "SELECT body FROM grants WHERE id = ?", id)
}

func (r *reader) LiveGrants() ([]store.Grant, error) {
	h, err := r.Hot()
	if err != nil {
		return nil, err
	}
	return store.Sorted(h.Grants, nil), nil
}

func (r *reader) GrantsOf(op fleet.OperationID) ([]store.Grant, error) {
	return many[store.Grant](r, "grants of an operation", "SELECT body FROM grants WHERE operation = ? ORDER BY seq", op)
}

func (w *writer) PutGrant(g store.Grant) error {
	return putNumbered(w, "put grant "+string(g.ID), func(h *store.Hot) *store.Table[fleet.GrantID, store.Numbered[store.Grant]] { return &h.Grants },
		g.ID, g.EndedAt.IsZero(), g, "SELECT seq FROM grants WHERE id = ?",
		`INSERT INTO grants (id, operation, live, body) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET operation = excluded.operation, live = excluded.live, body = excluded.body`,
		g.ID, g.Operation, g.EndedAt.IsZero())
}

// orAll turns "0: all" into SQLite's way of saying it.
func orAll(limit int) int {
	if limit <= 0 {
		return -1
	}
	return limit
}
