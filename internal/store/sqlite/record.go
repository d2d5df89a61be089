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

func (r *reader) Approvals(checksum string) ([]store.Approval, error) {
	// json_set because an approval's id is known only once it is written.
	q := `SELECT json_set(body, '$.id', id) FROM approval
		WHERE NOT EXISTS (SELECT 1 FROM withdrawal WHERE withdrawal.approval = approval.id)`
	var args []any
	if checksum != "" {
		q += " AND checksum = ?"
		args = append(args, checksum)
	}
	return many[store.Approval](r, "approvals", q+" ORDER BY id", args...)
}

func (w *writer) AppendApproval(a store.Approval) (int64, error) {
	a.ID = 0
	body, err := encode(a)
	if err != nil {
		return 0, err
	}
	res, err := w.execResult("append approval", "INSERT INTO approval (checksum, body) VALUES (?, ?)", a.Checksum, body)
	if err != nil {
		return 0, err
	}
	return res.LastInsertId()
}

func (w *writer) WithdrawApproval(id int64, by, why string, at time.Time) error {
	found, err := w.scan("approval", []any{new(int64)}, "SELECT id FROM approval WHERE id = ?", id)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("approval %d: %w", id, store.ErrNotFound)
	}
	return w.exec("withdraw approval",
		"INSERT INTO withdrawal (approval, who, why, at) SELECT ?, ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM withdrawal WHERE approval = ?)",
		id, by, why, nanos(at), id)
}

func (r *reader) Incident(id string) (store.Incident, error) {
	return one[store.Incident](r, "incident "+id, "SELECT body FROM incident WHERE id = ?", id)
}

func (r *reader) Incidents(all bool) ([]store.Incident, error) {
	q := "SELECT body FROM incident WHERE open = 1 ORDER BY seq DESC"
	if all {
		q = "SELECT body FROM incident ORDER BY seq DESC"
	}
	return many[store.Incident](r, "incidents", q)
}

func (w *writer) PutIncident(i store.Incident) error {
	return w.put("put incident "+i.ID,
		"INSERT INTO incident (id, open, body) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET open = excluded.open, body = excluded.body",
		i, i.ID, i.ClosedAt.IsZero())
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
	return many[store.Budget](r, "budgets", "SELECT body FROM budget ORDER BY by")
}

func (w *writer) PutBudget(b store.Budget) error {
	return w.put("put budget "+b.By,
		"INSERT INTO budget (by, body) VALUES (?, ?) ON CONFLICT (by) DO UPDATE SET body = excluded.body", b, b.By)
}

func (w *writer) DeleteBudget(by string) error {
	return w.exec("delete budget "+by, "DELETE FROM budget WHERE by = ?", by)
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
	return fmt.Sprintf("%s-%d", kind, n), err
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
	if _, err := io.ReadFull(w.opts.Rand, b[:]); err != nil {
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
