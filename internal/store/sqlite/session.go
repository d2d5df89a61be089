package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
)

// session is one connection and the statements that were prepared on it. One transaction at a time uses it.
type session struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

// mostStmts bounds the statements that a session keeps. The queries are constants but for those for events, of which
// there are some sixteen.
const mostStmts = 200

// connect opens a session on a connection of db's own.
func connect(ctx context.Context, db *sql.DB) (*session, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &session{conn: conn, stmts: map[string]*sql.Stmt{}}, nil
}

// stmt is query, prepared once. No statement here runs for long, and one that waits for the disk cannot be
// interrupted: so ctx is asked before each, and the driver gets one that does not end, for which it need not start a
// goroutine.
func (s *session) stmt(ctx context.Context, query string) (*sql.Stmt, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if st, ok := s.stmts[query]; ok {
		return st, nil
	}
	if len(s.stmts) >= mostStmts {
		s.forget()
	}
	st, err := s.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	s.stmts[query] = st
	return st, nil
}

func (s *session) exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	st, err := s.stmt(ctx, query)
	if err != nil {
		return nil, err
	}
	return st.ExecContext(context.Background(), args...)
}

// wait is exec for the one statement that waits for other processes: ctx ends it.
func (s *session) wait(ctx context.Context, query string) error {
	st, err := s.stmt(ctx, query)
	if err != nil {
		return err
	}
	_, err = st.ExecContext(ctx)
	return err
}

func (s *session) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	st, err := s.stmt(ctx, query)
	if err != nil {
		return nil, err
	}
	return st.QueryContext(context.Background(), args...)
}

func (s *session) forget() {
	for _, st := range s.stmts {
		st.Close()
	}
	clear(s.stmts)
}

// close ends the session. A broken one takes its connection with it; otherwise db may use that again.
func (s *session) close(broken bool) error {
	s.forget()
	if broken {
		_ = s.conn.Raw(func(any) error { return driver.ErrBadConn })
	}
	return s.conn.Close()
}
