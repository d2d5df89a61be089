package control

import (
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
)

// TestAnAgentRestartedAfterItsYesAsksAgain: it has said that it reboots, and is still here. It keeps its grant and gets
// its answer; a stop or a pause in between is obeyed; and a host that has rebooted has nothing to ask.
func TestAnAgentRestartedAfterItsYesAsksAgain(t *testing.T) {
	h := newHouse(t, "a")
	r := h.start(operator.RolloutSpec{})
	s := h.hosts[0]
	if !h.run(time.Minute, func() bool { return s.op != nil && s.op.Phase == fleet.PhaseDrained }) {
		t.Fatal(h.dump())
	}
	g := h.liveGrants()[0]
	confirm := func() fleet.Confirmation {
		a, err := h.c.ConfirmReboot(t.Context(), s.id, s.op.ID, g.ID, h.now)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	says := func(boot string) fleet.Desired {
		f := s.facts()
		op := *s.op
		op.Phase, op.FromBootID = fleet.PhaseRebooting, "h0-1"
		s.seq++
		d, err := h.c.CheckIn(t.Context(), fleet.Report{
			Host: s.id, Seq: s.seq, Answered: s.answered, FactsHash: f.Hash(), Facts: f, Operation: &op,
			Now: fleet.HostState{BootID: boot, Release: s.release, NotInServiceWhy: "in an operation"},
		}, h.now)
		if err != nil {
			t.Fatal(err)
		}
		s.answered = d.Answer
		return d
	}
	if a := confirm(); !a.Yes {
		t.Fatalf("first: %+v", a)
	}
	d := says("h0-1")
	if d.Operation == nil || d.Operation.Grant == nil || d.Operation.Grant.ID != g.ID {
		t.Errorf("here, and rebooting: %+v", d.Operation)
	}
	if a := confirm(); !a.Yes {
		t.Errorf("again: %+v", a)
	}
	h.stop.why = "by ada: fire"
	if a, d := confirm(), says("h0-1"); a.Yes || d.Operation.Word != fleet.WordCancel {
		t.Errorf("stopped: %+v, %+v", a, d.Operation)
	}
	h.stop.why = ""
	h.change(operator.Change{Rollout: r.ID, Action: "pause", Why: "lunch"})
	if a := confirm(); a.Yes || !strings.Contains(a.WhyNot, "lunch") {
		t.Errorf("paused: %+v", a)
	}
	h.change(operator.Change{Rollout: r.ID, Action: "resume"})
	s.seq, s.answered = 0, ""
	says("h0-2") // the first report of a boot is asked for again
	if d := says("h0-2"); d.Operation == nil || d.Operation.Grant != nil {
		t.Errorf("in another boot: %+v", d.Operation)
	}
	if a := confirm(); a.Yes {
		t.Error("in another boot it may reboot again")
	}
}
