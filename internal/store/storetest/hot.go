package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"testing"

	"pgregory.net/rapid"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/store"
)

// testHot scribbles in updates that succeed, fail or panic, and lets other processes take over. After each, what the
// store keeps in memory is what a store reads that was opened just now.
func testHot(t *testing.T, open Open) {
	s := begun(t, open)
	starts := 0
	rapid.Check(t, func(rt *rapid.T) {
		for range rapid.IntRange(1, 5).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"update", "update", "update", "fail", "panic", "take over"}).Draw(rt, "step") {
			case "update":
				if err := s.Update(t.Context(), func(tx store.Tx) error { return Scribble(rt, tx) }); err != nil {
					rt.Fatal(err)
				}
			case "fail":
				if err := s.Update(t.Context(), func(tx store.Tx) error { return errors.Join(Scribble(rt, tx), errWanted) }); !errors.Is(err, errWanted) {
					rt.Fatal(err)
				}
			case "panic":
				func() {
					defer func() { _ = recover() }()
					_ = s.Update(t.Context(), func(tx store.Tx) error {
						if err := Scribble(rt, tx); err != nil {
							return err
						}
						panic("wanted")
					})
				}()
			case "take over":
				old := s
				s = open(t)
				starts++
				p := here
				p.Instance = fmt.Sprint("another ", starts)
				if _, err := s.Begin(t.Context(), p); err != nil {
					rt.Fatal(err)
				}
				if err := s.Update(t.Context(), func(tx store.Tx) error { return Scribble(rt, tx) }); err != nil {
					rt.Fatal(err)
				}
				if err := old.Update(t.Context(), func(store.Tx) error { return nil }); !errors.Is(err, store.ErrFenced) {
					rt.Fatalf("the old one: got %v, want ErrFenced", err)
				}
				if err := old.View(t.Context(), func(store.Reader) error { return nil }); !errors.Is(err, store.ErrFenced) {
					rt.Fatalf("what the old one reads: got %v, want ErrFenced", err)
				}
				_ = old.Close()
			}
			fresh := open(t)
			if d := DiffHot(t, s, fresh); d != "" {
				rt.Fatalf("what is kept, against what was just read (-want +got):\n%s", d)
			}
			if err := fresh.Close(); err != nil {
				rt.Fatal(err)
			}
		}
	})
}

// testHotIsASnapshot: a view keeps its hot rows while others are written, and so does who kept them.
func testHotIsASnapshot(t *testing.T, open Open) {
	s := begun(t, open)
	update(t, s, func(tx store.Tx) error { return tx.PutHost(fleet.Host{ID: "a", StatusWhy: "before"}) })
	var before *store.Hot
	view(t, s, func(r store.Reader) error {
		update(t, s, func(tx store.Tx) error {
			if err := tx.PutHost(fleet.Host{ID: "a", StatusWhy: "after"}); err != nil {
				return err
			}
			own, err := tx.Hot()
			same(t, "in the update that wrote it", own.Hosts.Get("a").StatusWhy, "after")
			return err
		})
		h, err := r.Host("a")
		if err != nil {
			return err
		}
		before, err = r.Hot()
		same(t, "asked for after the write, in a view from before", h.StatusWhy, "before")
		return err
	})
	same(t, "kept from before", before.Hosts.Get("a").StatusWhy, "before")
	same(t, "the last that was written", s.Last().Hosts.Get("a").StatusWhy, "after")
	var changed []fleet.HostID
	s.Last().Hosts.Since(before.Hosts, func(id fleet.HostID, was, is *fleet.Host) { changed = append(changed, id) })
	same(t, "changed between the two", changed, []fleet.HostID{"a"})
}

// testHotIsACopy: what a caller does to a row after it was put changes nothing.
func testHotIsACopy(t *testing.T, open Open) {
	s := begun(t, open)
	h := host("a")
	update(t, s, func(tx store.Tx) error { return tx.PutHost(h) })
	h.Facts.Labels["workload"] = "changed later"
	h.Facts.Disks[0].Name = "changed later"
	same(t, "the row that was put", *s.Last().Hosts.Get("a"), host("a"))
}

