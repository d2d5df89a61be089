package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/grant"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/internal/store/sqlite"
	"github.com/kernwave/kernwave/rollout"
)

// differs says what an index says otherwise than one that was made from scratch; empty: nothing.
func (x *index) differs(scratch *index) string {
	for _, f := range []struct {
		what      string
		got, want any
	}{
		{"hosts", x.hosts, scratch.hosts}, {"rows", x.rows, scratch.rows}, {"odd", x.odd, scratch.odd}, {"open", x.open, scratch.open}, {"rollouts", len(x.rollouts), len(scratch.rollouts)},
	} {
		if !reflect.DeepEqual(f.got, f.want) {
			return fmt.Sprintf("%s: got %v, want %v", f.what, f.got, f.want)
		}
	}
	for h := range scratch.unheard {
		if !x.unheard[h] {
			return fmt.Sprintf("%s was never heard, and is not among those", h)
		}
	}
	for i, t := range x.order {
		w := scratch.order[i]
		if !reflect.DeepEqual(t.n, w.n) || !reflect.DeepEqual(t.r, w.r) || !reflect.DeepEqual(t.ops, w.ops) || !reflect.DeepEqual(t.x, w.x) ||
			t.open != w.open || t.checksum != w.checksum || x.rollouts[t.n.Row.ID] != t {
			return fmt.Sprintf("rollout %s:\ngot  %+v\nwant %+v", t.n.Row.ID, t, w)
		}
	}
	return ""
}

// checkIndex holds the index that ticks hand on against one from scratch, and who it says may be out against all.
func (h *house) checkIndex() {
	h.t.Helper()
	if err := h.st.View(h.t.Context(), func(r store.Reader) error {
		w, giveBack, err := h.c.borrow(r, h.now)
		if err != nil {
			return err
		}
		defer giveBack()
		scratch, err := h.c.load(r, h.now)
		if err != nil {
			return err
		}
		maybe := w.maybeOut()
		if d := w.x.differs(scratch.x); d != "" {
			h.t.Fatalf("the index, %s", d)
		}
		if err := w.sameGroups(); err != nil {
			h.t.Fatal(err)
		}
		for id, host := range w.hot.Hosts.All() {
			if why := w.out(host); why != "" && !maybe[id] {
				h.t.Fatalf("%s %s, and is not looked at for the budget", id, why)
			}
		}
		return nil
	}); err != nil {
		h.t.Fatal(err)
	}
}

// TestIndexFollowsAnyChange writes hosts, operations and rollouts in any order, in transactions that sometimes fail,
// and lets the index follow in their middle and after them.
func TestIndexFollowsAnyChange(t *testing.T) {
	st, err := sqlite.OpenTemp(sqlite.Options{Rand: rand.New(rand.NewSource(1))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	if _, err := st.Begin(t.Context(), store.Place{MachineID: "m", Dir: "d", Instance: "i"}); err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{}, st, &stopFlag{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c.heard("a", time.Now())
	errWanted := errors.New("wanted")
	check := func(rt *rapid.T, h *store.Hot) {
		rt.Helper()
		scratch := newIndex(c)
		if err := errors.Join(c.index.follow(h), scratch.follow(h)); err != nil {
			rt.Fatal(err)
		}
		if d := c.index.differs(scratch); d != "" {
			rt.Fatal(d)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		for range rapid.IntRange(1, 4).Draw(rt, "updates") {
			fails := rapid.Bool().Draw(rt, "fails")
			err := st.Update(context.Background(), func(tx store.Tx) error {
				for range rapid.IntRange(1, 5).Draw(rt, "writes") {
					if err := putAny(rt, tx); err != nil {
						return err
					}
					if h, err := tx.Hot(); err != nil {
						return err
					} else if rapid.Bool().Draw(rt, "follow") {
						check(rt, h)
					}
				}
				if fails {
					return errWanted
				}
				return nil
			})
			if err != nil && !errors.Is(err, errWanted) {
				rt.Fatal(err)
			}
			if err := st.View(context.Background(), func(r store.Reader) error {
				h, err := r.Hot()
				if err == nil {
					check(rt, h)
				}
				return err
			}); err != nil {
				rt.Fatal(err)
			}
		}
	})
}

func putAny(rt *rapid.T, tx store.Tx) error {
	pick := func(what string, from ...string) string { return rapid.SampledFrom(from).Draw(rt, what) }
	yes := func(what string) bool { return rapid.Bool().Draw(rt, what) }
	id := fleet.HostID(pick("host", "a", "b", "c", "d"))
	switch pick("kind", "host", "operation", "operation", "operation", "rollout") {
	case "host":
		h := fleet.Host{ID: id, Status: fleet.Status(pick("status", "active", "maintenance", "retired"))}
		h.Now.InService = yes("in service")
		if yes("frozen") {
			h.Frozen = "two machines"
		}
		return tx.PutHost(h)
	case "operation":
		op := fleet.Operation{
			ID: fleet.OperationID(pick("operation", "o-1", "o-2", "o-3", "o-4", "o-5")), Host: id, Owner: pick("owner", "r-1", "r-2", "lost"),
			Phase: rapid.SampledFrom(fleet.Phases()).Draw(rt, "phase"), Stage: rapid.IntRange(-1, 1).Draw(rt, "stage"),
		}
		if yes("problem") {
			op.Problem = &fleet.Problem{Cause: fleet.CauseCheck, What: "it is bad"}
		}
		return tx.PutOperation(op)
	}
	p := rollout.Plan{Kernel: fleet.Kernel{ID: "k"}, Stages: []rollout.StagePlan{{}, {}}}
	for _, h := range []fleet.HostID{"a", "b", "c"}[:rapid.IntRange(1, 3).Draw(rt, "hosts")] {
		p.Hosts = append(p.Hosts, rollout.PlanHost{ID: h, Type: "t"})
	}
	row := store.Rollout{ID: pick("rollout", "r-1", "r-2"), Open: yes("open")}
	var errs [3]error
	row.Spec, errs[0] = json.Marshal(rollout.Spec{Kernel: "k"})
	row.Plan, errs[1] = json.Marshal(p)
	row.State, errs[2] = json.Marshal(rollout.State{Paused: pick("paused", "", "by ada"), Stages: make([]rollout.StageState, 2)})
	return errors.Join(append(errs[:], tx.PutRollout(row))...)
}

// sameGroups holds the groups that the index keeps against those that the rows say, and lets it keep everybody's.
func (w *world) sameGroups() error {
	bs, err := budgets(w.r)
	if err != nil {
		return err
	}
	var by []grant.Budget
	for _, b := range bs {
		by = append(by, grant.Budget{By: b.By})
	}
	for id := range w.hot.Hosts.All() {
		if got, want := w.groups(by, id), w.findGroups(by, id); !maps.Equal(got, want) {
			return fmt.Errorf("the index has %s in %v, and it is in %v", id, got, want)
		}
	}
	return nil
}
