package sqlite

import (
	"bufio"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/internal/store/storetest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("KERNWAVE_TEST_WRITE_UNTIL_KILLED"); dir != "" {
		writeUntilKilled(dir)
	}
	os.Exit(m.Run())
}

func TestConformance(t *testing.T) {
	for _, c := range []struct {
		name string
		opts Options
	}{
		{"synced", Options{Rand: rand.Reader, unlocked: true}},
		{"unsynced", Options{Rand: rand.Reader, unlocked: true, unsynced: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			storetest.Run(t, func(t testing.TB) storetest.Open {
				dir := t.TempDir()
				opts := c.opts
				opts.Peers = new(Peers)
				return func(t testing.TB) store.Store { return open(t, dir, opts) }
			})
		})
	}
}

func open(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func begin(t testing.TB, s *Store) {
	t.Helper()
	if _, err := s.Begin(t.Context(), store.Place{MachineID: "m", Dir: "1:1", Instance: "i"}); err != nil {
		t.Fatal(err)
	}
}

func TestTempLeavesNothing(t *testing.T) {
	s, err := OpenTemp(Options{Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	begin(t, s)
	dir := filepath.Dir(s.lock.Name())
	if _, err := os.Stat(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Close: %v, want the directory gone", err)
	}
}

func TestTwoServersOnOneDirectory(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir, Options{Rand: rand.Reader})
	_, err := Open(dir, Options{Rand: rand.Reader})
	e, ok := errors.AsType[*fleet.Error](err)
	if !ok || !strings.Contains(err.Error(), fmt.Sprintf("another kernwave server (process %d) has it open", os.Getpid())) || e.Next == "" {
		t.Fatalf("got %v, want a refusal that names the process and what to do", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir, Options{Rand: rand.Reader})
}

func TestNobodyElseReadsIt(t *testing.T) {
	dir := t.TempDir()
	begin(t, open(t, dir, Options{Rand: rand.Reader}))
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) < 3 {
		t.Fatalf("files %v (%v), want the database, its log and the lock", files, err)
	}
	for _, f := range files {
		if fi, err := os.Stat(f); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v (%v), want 0600", f, fi.Mode(), err)
		}
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := open(t, dir, Options{Rand: rand.Reader}).Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("PRAGMA user_version = 999"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir, Options{Rand: rand.Reader})
	if e, ok := errors.AsType[*fleet.Error](err); !ok || !strings.Contains(err.Error(), "version 999") || e.Next == "" {
		t.Errorf("got %v, want a refusal that names the version and what to do", err)
	}
}

func TestDurableSettings(t *testing.T) {
	s := open(t, t.TempDir(), Options{Rand: rand.Reader})
	for _, c := range []struct {
		db           *sql.DB
		pragma, want string
	}{
		{s.write, "journal_mode", "wal"},
		{s.write, "synchronous", "2"}, // FULL
		{s.write, "foreign_keys", "1"},
		{s.write, "busy_timeout", "10000"},
		{s.read, "query_only", "1"},
	} {
		var got string
		if err := c.db.QueryRow("PRAGMA " + c.pragma).Scan(&got); err != nil || got != c.want {
			t.Errorf("%s: got %q (%v), want %q", c.pragma, got, err, c.want)
		}
	}
}

// TestFaultAtAnyWrite breaks an update before each of its writes in turn, and at its commit: nothing of it stays. After
// the commit the writer hears an error, and everything is there.
func TestFaultAtAnyWrite(t *testing.T) {
	broken := errors.New("broken disk")
	var at, n int
	var points []string
	s := open(t, t.TempDir(), Options{Rand: rand.Reader, unsynced: true, Fault: func(point string) error {
		points = append(points, point)
		n++
		if n == at {
			return broken
		}
		return nil
	}})
	begin(t, s)
	change := func(tx store.Tx) error {
		if _, err := tx.NextOperationID(); err != nil {
			return err
		}
		if err := tx.PutHost(fleet.Host{ID: "h"}); err != nil {
			return err
		}
		_, err := tx.AppendEvent(store.Event{Kind: "k"})
		return err
	}
	for at = 1; ; at++ {
		n, points = 0, nil
		err := s.Update(t.Context(), change)
		if err == nil {
			break
		}
		if !errors.Is(err, broken) {
			t.Fatalf("broken at write %d: got %v", at, err)
		}
		committed := points[len(points)-1] == "committed"
		if err := s.View(t.Context(), func(r store.Reader) error {
			_, err := r.Host("h")
			if there := err == nil; there != committed {
				t.Errorf("broken at %q: the host is there: %v, want %v", points[len(points)-1], there, committed)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if at < 5 {
		t.Errorf("only %d faults were tried", at-1)
	}
}

// TestKilled kills a process that writes, at any instant: all that it had been told to be written is there, and no
// update is there by half.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	told := 0
	for round := range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "KERNWAVE_TEST_WRITE_UNTIL_KILLED="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range 20 + 7*round {
			if !lines.Scan() {
				break
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		last := lines.Text()
		for lines.Scan() {
			last = lines.Text()
		}
		_ = cmd.Wait()
		if _, err := fmt.Sscan(last, &told); err != nil {
			t.Fatalf("the writer said %q: %v", last, err)
		}

		s := open(t, dir, Options{Rand: rand.Reader})
		if err := s.View(t.Context(), func(r store.Reader) error {
			h, err := r.Host("counter")
			if err != nil {
				return err
			}
			events, err := r.Events(store.EventQuery{})
			if h.Facts.CPU.Cores < told {
				t.Errorf("round %d: %d updates are there, %d were confirmed", round, h.Facts.CPU.Cores, told)
			}
			if len(events) != 2*h.Facts.CPU.Cores {
				t.Errorf("round %d: %d events for %d updates of two each", round, len(events), h.Facts.CPU.Cores)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func writeUntilKilled(dir string) {
	s, err := Open(dir, Options{Rand: rand.Reader})
	if err != nil {
		panic(err)
	}
	if _, err := s.Begin(context.Background(), store.Place{MachineID: "m", Dir: "1:1", Instance: "i"}); err != nil {
		panic(err)
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); { // the parent kills it long before
		var n int
		if err := s.Update(context.Background(), func(tx store.Tx) error {
			h, err := tx.Host("counter")
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			h.ID = "counter"
			h.Facts.CPU.Cores++
			n = h.Facts.CPU.Cores
			_, err1 := tx.AppendEvent(store.Event{Kind: "one"})
			err2 := tx.PutHost(h)
			_, err3 := tx.AppendEvent(store.Event{Kind: "two"})
			return errors.Join(err1, err2, err3)
		}); err != nil {
			panic(err)
		}
		fmt.Println(n)
	}
	os.Exit(1)
}

// TestSQLAsksNoClock keeps time out of the SQL: two control planes would not agree on it, and tests could not move it.
func TestSQLAsksNoClock(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("migrations/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append(files, more...) {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"CURRENT_TIME", "datetime(", "strftime(", "julianday(", "unixepoch(", "'now'", "time.Now"} {
			if strings.Contains(string(b), word) {
				t.Errorf("%s says %s: times come from the caller", f, word)
			}
		}
	}
}
