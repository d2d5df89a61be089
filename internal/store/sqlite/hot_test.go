package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/internal/store/storetest"
)

// TestHotRowsAfterFaults breaks updates at any of their writes, at the commit, and right after it, when the caller hears
// an error although everything is there: what is kept is what a store reads that was opened just now.
func TestHotRowsAfterFaults(t *testing.T) {
	broken := errors.New("broken disk")
	at := 0
	dir := t.TempDir()
	o := Options{Rand: rand.Reader, unsynced: true, unlocked: true, Peers: new(Peers)}
	faulty := o
	faulty.Fault = func(string) error {
		if at--; at == 0 {
			return broken
		}
		return nil
	}
	s := open(t, dir, faulty)
	begin(t, s)
	failed, known := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		for range 3 {
			at = rapid.IntRange(0, 12).Draw(rt, "fault at")
			err := s.Update(t.Context(), func(tx store.Tx) error { return storetest.Scribble(rt, tx) })
			if err != nil && !errors.Is(err, broken) {
				rt.Fatal(err)
			}
			if err != nil {
				failed++
			}
			at = 0
			fresh := open(t, dir, o)
			if _, ok := s.Fresh(); ok {
				known++
			}
			if d := storetest.DiffHot(t, s, fresh); d != "" {
				rt.Fatalf("after %v, what is kept against what was just read (-want +got):\n%s", err, d)
			}
			if err := fresh.Close(); err != nil {
				rt.Fatal(err)
			}
		}
	})
	if failed == 0 || known == 0 {
		t.Errorf("%d updates failed, and the newest state was known %d times", failed, known)
	}
}

