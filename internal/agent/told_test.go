package agent_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent"
	"github.com/kernwave/kernwave/internal/agent/agenttest"
	"github.com/kernwave/kernwave/internal/wire"
)

// TestHistoryIsToldWhenAsked: a control plane that has forgotten learns what ended, also from an agent that was
// restarted since; and nobody else is bothered with it.
func TestHistoryIsToldWhenAsked(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.host.Change(func(m *agenttest.Machine) {
			m.Kernels = map[string]agenttest.Behaviour{newRelease: {Panic: strings.Repeat("long ago, ", 500) + "Kernel panic"}}
		})
		first := update("op-1")
		first.Owner, first.Stage = "r-7", 2
		w.set(func(w *world) { w.want = first })
		if r := w.untilEnd(soonEnough); r.Operation.Phase != fleet.PhaseFellBack || r.Operation.Owner != "r-7" || r.Operation.Stage != 2 {
			t.Fatalf("got %+v", r.Operation)
		}
		second := update("op-2")
		second.Kernel.Release = oldRelease // runs already
		w.set(func(w *world) { w.want, w.phases = second, nil })
		w.until("the second has ended", soonEnough, func(r fleet.Report) bool { return r.Operation.ID == "op-2" && r.Operation.Phase.Ended() })
		if r := w.last(); r.History != nil {
			t.Errorf("nobody asked for %+v", r.History)
		}
		w.host.KillAgent()
		w.set(func(w *world) { w.forgot = true })
		r := w.until("told", soonEnough, func(r fleet.Report) bool { return r.History != nil })
		h := r.History.Ended
		if len(h) != 2 || h[0].ID != "op-1" || h[1].ID != "op-2" {
			t.Fatalf("history: %+v", h)
		}
		if o := h[0]; o.Phase != fleet.PhaseFellBack || o.Owner != "r-7" || o.Stage != 2 || o.Release != newRelease ||
			o.Problem == nil || !strings.HasSuffix(o.Problem.Evidence, "Kernel panic") || len(o.Problem.Evidence) > 1000 {
			t.Errorf("the first: %+v, %+v", o, o.Problem)
		}
		if o := h[1]; o.Phase != fleet.PhaseCommitted || o.Trial == nil || o.Trial.Tried() {
			t.Errorf("the second: %+v, %+v: it must still be seen that there was no trial", o, o.Trial)
		}
		w.set(func(w *world) { w.forgot = false })
		time.Sleep(time.Minute)
		if r := w.last(); r.History != nil {
			t.Errorf("told again, unasked: %+v", r.History)
		}
	})
}

// TestHistoryFits: whatever the operations said, what is told of them stays below what a control plane accepts.
func TestHistoryFits(t *testing.T) {
	var m agent.Model
	long := strings.Repeat("é", 10_000)
	at := agent.Moment{BootID: "b", Release: oldRelease, Uptime: time.Minute}
	for i := range 100 {
		d := update(fleet.OperationID(fmt.Sprintf("o-%d-0123abcd", i)))
		d.Owner = "r-7"
		m.Answered(fleet.Desired{Operation: d}, time.Minute, at)
		var tr fleet.Trial
		for range 300 {
			tr.Checks = append(tr.Checks, fleet.Check{Name: long, Detail: long})
		}
		m.Tried(tr, fleet.CauseCheck, long, at) // not that it could have got so far
		m.Ready(at)
	}
	h := m.History()
	if n := len(h.Ended); n != 24 || h.Ended[n-1].ID != "o-99-0123abcd" || h.Ended[0].ID != "o-76-0123abcd" {
		t.Errorf("%d operations are told", n)
	}
	if size := proto.Size(wire.ReportToProto(fleet.Report{History: h})); size > 96<<10 {
		t.Errorf("the history takes %d bytes", size)
	}
}
