package sqlite

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
)

func (r *reader) Approvals(checksum string) (as []store.Approval, err error) {
	h, err := r.Hot()
	if err != nil {
		return nil, err
	}
	for _, a := range h.Approvals {
		if checksum == "" || a.Checksum == checksum {
			as = append(as, a)
		}
	}
	return as, nil
}

func (w *writer) AppendApproval(a store.Approval) (int64, error) {
	a.ID = 0 // it is known only once the row is written
	read, res, err := write(w, "append approval", a, "INSERT INTO approval (checksum, body) VALUES (?, ?)", a.Checksum)
	if err != nil {
		return 0, err
	}
	if read.ID, err = res.LastInsertId(); err != nil {
		return 0, err
	}
	w.change(func(h *store.Hot) { h.Approvals = append(slices.Clip(h.Approvals), *read) })
	return read.ID, nil
}

func (w *writer) WithdrawApproval(id int64, by, why string, at time.Time) error {
	if _, err := w.Hot(); err != nil {
		return err
	}
	found, err := w.scan("approval", []any{new(int64)}, "SELECT id FROM approval WHERE id = ?", id)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("approval %d: %w", id, store.ErrNotFound)
	}
	if err := w.exec("withdraw approval",
		"INSERT INTO withdrawal (approval, who, why, at) SELECT ?, ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM withdrawal WHERE approval = ?)",
		id, by, why, nanos(at), id); err != nil {
		return err
	}
	w.change(func(h *store.Hot) {
		h.Approvals = slices.DeleteFunc(slices.Clone(h.Approvals), func(a store.Approval) bool { return a.ID == id })
	})
	return nil
}

func (r *reader) Incident(id string) (store.Incident, error) {
	return one[store.Incident](r, "incident "+id, "SELECT body FROM incident WHERE id = ?", id)
}

func (r *reader) Incidents(all bool) ([]store.Incident, error) {
	if all {
		return many[store.Incident](r, "incidents", "SELECT body FROM incident ORDER BY seq DESC")
	}
	h, err := r.Hot()
	if err != nil {
		return nil, err
	}
	is := store.Sorted(h.Incidents, nil)
	slices.Reverse(is)
	return is, nil
}

func (w *writer) PutIncident(i store.Incident) error {
	return putNumbered(w, "put incident "+i.ID, func(h *store.Hot) *store.Table[string, store.Numbered[store.Incident]] { return &h.Incidents },
		i.ID, i.ClosedAt.IsZero(), i, "SELECT seq FROM incident WHERE id = ?",
		"INSERT INTO incident (id, open, body) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET open = excluded.open, body = excluded.body",
		i.ID, i.ClosedAt.IsZero())
}

func (r *reader) Events(q store.EventQuery) ([]store.Event, error) {
	where, args := []string{"seq > ?"}, []any{q.After}
	for _, f := range []struct{ column, value string }{
		{"rollout", q.Rollout},
		{"host", string(q.Host)},
		{"operation", string(q.Operation)},
	} {
		if f.value != "" {
			// The second half lets SQLite use the partial index.
			where = append(where, f.column+" = ? AND "+f.column+" <> ''")
			args = append(args, f.value)
		}
	}
	order := "ASC"
	if q.Newest {
		order = "DESC"
	}
	events, err := many[store.Event](r, "events", "SELECT json_set(body, '$.seq', seq) FROM event WHERE "+
		strings.Join(where, " AND ")+" ORDER BY seq "+order+" LIMIT ?", append(args, orAll(q.Limit))...)
	if q.Newest {
		slices.Reverse(events)
	}
	return events, err
}

func (w *writer) AppendEvent(e store.Event) (int64, error) {
	e.Seq = 0
	body, err := encode(e)
	if err != nil {
		return 0, err
	}
	res, err := w.execResult("append event "+e.Kind,
		"INSERT INTO event (rollout, host, operation, body) VALUES (?, ?, ?, ?)", e.Rollout, e.Host, e.Operation, body)
	if err != nil {
		return 0, err
	}
	return res.LastInsertId()
}

