package control

import (
	"context"
	"testing"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
)

// TestWhatMayLeaveServiceIsNotAnsweredFromMemory: memory answers the idle host that says nothing new, and nobody else.
func TestWhatMayLeaveServiceIsNotAnsweredFromMemory(t *testing.T) {
	h := newHouse(t, "m")
	h.run(60e9, nil)
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
	h.restart()
	if _, ok := h.c.memoryFor(rep); ok {
		t.Error("a host is answered from what another control plane knew")
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
