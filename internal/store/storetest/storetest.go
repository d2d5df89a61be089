// Package storetest tests any implementation of [store.Store] for what
// Kernwave relies on: durable, serialised, all-or-nothing writes, consistent
// snapshots, fencing, and rows that come back as they went in.
package storetest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/store"
)

// Open opens a store on one set of data: again after a Close, as a restarted process would, or a second one at the
// same time, as another process would. The test's end closes what is still open.
type Open func(t testing.TB) store.Store

// Run tests the implementation that fresh gives: each call of it is a new, empty set of data.
func Run(t *testing.T, fresh func(t testing.TB) Open) {
	for _, c := range []struct {
		name string
		f    func(*testing.T, Open)
	}{
		{"nothing is written before begin", testNeedsBegin},
		{"each begin raises the term", testTerm},
		{"a moved store knows it until it is settled", testMoved},
		{"whoever began last fences the others", testFencing},
		{"what was written is there after a reopen", testReopen},
		{"an error undoes the whole update", testRollback},
		{"a panic undoes the whole update", testPanic},
		{"updates are serialised", testSerialised},
		{"a view sees one moment", testSnapshot},
		{"a cancelled update leaves nothing and breaks nothing", testCancelled},
		{"ids count for each kind", testIDs},
		{"missing rows are not found", testNotFound},
		{"rows come back as they went in", testRows},
		{"lists have their order and choose their rows", testLists},
		{"events are found by what they are about", testEvents},
		{"a withdrawn approval is gone", testApprovals},
		{"last seen keeps the later time", testLastSeen},
		{"agrees with maps", testTwin},
		{"a moved store has to be rebuilt", testRebuild},
		{"a moved store draws ids of its own", testBranches},
		{"a raised incarnation is higher than any that hosts obeyed", testObeyed},
		{"what is kept is what is there", testHot},
		{"what is kept is a snapshot", testHotIsASnapshot},
		{"what is kept is a copy", testHotIsACopy},
	} {
		t.Run(c.name, func(t *testing.T) { c.f(t, fresh(t)) })
	}
}

// t0 is some moment; times in rows have nanoseconds and are UTC.
var t0 = time.Date(2026, 3, 1, 12, 30, 0, 123456789, time.UTC)

var here = store.Place{MachineID: "m1", Dir: "1:2", Instance: "a", At: t0}

// begun opens a store and begins.
func begun(t testing.TB, open Open) store.Store {
	t.Helper()
	s := open(t)
	if _, err := s.Begin(t.Context(), here); err != nil {
		t.Fatal(err)
	}
	return s
}

