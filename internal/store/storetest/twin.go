package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/store"
)

// twin is the slow obvious store: maps that are copied before each update.
type twin struct {
	hosts  map[fleet.HostID]fleet.Host
	ops    map[fleet.OperationID]fleet.Operation
	order  []fleet.OperationID // as first put
	events []store.Event
}

func (w twin) clone() twin {
	return twin{maps.Clone(w.hosts), maps.Clone(w.ops), slices.Clone(w.order), slices.Clone(w.events)}
}

// testTwin puts hosts, operations and events in any order, in updates that sometimes fail, and compares.
func testTwin(t *testing.T, open Open) {
	s := begun(t, open)
	base := twin{hosts: map[fleet.HostID]fleet.Host{}, ops: map[fleet.OperationID]fleet.Operation{}}
	rapid.Check(t, func(rt *rapid.T) {
		model := base // rapid runs many times on one store: the twin goes on too
		for range rapid.IntRange(1, 4).Draw(rt, "updates") {
			next := model.clone()
			fails := rapid.Bool().Draw(rt, "fails")
			err := s.Update(t.Context(), func(tx store.Tx) error {
				for range rapid.IntRange(0, 5).Draw(rt, "writes") {
					if err := writeBoth(rt, tx, &next); err != nil {
						return err
					}
				}
				if err := compare(tx, next); err != nil { // what a Tx wrote, it reads
					return fmt.Errorf("in the update: %w", err)
				}
				if fails {
					return errWanted
				}
				return nil
			})
			if fails && !errors.Is(err, errWanted) || !fails && err != nil {
				rt.Fatal(err)
			}
			if !fails {
				model = next
				base = model
			}
			if err := s.View(t.Context(), func(r store.Reader) error { return compare(r, model) }); err != nil {
				rt.Fatal(err)
			}
		}
	})
}

func writeBoth(rt *rapid.T, tx store.Tx, w *twin) error {
	h := fleet.HostID(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "host"))
	switch rapid.IntRange(0, 2).Draw(rt, "kind") {
	case 0:
		row := host(h)
		row.Status = rapid.SampledFrom([]fleet.Status{fleet.StatusActive, fleet.StatusMaintenance, fleet.StatusRetired}).Draw(rt, "status")
		row.StatusWhy = rapid.StringN(0, 20, -1).Draw(rt, "why")
		w.hosts[h] = row
		return tx.PutHost(row)
	case 1:
		id := fleet.OperationID(rapid.SampledFrom([]string{"o-1", "o-2", "o-3", "o-4"}).Draw(rt, "operation"))
		row := operation(id, h, rapid.SampledFrom(fleet.Phases()).Draw(rt, "phase"))
		row.Owner = rapid.SampledFrom([]string{"r-1", "r-2"}).Draw(rt, "owner")
		if _, there := w.ops[id]; !there {
			w.order = append(w.order, id)
		}
		w.ops[id] = row
		return tx.PutOperation(row)
	default:
		e := store.Event{At: t0, Who: "control", Kind: "k", Host: h, What: rapid.StringN(0, 20, -1).Draw(rt, "what")}
		seq, err := tx.AppendEvent(e)
		e.Seq = int64(len(w.events) + 1)
		if err == nil && seq != e.Seq {
			return fmt.Errorf("seq %d, want %d", seq, e.Seq)
		}
		w.events = append(w.events, e)
		return err
	}
}

func compare(r store.Reader, w twin) error {
	var errs []error
	check := func(what string, got any, err error, want any) {
		if err != nil {
			errs = append(errs, err)
		} else if d := diff(got, want); d != "" {
			errs = append(errs, fmt.Errorf("%s (-want +got):\n%s", what, d))
		}
	}
	byID := func(a, b fleet.Host) int { return cmp.Compare(a.ID, b.ID) }
	hosts, err := r.Hosts()
	check("hosts", hosts, err, slices.SortedFunc(maps.Values(w.hosts), byID))
	hosts, err = r.HostsByStatus(fleet.StatusActive)
	check("active hosts", hosts, err, keep(slices.SortedFunc(maps.Values(w.hosts), byID), func(h fleet.Host) bool { return h.Status == fleet.StatusActive }))

	var ops []fleet.Operation
	for _, id := range w.order {
		ops = append(ops, w.ops[id])
	}
	got, err := r.OpenOperations()
	check("open operations", got, err, keep(ops, func(o fleet.Operation) bool { return !o.Phase.Ended() }))
	got, err = r.OperationsOf("r-1")
	check("operations of r-1", got, err, keep(ops, func(o fleet.Operation) bool { return o.Owner == "r-1" }))
	onA := keep(ops, func(o fleet.Operation) bool { return o.Host == "a" })
	slices.Reverse(onA)
	got, err = r.OperationsOn("a", 0)
	check("operations on a", got, err, onA)

	last := w.events[max(0, len(w.events)-10):]
	events, err := r.Events(store.EventQuery{Limit: 10, Newest: true})
	check("newest events", events, err, last)
	return errors.Join(errs...)
}

func keep[T any](vs []T, f func(T) bool) (kept []T) {
	for _, v := range vs {
		if f(v) {
			kept = append(kept, v)
		}
	}
	return kept
}
