package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/kernwave/kernwave/internal/store"
)

// reader implements store.Reader. It lives as long as one transaction, which is why it may keep its context.
type reader struct {
	ctx   context.Context
	store *Store
	tx    *session
	at    stamp      // of the transaction's snapshot
	hot   *store.Hot // nil: not asked for yet
}

// writer implements store.Tx.
type writer struct {
	reader
	wrote bool
}

var (
	_ store.Reader = (*reader)(nil)
	_ store.Tx     = (*writer)(nil)
)

func (w *writer) fault(point string) error {
	if w.store.opts.Fault == nil {
		return nil
	}
	if err := w.store.opts.Fault(point); err != nil {
		return &store.Error{Op: "write the store: " + point, Err: err}
	}
	return nil
}

// exec runs one writing statement.
func (w *writer) exec(what, query string, args ...any) error {
	_, err := w.execResult(what, query, args...)
	return err
}

func (w *writer) execResult(what, query string, args ...any) (sql.Result, error) {
	if err := w.fault(what); err != nil {
		return nil, err
	}
	w.wrote = true
	res, err := w.tx.exec(w.ctx, query, args...)
	if err != nil {
		return nil, &store.Error{Op: "write the store: " + what, Err: err}
	}
	return res, nil
}

// put writes a row whose last column is v as JSON.
func (w *writer) put(what, query string, v any, args ...any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return &store.Error{Op: "write the store: " + what, Err: err}
	}
	return w.exec(what, query, append(args, string(body))...)
}

// scan reads at most one row into dest.
func (r *reader) scan(what string, dest []any, query string, args ...any) (found bool, err error) {
	err = r.each(what, func(rows *sql.Rows) error {
		if found {
			return nil
		}
		found = true
		return rows.Scan(dest...)
	}, query, args...)
	return found && err == nil, err
}

// one reads the body of the row that query finds.
func one[T any](r *reader, what, query string, args ...any) (v T, err error) {
	var body []byte
	found, err := r.scan(what, []any{&body}, query, args...)
	if err != nil {
		return v, err
	}
	if !found {
		return v, fmt.Errorf("%s: %w", what, store.ErrNotFound)
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return v, &store.Error{Op: "read the store: " + what, Err: err}
	}
	return v, nil
}

// many reads the bodies of all rows that query finds, in its order.
func many[T any](r *reader, what, query string, args ...any) (vs []T, err error) {
	err = r.each(what, func(rows *sql.Rows) error {
		var body sql.RawBytes
		if err := rows.Scan(&body); err != nil {
			return err
		}
		var v T
		if err := json.Unmarshal(body, &v); err != nil {
			return err
		}
		vs = append(vs, v)
		return nil
	}, query, args...)
	return vs, err
}

func (r *reader) each(what string, f func(*sql.Rows) error, query string, args ...any) (err error) {
	rows, err := r.tx.query(r.ctx, query, args...)
	if err != nil {
		return &store.Error{Op: "read the store: " + what, Err: err}
	}
	defer rows.Close()
	for rows.Next() {
		if r.ctx.Err() != nil {
			return &store.Error{Op: "read the store: " + what, Err: context.Cause(r.ctx)}
		}
		if err := f(rows); err != nil {
			return &store.Error{Op: "read the store: " + what, Err: err}
		}
	}
	if err := rows.Err(); err != nil {
		return &store.Error{Op: "read the store: " + what, Err: err}
	}
	return nil
}

// nanos is how a time stands in a column: 0 for none.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

func encode(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("write the store: %w", err)
	}
	return string(b), nil
}
