// Package sqlite keeps a [store.Store] in one directory, in SQLite: a
// write-ahead log synced at every commit, one writer, a few readers. Only one
// process at a time may have a directory open. SQL never asks for the time.
//
//	s, err := sqlite.Open("/var/lib/kernwave", sqlite.Options{Rand: rand.Reader})
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	_ "modernc.org/sqlite" // registers the driver "sqlite"

	"github.com/kernwave/kernwave/internal/store"
)

// fileName is the database's, in the data directory; SQLite puts its log beside it.
const fileName = "kernwave.db"

// readers is how many views run at once; more of them wait. Two cores are busy with less.
const readers = 4

// Options are what Open needs besides the directory.
type Options struct {
	// Rand is where the random ends of ids come from: crypto/rand.Reader, or a seeded source in tests.
	Rand io.Reader
	// Fault is called before each write, before each commit and after it ("commit", "committed"), when it is set.
	// It may wait, end the process, or return an error, which Update then returns. Tests break the store with it.
	Fault func(point string) error
	// Peers are all the stores there are on the same directory, where several of one process are: for simulators and
	// tests of fencing. Nil: where the directory is locked there is no other; else there may be some that nobody knows of.
	Peers *Peers

	unsynced bool // nothing has to survive: OpenTemp
	unlocked bool // several stores on one directory, for tests of fencing
}

// Store implements [store.Store].
type Store struct {
	dir         string
	write, read *sql.DB
	lock        *os.File
	opts        Options
	atClose     func() error

	// writing holds one token, which an Update takes: SQLite's own lock would make them poll, and a mutex
	// would make them wait on a sick disk for longer than their callers do.
	writing chan struct{}
	writer  *session      // of who holds the token; nil: not open
	idle    chan *session // of views; see reading
	// committed is the newest state that this process knows, committing the one that its commit makes or made. See hot.go.
	committed, committing atomic.Pointer[stamped]
	// begun is the epoch, as its row is, with which this process began; nil: it has not.
	begun atomic.Pointer[string]

	closing  sync.Once
	closed   chan struct{}
	closeErr error
}

var _ store.Store = (*Store)(nil)

// Open opens the store in dir, which must exist, and brings its schema up to date. It refuses a directory that
// another process has open, and a schema that is newer than this program.
func Open(dir string, o Options) (*Store, error) {
	if o.Rand == nil {
		return nil, errors.New("sqlite: Options.Rand must be set")
	}
	if !o.unlocked && o.Peers == nil {
		o.Peers = new(Peers)
	}
	s := &Store{
		dir: dir, opts: o, writing: make(chan struct{}, 1), idle: make(chan *session, readers), closed: make(chan struct{}),
		atClose: func() error { return nil },
	}
	for range readers {
		s.idle <- nil
	}
	if !o.unlocked {
		lock, err := lockDir(dir)
		if err != nil {
			return nil, err
		}
		s.lock = lock
	}
	if err := s.open(filepath.Join(dir, fileName)); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// OpenTemp opens an empty store that ends with Close: for simulators and tests. It behaves like any other, but does
// not wait for a disk.
func OpenTemp(o Options) (*Store, error) { return openTemp(nil, o) }

// openTemp opens a temporary store whose database is db; nil: a new one.
func openTemp(db []byte, o Options) (*Store, error) {
	dir, err := tempDir()
	if err != nil {
		return nil, fmt.Errorf("open a temporary store: %w", err)
	}
	if db != nil {
		if err := os.WriteFile(filepath.Join(dir, fileName), db, 0o600); err != nil {
			return nil, errors.Join(fmt.Errorf("open a temporary store: %w", err), os.RemoveAll(dir))
		}
	}
	o.unsynced = true
	s, err := Open(dir, o)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	s.atClose = func() error { return os.RemoveAll(dir) }
	return s, nil
}

func (s *Store) open(path string) error {
	synchronous := "FULL" // every commit is on the disk before Update returns
	if s.opts.unsynced {
		synchronous = "OFF"
	}
	// The database holds hashes of tokens and the whole fleet's facts: nobody else's business. SQLite gives its log
	// the same mode.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	if s.write, err = sql.Open("sqlite", dsn(path, synchronous)); err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	s.write.SetMaxOpenConns(1)
	s.write.SetMaxIdleConns(1)
	if err := migrate(context.Background(), s.write); err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	if s.read, err = sql.Open("sqlite", dsn(path, synchronous, "query_only(1)")); err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	s.read.SetMaxOpenConns(readers)
	s.read.SetMaxIdleConns(readers)
	return nil
}

// dsn names the database to the driver.
func dsn(path, synchronous string, more ...string) string {
	q := url.Values{"_pragma": append([]string{
		"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(" + synchronous + ")", "foreign_keys(1)",
		"trusted_schema(0)", "temp_store(MEMORY)",
	}, more...)}
	q.Set("_txlock", "deferred")
	return "file:" + escaped(path) + "?" + q.Encode()
}

// escaped is path as it stands in a URI.
func escaped(path string) string { return (&url.URL{Path: path}).EscapedPath() }
