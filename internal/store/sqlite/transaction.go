package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"

	"github.com/kernwave/kernwave/internal/store"
)

var errClosed = errors.New("it is closed")

// reading takes one of the sessions that views use; nil in the channel stands for one that is not open yet.
func (s *Store) reading(ctx context.Context) (*session, error) {
	select {
	case <-s.closed:
		return nil, errClosed
	default:
	}
	select {
	case sess := <-s.idle:
		if sess != nil {
			return sess, nil
		}
		sess, err := connect(ctx, s.read)
		if err != nil {
			s.idle <- nil
		}
		return sess, err
	case <-s.closed:
		return nil, errClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// View implements [store.Store].
func (s *Store) View(ctx context.Context, f func(store.Reader) error) error {
	sess, err := s.reading(ctx)
	if err != nil {
		return &store.Error{Op: "read the store", Err: err}
	}
	r := &reader{ctx: ctx, store: s, tx: sess}
	var snapshot *sql.Rows
	defer func() {
		if !ended(snapshot) {
			_ = sess.close(true)
			sess = nil
		}
		s.idle <- sess
	}()
	// A commit between the snapshot and the look at its Hot is seen by taking the snapshot again. Under a storm of
	// them the rows are read from the database, which is only slow.
	for range 4 {
		if !ended(snapshot) {
			return &store.Error{Op: "read the store", Err: errors.New("a snapshot does not end")}
		}
		if snapshot, err = r.snapshot(); err != nil {
			return err
		}
		if mine := s.begun.Load(); mine != nil && *mine != r.at.epoch {
			s.opts.Peers.wrote(nil) // it was not known, or it is another's
			return store.ErrFenced  // what it would answer may be given by somebody else now
		}
		if r.hot = s.known(r.at); r.hot != nil || !s.overtaken(r.at) {
			break
		}
	}
	return f(r)
}

// snapshot reads the stamp, and leaves the statement that reads it open: as long as it is, SQLite keeps the snapshot
// for whatever else its connection reads. That is a reading transaction without BEGIN and ROLLBACK, which would cost
// more than the one row that nearly all views need of the database.
func (r *reader) snapshot() (*sql.Rows, error) {
	rows, err := r.tx.query(r.ctx, selectStamp)
	if err != nil {
		return nil, &store.Error{Op: "read the store: stamp", Err: err}
	}
	if !rows.Next() {
		err = cmp.Or(rows.Err(), errors.New("it has none"))
	} else {
		err = r.scanStamp(rows.Scan)
	}
	if err != nil {
		return rows, &store.Error{Op: "read the store: stamp", Err: err}
	}
	return rows, nil
}

// ended ends a snapshot, and says whether it did.
func ended(snapshot *sql.Rows) bool { return snapshot == nil || snapshot.Close() == nil }

// Update implements [store.Store].
func (s *Store) Update(ctx context.Context, f func(store.Tx) error) error {
	return s.update(ctx, func(w *writer) error {
		if mine := s.begun.Load(); mine == nil || *mine != w.at.epoch {
			return store.ErrFenced
		}
		return f(w)
	})
}

func (s *Store) update(ctx context.Context, f func(*writer) error) (err error) {
	select {
	case s.writing <- struct{}{}:
		defer func() { <-s.writing }()
	case <-s.closed:
		return &store.Error{Op: "write the store", Err: errClosed}
	case <-ctx.Done():
		return &store.Error{Op: "write the store: wait for other writers", Err: context.Cause(ctx)}
	}
	if s.writer == nil {
		if s.writer, err = connect(ctx, s.write); err != nil {
			return &store.Error{Op: "write the store", Err: err}
		}
	}
	w := &writer{reader: reader{ctx: ctx, store: s, tx: s.writer}}
	done := false
	defer func() {
		if !done { // an error, or a panic in f
			// The caller may have given up; the transaction must end all the same, also one that had just begun
			// when he did. SQLite may have ended it by itself (a full disk), or not begun it: then a fresh
			// connection is the sure way.
			if _, e := w.tx.exec(context.Background(), "ROLLBACK"); e != nil {
				_ = w.tx.close(true)
				s.writer = nil
			}
		}
	}()
	// IMMEDIATE: the write lock comes first, so that what is read stays true until the commit, also when
	// another process writes.
	if err := w.tx.wait(ctx, "BEGIN IMMEDIATE"); err != nil {
		return &store.Error{Op: "write the store", Err: err}
	}
	if err := w.readStamp(); err != nil {
		return err
	}
	if err := f(w); err != nil {
		return err
	}
	if err := w.fault("commit"); err != nil {
		return err
	}
	if err := w.raise(); err != nil {
		return err
	}
	// From here on the caller's giving up must not leave open what happened.
	if _, err := w.tx.exec(context.Background(), "COMMIT"); err != nil {
		s.opts.Peers.wrote(nil) // or not
		return &store.Error{Op: "write the store: commit", Err: err}
	}
	done = true
	if w.wrote {
		p := s.committing.Load()
		if w.hot == nil {
			p = nil
		}
		if p != nil {
			s.committed.Store(p)
		}
		s.opts.Peers.wrote(p)
	}
	return w.fault("committed")
}

// raise gives the state that this transaction leaves a stamp of its own, if it changed anything.
func (w *writer) raise() error {
	if !w.wrote {
		return nil
	}
	if w.hot == nil { // it wrote nothing that is hot, so what was known before is right after it
		w.hot = w.store.known(w.at)
	}
	w.at.writes++
	if _, err := w.tx.exec(w.ctx, "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
		metaWrites, w.at.writes); err != nil {
		return &store.Error{Op: "write the store: count the write", Err: err}
	}
	if w.hot != nil {
		h := *w.hot
		h.Writes = w.at.writes
		w.store.committing.Store(&stamped{w.at, &h})
	}
	return nil
}

// Close implements [store.Store].
func (s *Store) Close() error {
	s.closing.Do(func() {
		close(s.closed)
		var errs []error
		s.writing <- struct{}{} // and keep it
		if s.writer != nil {
			errs = append(errs, s.writer.close(false))
		}
		for range cap(s.idle) {
			if sess := <-s.idle; sess != nil {
				errs = append(errs, sess.close(false))
			}
		}
		if s.read != nil {
			errs = append(errs, s.read.Close())
		}
		if s.write != nil {
			errs = append(errs, s.write.Close())
		}
		if s.lock != nil {
			errs = append(errs, s.lock.Close())
		}
		s.closeErr = errors.Join(append(errs, s.atClose())...)
	})
	return s.closeErr
}