// DiffHot compares the hot rows of two stores on the same data, of which the second was just opened.
func DiffHot(t testing.TB, got, fresh store.Store) string {
	t.Helper()
	hot, known := got.Fresh()
	var hots [2]map[string]any
	for i, s := range []store.Store{got, fresh} {
		view(t, s, func(r store.Reader) error {
			h, err := r.Hot()
			if err == nil {
				hots[i] = plain(h)
			}
			return err
		})
	}
	if d := diff(hots[0], hots[1]); d != "" || !known {
		return d
	}
	return diff(plain(hot), hots[1])
}

func plain(h *store.Hot) map[string]any {
	return map[string]any{
		"epoch": h.Epoch, "writes": h.Writes, "hosts": maps.Collect(h.Hosts.All()), "operations": maps.Collect(h.Operations.All()),
		"newest": maps.Collect(h.Newest.All()), "grants": maps.Collect(h.Grants.All()), "rollouts": maps.Collect(h.Rollouts.All()),
		"incidents": maps.Collect(h.Incidents.All()), "kernels": h.Kernels, "approvals": h.Approvals, "budgets": h.Budgets,
		"lengths": []int{h.Hosts.Len(), h.Operations.Len(), h.Newest.Len(), h.Grants.Len(), h.Rollouts.Len(), h.Incidents.Len()},
	}
}

// Scribble writes a few rows of any kind: few ids, so that rows meet again, and every way in which a row becomes hot
// or stops to be.
func Scribble(rt *rapid.T, tx store.Tx) error {
	for range rapid.IntRange(0, 6).Draw(rt, "writes") {
		if err := scribble(rt, tx); err != nil {
			return err
		}
	}
	return nil
}

func scribble(rt *rapid.T, tx store.Tx) error {
	pick := func(what string, from ...string) string { return rapid.SampledFrom(from).Draw(rt, what) }
	id := pick("id", "1", "2", "3", "4")
	h := fleet.HostID(pick("host", "a", "b", "c"))
	yes := rapid.Bool().Draw(rt, "yes")
	switch pick("kind", "host", "operation", "operation", "operation", "grant", "rollout", "rollout", "incident", "kernel", "approval", "withdrawal", "budget", "event") {
	case "host":
		row := host(h)
		row.StatusWhy = pick("why", "x", "y")
		return tx.PutHost(row)
	case "operation":
		row := operation(fleet.OperationID("o-"+id), h, rapid.SampledFrom(fleet.Phases()).Draw(rt, "phase"))
		row.Owner = pick("owner", "r-1", "r-2", "r-3")
		return tx.PutOperation(row)
	case "grant":
		row := rows.grant
		row.ID, row.Host = fleet.GrantID("g-"+id), h
		if yes {
			row.EndedAt = t0
		}
		return tx.PutGrant(row)
	case "rollout":
		row := rows.rollout
		row.ID, row.Open = "r-"+id, yes
		row.Plan = json.RawMessage(pick("plan", `[1]`, `[2]`, ``))
		row.State = json.RawMessage(pick("state", `{"a":1}`, `{"a":2}`))
		return tx.PutRollout(row)
	case "incident":
		row := rows.incident
		row.ID = "i-" + id
		if yes {
			row.ClosedAt = t0
		}
		return tx.PutIncident(row)
	case "kernel":
		k := kernel(fleet.KernelID("k-" + id))
		if _, err := tx.Kernel(k.ID); err == nil {
			return nil
		}
		return tx.AddKernel(k)
	case "approval":
		_, err := tx.AppendApproval(rows.approval)
		return err
	case "withdrawal":
		as, err := tx.Approvals("")
		if err != nil || len(as) == 0 {
			return err
		}
		return tx.WithdrawApproval(as[len(as)/2].ID, "alice", "why", t0)
	case "budget":
		if yes {
			return tx.DeleteBudget("label:" + id)
		}
		return tx.PutBudget(store.Budget{By: "label:" + id, Limit: rapid.IntRange(1, 3).Draw(rt, "limit")})
	case "event":
		_, err := tx.AppendEvent(rows.event)
		return err
	}
	return nil
}