func update(t testing.TB, s store.Store, f func(store.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func view(t testing.TB, s store.Store, f func(store.Reader) error) {
	t.Helper()
	if err := s.View(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if d := diff(got, want); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func diff(got, want any) string { return cmp.Diff(want, got, cmpopts.EquateEmpty()) }

func testNeedsBegin(t *testing.T, open Open) {
	s := open(t)
	err := s.Update(t.Context(), func(store.Tx) error { t.Error("ran"); return nil })
	if !errors.Is(err, store.ErrFenced) {
		t.Errorf("got %v, want ErrFenced", err)
	}
}

func testTerm(t *testing.T, open Open) {
	s := open(t)
	first, err := s.Begin(t.Context(), here)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "first start", first, store.Start{Incarnation: fleet.Incarnation{Incarnation: 1, Term: 1, Instance: "a"}})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t)
	p := here
	p.Instance = "b"
	second, err := s.Begin(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "second start", second, store.Start{Incarnation: fleet.Incarnation{Incarnation: 1, Term: 2, Instance: "b"}})
	view(t, s, func(r store.Reader) error {
		got, err := r.Epoch()
		same(t, "epoch", got, second.Incarnation)
		return err
	})
	if _, err := s.Begin(t.Context(), store.Place{MachineID: "m1", Dir: "1:2"}); err == nil {
		t.Error("a place without an instance was accepted")
	}
}

func testMoved(t *testing.T, open Open) {
	s := begun(t, open)
	incarnation, first := uint64(1), true
	for _, p := range []store.Place{
		{MachineID: "m2", Dir: "1:2", Instance: "b"},
		{MachineID: "m2", Dir: "1:3", Instance: "c"},
		{MachineID: "m2", Dir: "1:3", Instance: "d", Raise: true},
	} {
		st, err := s.Begin(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		incarnation++
		if first && !strings.Contains(st.Moved, "started at 2026-03-01T12:30:00Z") {
			t.Errorf("moved: %q does not say when it was last begun", st.Moved)
		}
		first = false
		if st.Moved == "" || st.Incarnation.Incarnation != incarnation {
			t.Errorf("begin at %+v: got %+v, want incarnation %d and why", p, st, incarnation)
		}
		// Killed before anybody could act on it: the next start still says so, in the same incarnation.
		p.Instance, p.Raise = "again", false
		again, err := s.Begin(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		if again.Moved != st.Moved || again.Incarnation.Incarnation != incarnation {
			t.Errorf("begin again at %+v: got %+v after %+v", p, again, st)
		}
	}
	update(t, s, func(tx store.Tx) error { return tx.SettleMove() })
	st, err := s.Begin(t.Context(), store.Place{MachineID: "m2", Dir: "1:3", Instance: "z"})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "moved, once settled", st.Moved, "")
}

func testFencing(t *testing.T, open Open) {
	old := begun(t, open)
	young := open(t)
	p := here
	p.Instance = "young"
	if _, err := young.Begin(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	err := old.Update(t.Context(), func(store.Tx) error { t.Error("a fenced update ran"); return nil })
	if !errors.Is(err, store.ErrFenced) {
		t.Errorf("the old one: got %v, want ErrFenced", err)
	}
	update(t, young, func(tx store.Tx) error { return tx.PutHost(fleet.Host{ID: "h"}) })
	err = old.View(t.Context(), func(store.Reader) error { t.Error("a fenced view ran"); return nil })
	if !errors.Is(err, store.ErrFenced) {
		t.Errorf("the old one reads: got %v, want ErrFenced", err)
	}
	view(t, open(t), func(r store.Reader) error { // who never began reads what there is
		_, err := r.Host("h")
		return err
	})
}

func testReopen(t *testing.T, open Open) {
	s := begun(t, open)
	h := host("web-1")
	update(t, s, func(tx store.Tx) error { return tx.PutHost(h) })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.View(t.Context(), func(store.Reader) error { return nil }); err == nil {
		t.Error("a closed store could be read")
	}
	view(t, open(t), func(r store.Reader) error {
		got, err := r.Host("web-1")
		same(t, "host", got, h)
		return err
	})
}

var errWanted = errors.New("wanted")

func testRollback(t *testing.T, open Open) {
	s := begun(t, open)
	var first string
	update(t, s, func(tx store.Tx) (err error) { first, err = tx.NextID("r"); return err })
	err := s.Update(t.Context(), func(tx store.Tx) error {
		if err := fill(tx); err != nil {
			return err
		}
		return errWanted
	})
	if !errors.Is(err, errWanted) {
		t.Errorf("got %v, want the function's own error", err)
	}
	mustBeEmpty(t, s)
	update(t, s, func(tx store.Tx) error {
		id, err := tx.NextID("r")
		if id != "r-2" {
			t.Errorf("after %s and an undone update: got id %s, want r-2", first, id)
		}
		return err
	})
}

func testPanic(t *testing.T, open Open) {
	s := begun(t, open)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = s.Update(t.Context(), func(tx store.Tx) error {
			if err := fill(tx); err != nil {
				return err
			}
			panic("wanted")
		})
	}()
	mustBeEmpty(t, s)
	update(t, s, func(tx store.Tx) error { return tx.PutHost(fleet.Host{ID: "h"}) })
}

func testSerialised(t *testing.T, open Open) {
	s := begun(t, open)
	const workers, each = 4, 25
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				// Read, then write what was read plus one: lost updates would show.
				if err := s.Update(context.Background(), func(tx store.Tx) error {
					h, err := tx.Host("counter")
					if err != nil && !errors.Is(err, store.ErrNotFound) {
						return err
					}
					h.ID = "counter"
					h.Facts.CPU.Cores++
					return tx.PutHost(h)
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	view(t, s, func(r store.Reader) error {
		h, err := r.Host("counter")
		same(t, "count", h.Facts.CPU.Cores, workers*each)
		return err
	})
}

func testSnapshot(t *testing.T, open Open) {
	s := begun(t, open)
	put := func(cores int) error {
		return s.Update(t.Context(), func(tx store.Tx) error {
			for _, id := range []fleet.HostID{"a", "b"} {
				h := host(id)
				h.Facts.CPU.Cores = cores
				if err := tx.PutHost(h); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := put(1); err != nil {
		t.Fatal(err)
	}
	view(t, s, func(r store.Reader) error {
		if err := put(2); err != nil { // a view does not keep writers out
			return err
		}
		for _, id := range []fleet.HostID{"a", "b"} {
			h, err := r.Host(id)
			if err != nil {
				return err
			}
			same(t, "cores of "+string(id)+" in a view that began before", h.Facts.CPU.Cores, 1)
		}
		return nil
	})
	view(t, s, func(r store.Reader) error {
		h, err := r.Host("b")
		same(t, "cores in a later view", h.Facts.CPU.Cores, 2)
		return err
	})
}

func testCancelled(t *testing.T, open Open) {
	s := begun(t, open)
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Update(ctx, func(tx store.Tx) error {
		if err := fill(tx); err != nil {
			return err
		}
		cancel()
		return tx.PutHost(fleet.Host{ID: "late"})
	})
	if err == nil {
		t.Error("an update went on after its caller gave up")
	}
	mustBeEmpty(t, s)
	update(t, s, func(tx store.Tx) error { return tx.PutHost(fleet.Host{ID: "h"}) })
}