func (r *reader) Budgets() ([]store.Budget, error) {
	h, err := r.Hot()
	if err != nil {
		return nil, err
	}
	return slices.Clone(h.Budgets), nil
}

func (w *writer) PutBudget(b store.Budget) error {
	read, _, err := write(w, "put budget "+b.By, b,
		"INSERT INTO budget (by, body) VALUES (?, ?) ON CONFLICT (by) DO UPDATE SET body = excluded.body", b.By)
	if err != nil {
		return err
	}
	w.change(func(h *store.Hot) {
		h.Budgets = append(without(h.Budgets, b.By), *read)
		slices.SortFunc(h.Budgets, func(a, b store.Budget) int { return strings.Compare(a.By, b.By) })
	})
	return nil
}

func (w *writer) DeleteBudget(by string) error {
	if _, err := w.Hot(); err != nil {
		return err
	}
	if err := w.exec("delete budget "+by, "DELETE FROM budget WHERE by = ?", by); err != nil {
		return err
	}
	w.change(func(h *store.Hot) { h.Budgets = without(h.Budgets, by) })
	return nil
}

// without is a copy of bs that lacks one.
func without(bs []store.Budget, by string) []store.Budget {
	return slices.DeleteFunc(slices.Clone(bs), func(b store.Budget) bool { return b.By == by })
}

func (r *reader) IdempotencyKey(scope, key string) (result string, err error) {
	found, err := r.scan("idempotency key", []any{&result}, "SELECT result FROM idempotency WHERE scope = ? AND key = ?", scope, key)
	if err == nil && !found {
		err = fmt.Errorf("idempotency key: %w", store.ErrNotFound)
	}
	return result, err
}

func (w *writer) PutIdempotencyKey(scope, key, result string, at time.Time) error {
	if _, err := w.IdempotencyKey(scope, key); err == nil {
		return fmt.Errorf("idempotency key: %w", operator.ErrExists)
	}
	return w.exec("put idempotency key", "INSERT INTO idempotency (scope, key, result, at) VALUES (?, ?, ?, ?)", scope, key, result, nanos(at))
}

func (w *writer) NextID(kind string) (string, error) {
	n, err := w.count(kind)
	if err != nil {
		return "", err
	}
	branch, err := w.meta(metaBranch)
	if err != nil || branch == "" {
		return fmt.Sprintf("%s-%d", kind, n), err
	}
	return fmt.Sprintf("%s-%d-%s", kind, n, branch), nil
}

func (w *writer) NextOperationID() (fleet.OperationID, error) {
	id, err := w.uniqueID("o")
	return fleet.OperationID(id), err
}

func (w *writer) NextGrantID() (fleet.GrantID, error) {
	id, err := w.uniqueID("g")
	return fleet.GrantID(id), err
}

// uniqueID ends in 32 random bits: the counter keeps ids of one store apart, the bits those of its copies.
func (w *writer) uniqueID(kind string) (string, error) {
	n, err := w.count(kind)
	if err != nil {
		return "", err
	}
	var b [4]byte
	if _, err := io.ReadFull(w.store.opts.Rand, b[:]); err != nil {
		return "", fmt.Errorf("draw an id: %w", err)
	}
	return fmt.Sprintf("%s-%d-%x", kind, n, b), nil
}

func (w *writer) count(kind string) (n int64, err error) {
	if err := w.exec("count "+kind,
		"INSERT INTO counter (kind, last) VALUES (?, 1) ON CONFLICT (kind) DO UPDATE SET last = last + 1", kind); err != nil {
		return 0, err
	}
	_, err = w.scan("counter", []any{&n}, "SELECT last FROM counter WHERE kind = ?", kind)
	return n, err
}
