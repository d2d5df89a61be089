package sqlite

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/store"
)

// The hot rows are kept decoded, and every question about them is answered from there. One rule makes that safe:
//
//	A store.Hot is used only in a transaction whose own snapshot of the database carries the same stamp.
//
// The stamp is a row: the epoch, and the number of transactions that wrote anything. Each transaction that writes
// raises the number as it commits, and each Begin changes the epoch, so no two states of a database have one stamp.
// What failed, was rolled back, or was committed without anybody knowing, and what another process wrote, needs no
// handling: its stamp does not match, and the rows are read again.
//
// Fresh goes without a transaction where the newest stamp is known all the same; see Peers.

// stamp names one state of the database.
type stamp struct {
	epoch  string // the row, as it is
	writes int64
}

// stamped is a Hot and the state that it shows.
type stamped struct {
	stamp
	hot *store.Hot
}

const selectStamp = "SELECT (SELECT value FROM meta WHERE key = '" + metaEpoch + "'), (SELECT value FROM meta WHERE key = '" + metaWrites + "')"

// readStamp reads the snapshot's own.
func (r *reader) readStamp() error {
	return r.each("stamp", func(rows *sql.Rows) error { return r.scanStamp(rows.Scan) }, selectStamp)
}

// scanStamp takes it out of its row.
func (r *reader) scanStamp(scan func(...any) error) error {
	var epoch, writes sql.NullString
	if err := scan(&epoch, &writes); err != nil {
		return err
	}
	r.at = stamp{epoch: epoch.String}
	if writes.String == "" {
		return nil
	}
	n, err := strconv.ParseInt(writes.String, 10, 64)
	if err != nil {
		return fmt.Errorf("number of writes: %w", err)
	}
	r.at.writes = n
	return nil
}

// known is the Hot of a state, if this process has it; nil: it has not.
func (s *Store) known(at stamp) *store.Hot {
	// Committed is stored after the commit, committing before it: a reader may see the commit before that.
	for _, p := range []*stamped{s.committed.Load(), s.committing.Load()} {
		if p != nil && p.stamp == at {
			return p.hot
		}
	}
	return nil
}

// overtaken says whether a state was the last one a moment ago and is not any more.
func (s *Store) overtaken(at stamp) bool {
	p := s.committed.Load()
	return p != nil && p.epoch == at.epoch && p.writes > at.writes
}

// Hot implements [store.Reader].
func (r *reader) Hot() (*store.Hot, error) {
	if r.hot != nil {
		return r.hot, nil
	}
	if r.hot = r.store.known(r.at); r.hot != nil {
		return r.hot, nil
	}
	h, err := r.load()
	if err != nil {
		return nil, err
	}
	r.hot = h
	// A writer has not written yet: its first write would ask for the Hot before.
	if old := r.store.committed.Load(); old == nil || old.epoch != r.at.epoch || old.writes < r.at.writes {
		r.store.committed.CompareAndSwap(old, &stamped{r.at, h})
	}
	return h, nil
}

// Last implements [store.Store].
func (s *Store) Last() *store.Hot {
	if p := s.committed.Load(); p != nil {
		return p.hot
	}
	return nil
}

// Peers are the stores of this process on one directory, which no other process writes. So what was committed last is
// known without asking the database; only a commit of a state that is not known ends that.
type Peers struct{ newest atomic.Pointer[stamped] }

// Peers are what another store of this process on the same directory must be opened with.
func (s *Store) Peers() *Peers { return s.opts.Peers }

// wrote notes what was just committed; nil: nobody knows.
func (p *Peers) wrote(s *stamped) {
	if p != nil {
		p.newest.Store(s)
	}
}

// Fresh implements [store.Store].
func (s *Store) Fresh() (*store.Hot, bool) {
	mine := s.begun.Load()
	if s.opts.Peers == nil || mine == nil {
		return nil, false
	}
	select {
	case <-s.closed:
		return nil, false
	default:
	}
	p := s.opts.Peers.newest.Load()
	if p == nil || p.epoch != *mine { // another one has begun
		return nil, false
	}
	return p.hot, true
}