// TestHotRowsAreReadOnce: once they are read, no write makes anybody read them again, whatever it writes.
func TestHotRowsAreReadOnce(t *testing.T) {
	s := open(t, t.TempDir(), Options{Rand: rand.Reader, unsynced: true})
	begin(t, s)
	for i, write := range []func(store.Tx) error{
		func(tx store.Tx) error { return tx.PutHost(fleet.Host{ID: "a"}) },
		func(tx store.Tx) error { _, err := tx.AppendEvent(store.Event{Kind: "k"}); return err },
		func(tx store.Tx) error { return tx.PutLastSeen(map[fleet.HostID]time.Time{"a": time.Unix(1, 0)}) },
		func(tx store.Tx) error { _, err := tx.NextID("r"); return err },
		func(tx store.Tx) error { return nil },
	} {
		if err := s.Update(t.Context(), write); err != nil {
			t.Fatal(err)
		}
		if err := s.View(t.Context(), func(r store.Reader) error {
			if r.(*reader).hot == nil {
				t.Errorf("after write %d the hot rows are not known", i)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHotRowsUnderLoad reads while others write: a view's hot rows and its other rows are of one moment.
func TestHotRowsUnderLoad(t *testing.T) {
	s := open(t, t.TempDir(), Options{Rand: rand.Reader, unsynced: true})
	begin(t, s)
	ctx, done := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				err := s.View(context.Background(), func(r store.Reader) error {
					events, err := r.Events(store.EventQuery{})
					if err != nil {
						return err
					}
					h, err := r.Host("counter")
					if err != nil && !errors.Is(err, store.ErrNotFound) {
						return err
					}
					if h.Facts.CPU.Cores != len(events) {
						t.Errorf("the host is from update %d, the events from update %d", h.Facts.CPU.Cores, len(events))
					}
					return nil
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for n := range 300 {
		if err := s.Update(t.Context(), func(tx store.Tx) error {
			h := fleet.Host{ID: "counter"}
			h.Facts.CPU.Cores = n + 1
			_, err := tx.AppendEvent(store.Event{Kind: "k"})
			return errors.Join(err, tx.PutHost(h))
		}); err != nil {
			t.Fatal(err)
		}
	}
	done()
	wg.Wait()
}

// TestOldRollouts opens a store from before plans had a table of their own.
func TestOldRollouts(t *testing.T) {
	dir := t.TempDir()
	db, err := sql.Open("sqlite", filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	first, err := migrations.ReadFile("migrations/0001_first.sql")
	if err != nil {
		t.Fatal(err)
	}
	row := store.Rollout{
		ID: "r-1", Kernel: "k", Status: "running", Open: true, Spec: json.RawMessage(`{"kernel":"k","n":12345678901234567890}`),
		Plan: json.RawMessage(`{"hosts":[{"id":"a<b"}]}`), State: json.RawMessage(`{"held":{"h":"\u003cwhy\u003e"}}`), CreatedBy: "alice",
	}
	body, err := json.Marshal(row)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{string(first), "INSERT INTO rollout (id, open, body) VALUES ('r-1', 1, '" + string(body) + "')", "PRAGMA user_version = 1"} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, Options{Rand: rand.Reader})
	for range 2 { // as it was, and after it was written once more
		var got store.Rollout
		if err := s.View(t.Context(), func(r store.Reader) (err error) { got, err = r.Rollout("r-1"); return err }); err != nil {
			t.Fatal(err)
		}
		var want store.Rollout
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatal(err)
		}
		if g, w := text(t, got), text(t, want); g != w {
			t.Errorf("got %s\nwant %s", g, w)
		}
		begin(t, s)
		if err := s.Update(t.Context(), func(tx store.Tx) error { return tx.PutRollout(got) }); err != nil {
			t.Fatal(err)
		}
	}
}

func text(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestPlanIsWrittenOnce: a rollout whose state changes does not write its plan again.
func TestPlanIsWrittenOnce(t *testing.T) {
	var points []string
	s := open(t, t.TempDir(), Options{Rand: rand.Reader, unsynced: true, Fault: func(p string) error { points = append(points, p); return nil }})
	begin(t, s)
	row := store.Rollout{ID: "r-1", Open: true, Plan: json.RawMessage(`{"hosts":[]}`), State: json.RawMessage(`{"n":1}`)}
	put := func() {
		t.Helper()
		points = nil
		if err := s.Update(t.Context(), func(tx store.Tx) error { return tx.PutRollout(row) }); err != nil {
			t.Fatal(err)
		}
	}
	put()
	if len(points) != 4 {
		t.Errorf("the first time: got %q, want plan, row, commit, committed", points)
	}
	row.State = json.RawMessage(`{"n":2}`)
	put()
	if len(points) != 3 || points[0] != "put rollout r-1" {
		t.Errorf("the second time: got %q, want the row alone", points)
	}
}

// TestFresh: the newest state is known without asking once it was read and something written, until the store is closed,
// another one begins, or a commit fails so that nobody knows what is there. A store that may have peers nobody knows of
// never knows it.
func TestFresh(t *testing.T) {
	put := func(s *Store, why string) {
		t.Helper()
		if err := s.Update(t.Context(), func(tx store.Tx) error {
			_, err := tx.Hosts()
			return errors.Join(err, tx.PutHost(fleet.Host{ID: "a", StatusWhy: why}))
		}); err != nil {
			t.Fatal(err)
		}
	}
	known := func(s *Store, want string) {
		t.Helper()
		h, ok := s.Fresh()
		got := ""
		if ok {
			got = h.Hosts.Get("a").StatusWhy
		}
		if got != want {
			t.Errorf("known is %q, want %q", got, want)
		}
	}
	locked := open(t, t.TempDir(), Options{Rand: rand.Reader})
	known(locked, "")
	begin(t, locked)
	known(locked, "")
	put(locked, "one")
	known(locked, "one")
	put(locked, "two")
	known(locked, "two")
	if err := locked.Close(); err != nil {
		t.Fatal(err)
	}
	known(locked, "")

	alone := open(t, t.TempDir(), Options{Rand: rand.Reader, unsynced: true, unlocked: true})
	begin(t, alone)
	put(alone, "one")
	known(alone, "")

	dir, peers := t.TempDir(), new(Peers)
	var fault func(string) error
	o := Options{Rand: rand.Reader, unsynced: true, unlocked: true, Peers: peers, Fault: func(point string) error {
		if fault != nil {
			return fault(point)
		}
		return nil
	}}
	first := open(t, dir, o)
	begin(t, first)
	put(first, "one")
	second := open(t, dir, o)
	known(second, "")
	begin(t, second)
	known(first, "")
	put(second, "two")
	known(first, "")
	known(second, "two")
	fault = func(point string) error {
		if point == "commit" {
			return errors.New("broken")
		}
		return nil
	}
	if err := second.Update(t.Context(), func(tx store.Tx) error { return tx.PutHost(fleet.Host{ID: "a", StatusWhy: "three"}) }); err == nil {
		t.Fatal("the update did not fail")
	}
	known(second, "two")
}
