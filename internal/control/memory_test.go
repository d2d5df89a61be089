package control

import (
	"context"
	"errors"
	"reflect"
	"testing"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
)

// unsure is a store that never knows whether somebody else has written.
type unsure struct{ store.Store }

func (unsure) Fresh() (*store.Hot, bool) { return nil, false }

// TestWhatMayLeaveServiceIsNotAnsweredFromMemory: memory that may be behind answers the idle host that says nothing new,
// and nobody else.
func TestWhatMayLeaveServiceIsNotAnsweredFromMemory(t *testing.T) {
	h := newHouse(t, "m")
	h.run(60e9, nil)
	sure := h.c.store
	h.c.store = unsure{sure}
	rep := fleet.Report{Host: "h0"}
	if _, ok := h.c.memoryFor(rep); !ok {
		t.Error("an idle host is not answered from memory")
	}
	if _, ok := h.c.memoryFor(fleet.Report{Host: "nobody"}); ok {
		t.Error("a host that there is not is answered from memory")
	}
	newer := fleet.Report{Host: "h0", Seen: fleet.Incarnation{Incarnation: 9}}
	if _, ok := h.c.memoryFor(newer); ok {
		t.Error("a host that obeys a newer control plane is answered from memory")
	}
	h.start(operator.RolloutSpec{Kernel: "new"})
	h.run(3e9, nil)
	if _, ok := h.c.memoryFor(rep); ok {
		t.Error("a host with an open operation is answered from memory")
	}
	h.c.store = sure
	h.restart()
	if _, ok := h.c.memoryFor(rep); ok {
		t.Error("a host is answered from what another control plane knew")
	}
}

// TestSureMemoryAnswersLikeTheStore: while a host is in its operation, memory that cannot be behind says of everything
// that its check-ins ask for what the store says.
func TestSureMemoryAnswersLikeTheStore(t *testing.T) {
	h := newHouse(t, "m", "m")
	r := h.start(operator.RolloutSpec{Kernel: "new"})
	asked := 0
	if !h.run(3600e9, func() bool {
		for _, s := range h.hosts {
			m, ok := h.c.memoryFor(fleet.Report{Host: s.id})
			n := (*store.Numbered[fleet.Operation])(nil)
			if ok {
				n = m.hot.Newest.Get(s.id)
			}
			if n == nil || n.Row.Phase.Ended() {
				continue
			}
			asked++
			if err := h.st.View(t.Context(), func(st store.Reader) error {
				var said [2]any
				for i, r := range []store.Reader{m, st} {
					host, err1 := r.Host(s.id)
					op, err2 := r.Operation(n.Row.ID)
					row, err3 := r.Rollout(n.Row.Owner)
					k, err4 := r.Kernel(n.Row.Kernel)
					_, none := r.Kernel("no such kernel")
					g, err5 := h.c.liveGrant(r, op, h.now)
					if err := errors.Join(err1, err2, err3, err4, err5); err != nil || !errors.Is(none, store.ErrNotFound) {
						t.Fatalf("%T: %v, %v", r, err, none)
					}
					said[i] = []any{host, op, row, k, g}
				}
				if !reflect.DeepEqual(said[0], said[1]) {
					t.Fatalf("memory says %+v\nthe store %+v", said[0], said[1])
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		return h.status(r.ID, "done")()
	}) {
		t.Fatal("not done")
	}
	if asked < 20 {
		t.Errorf("only %d hosts in an operation were asked about", asked)
	}
}

// TestMemoryAnswersLikeTheStore asks both for what a check-in asks.
func TestMemoryAnswersLikeTheStore(t *testing.T) {
	h := newHouse(t, "m", "m")
	r := h.start(operator.RolloutSpec{Kernel: "new"})
	if !h.run(3600e9, h.status(r.ID, "done")) {
		t.Fatal("not done")
	}
	h.run(60e9, nil)
	for _, s := range h.hosts {
		m, ok := h.c.memoryFor(fleet.Report{Host: s.id})
		if !ok {
			t.Fatalf("%s is not answered from memory", s.id)
		}
		if err := h.st.View(context.Background(), func(st store.Reader) error {
			for _, r := range []store.Reader{m, st} {
				host, err := r.Host(s.id)
				if err != nil || host.Now.Release != newRelease {
					t.Errorf("%T: host %+v, %v", r, host.Now, err)
				}
				ops, err := r.OperationsOn(s.id, 1)
				if err != nil || len(ops) != 1 || ops[0].Phase != fleet.PhaseCommitted {
					t.Fatalf("%T: operations %+v, %v", r, ops, err)
				}
				if op, err := r.Operation(ops[0].ID); err != nil || op.ID != ops[0].ID {
					t.Errorf("%T: operation %+v, %v", r, op, err)
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHostOutOfServiceUsesTheBudgetUp: also one that no operation took out, and that is heard.
func TestHostOutOfServiceUsesTheBudgetUp(t *testing.T) {
	h := newHouse(t, "m", "m")
	h.run(60e9, nil)
	h.hosts[1].outOfService = true
	h.run(40e9, nil) // checkIndex looks, too
	_, use, err := h.c.Budgets(t.Context(), h.now)
	if err != nil || len(use) != 1 || len(use[0].Out) != 1 || use[0].Out[0].Host != "h1" {
		t.Errorf("in use: %+v, %v; want h1 alone", use, err)
	}
}