// load reads all hot rows.
func (r *reader) load() (*store.Hot, error) {
	h := &store.Hot{Writes: r.at.writes}
	if r.at.epoch != "" {
		if err := json.Unmarshal([]byte(r.at.epoch), &h.Epoch); err != nil {
			return nil, &store.Error{Op: "read the store: epoch", Err: err}
		}
	}
	if err := r.metaJSON(metaRebuild, &h.Rebuild); err != nil {
		return nil, err
	}
	if err := each(r, "hosts", func(_ int64, v *fleet.Host) { h.Hosts = h.Hosts.Put(v.ID, v) },
		"SELECT 0, body FROM host"); err != nil {
		return nil, err
	}
	operation := func(seq int64, v *fleet.Operation) {
		h.Operations = h.Operations.Put(v.ID, &store.Numbered[fleet.Operation]{Seq: seq, Row: *v})
	}
	if err := each(r, "operations", operation,
		"SELECT seq, body FROM operation WHERE open = 1 OR owner IN (SELECT id FROM rollout WHERE open = 1)"); err != nil {
		return nil, err
	}
	if err := each(r, "newest operations", func(seq int64, v *fleet.Operation) {
		n := h.Operations.Get(v.ID)
		if n == nil {
			n = &store.Numbered[fleet.Operation]{Seq: seq, Row: *v}
		}
		h.Newest = h.Newest.Put(v.Host, n)
	}, "SELECT seq, body FROM operation WHERE seq IN (SELECT max(seq) FROM operation GROUP BY host)"); err != nil {
		return nil, err
	}
	if err := each(r, "live grants", func(seq int64, v *store.Grant) {
		h.Grants = h.Grants.Put(v.ID, &store.Numbered[store.Grant]{Seq: seq, Row: *v})
	}, "SELECT seq, body FROM grants WHERE live = 1"); err != nil {
		return nil, err
	}
	if err := each(r, "open incidents", func(seq int64, v *store.Incident) {
		h.Incidents = h.Incidents.Put(v.ID, &store.Numbered[store.Incident]{Seq: seq, Row: *v})
	}, "SELECT seq, body FROM incident WHERE open = 1"); err != nil {
		return nil, err
	}
	rollouts, err := r.rollouts("open rollouts", selectRollout+"WHERE rollout.open = 1")
	if err != nil {
		return nil, err
	}
	for _, n := range rollouts {
		h.Rollouts = h.Rollouts.Put(n.Row.ID, n)
	}
	if err := each(r, "kernels", func(_ int64, v *fleet.Kernel) { h.Kernels = append(h.Kernels, *v) },
		"SELECT seq, body FROM kernel ORDER BY seq"); err != nil {
		return nil, err
	}
	if err := each(r, "approvals", func(id int64, v *store.Approval) {
		v.ID = id
		h.Approvals = append(h.Approvals, *v)
	}, `SELECT id, body FROM approval
		WHERE NOT EXISTS (SELECT 1 FROM withdrawal WHERE withdrawal.approval = approval.id) ORDER BY id`); err != nil {
		return nil, err
	}
	err = each(r, "budgets", func(_ int64, v *store.Budget) { h.Budgets = append(h.Budgets, *v) },
		"SELECT 0, body FROM budget ORDER BY by")
	return h, err
}

// each decodes the rows (a number, a body) that query finds.
func each[T any](r *reader, what string, f func(int64, *T), query string, args ...any) error {
	return r.each(what, func(rows *sql.Rows) error {
		var n int64
		var body sql.RawBytes
		if err := rows.Scan(&n, &body); err != nil {
			return err
		}
		v := new(T)
		if err := json.Unmarshal(body, v); err != nil {
			return err
		}
		f(n, v)
		return nil
	}, query, args...)
}

// change applies f to what the hot rows will be when this transaction commits.
func (w *writer) change(f func(h *store.Hot)) {
	h := *w.hot
	f(&h)
	w.hot = &h
}

// write encodes v, runs a statement whose last argument is the body, and returns v as it will be read: what is kept
// shares nothing with the caller, and is what another process would read.
func write[T any](w *writer, what string, v T, query string, args ...any) (read *T, res sql.Result, err error) {
	if _, err := w.Hot(); err != nil { // of before the write
		return nil, nil, err
	}
	body, err := json.Marshal(v)
	if err == nil {
		read = new(T)
		err = json.Unmarshal(body, read)
	}
	if err != nil {
		return nil, nil, &store.Error{Op: "write the store: " + what, Err: err}
	}
	res, err = w.execResult(what, query, append(args, string(body))...)
	return read, res, err
}

// seqOf is the number of a row that may be there already; known is what the hot rows say of it, 0: nothing.
func (w *writer) seqOf(what string, known int64, query string, id any) (seq int64, err error) {
	if known != 0 {
		return known, nil
	}
	_, err = w.scan(what, []any{&seq}, query, id)
	return seq, err
}

// put writes a row that is numbered and hot as long as it is open, and returns the table with it.
func putNumbered[K ~string, V any](w *writer, what string, t func(*store.Hot) *store.Table[K, store.Numbered[V]], id K, open bool, v V,
	find, query string, args ...any,
) error {
	h, err := w.Hot()
	if err != nil {
		return err
	}
	known := int64(0)
	if n := t(h).Get(id); n != nil {
		known = n.Seq
	}
	seq, err := w.seqOf(what, known, find, id)
	if err != nil {
		return err
	}
	read, res, err := write(w, what, v, query, args...)
	if err != nil {
		return err
	}
	if seq == 0 {
		if seq, err = res.LastInsertId(); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	w.change(func(h *store.Hot) {
		if open {
			*t(h) = t(h).Put(id, &store.Numbered[V]{Seq: seq, Row: *read})
		} else {
			*t(h) = t(h).Delete(id)
		}
	})
	return nil
}
