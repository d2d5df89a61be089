package control

import (
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
)

const year = 365 * 24 * time.Hour

func TestClockJump(t *testing.T) {
	now := time.Now() // with a monotonic reading
	for _, c := range []struct {
		name      string
		last, now time.Time
		want      time.Duration
	}{
		{"a second passed", now, now.Add(time.Second), 0},
		{"without a monotonic reading, a year passed", now.Round(0), now.Add(year).Round(0), 0},
		{"without one, a year back", now.Round(0), now.Add(-year).Round(0), -year},
	} {
		if got := clockJump(c.last, c.now); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestClockSetBackInAWave: no grant outlives the clock that gave it, nobody counts as heard in a future, everything
// stops, and after a person has lifted the stop the rollout ends as it should.
func TestClockSetBackInAWave(t *testing.T) {
	for _, phase := range []fleet.Phase{fleet.PhasePrepared, fleet.PhaseDraining, fleet.PhaseDrained, fleet.PhaseRebooting, fleet.PhaseTrial, fleet.PhasePassed} {
		t.Run(string(phase), func(t *testing.T) {
			h := newHouse(t, "a", "a", "a")
			h.now = h.now.Add(year) // it was wrong from the beginning
			halted := ""
			h.c.cfg.Halt = func(_, why string, _ time.Time) error { halted, h.stop.why = why, why; return nil }
			r := h.start(operator.RolloutSpec{})
			busy := func() *simHost {
				for _, s := range h.hosts {
					if s.op != nil && s.op.Phase == phase {
						return s
					}
				}
				return nil
			}
			if !h.run(time.Hour, func() bool { return busy() != nil }) {
				t.Fatalf("never %s", phase)
			}
			s := busy()
			grants := h.liveGrants()
			h.now = h.now.Add(-year)
			for _, s := range h.hosts { // their own clocks are as they were
				s.next, s.grantUntil = s.next.Add(-year), s.grantUntil.Add(-year)
				if !s.upAt.IsZero() {
					s.upAt = s.upAt.Add(-year)
				}
			}
			if phase.BeforeReboot() {
				if err := h.st.View(t.Context(), func(r store.Reader) error {
					op, err := r.Operation(s.op.ID)
					if err != nil {
						return err
					}
					g, err := h.c.liveGrant(r, op, h.now)
					if g != nil {
						t.Errorf("a grant of the future is given on, for %s", g.Life)
					}
					return err
				}); err != nil {
					t.Fatal(err)
				}
				for _, g := range grants {
					c, err := h.c.ConfirmReboot(t.Context(), s.id, s.op.ID, g.ID, h.now)
					if err != nil || c.Yes {
						t.Errorf("confirmed under a grant of the future: %+v, %v", c, err)
					}
				}
			}
			idle := h.hosts[0] // goes down at the same moment
			if idle == s {
				idle = h.hosts[1]
			}
			idle.down = true
			h.run(time.Second, nil)
			if !strings.Contains(halted, "jumped backward") || len(h.events("clock.jumped")) != 1 {
				t.Errorf("halted %q, events %v", halted, h.events("clock.jumped"))
			}
			h.run(5*time.Minute, nil)
			if n := len(h.liveGrants()); n != 0 && phase.BeforeReboot() {
				t.Errorf("%d grants are live five minutes later: %+v", n, h.liveGrants())
			}
			if !h.host(idle.id).Silent {
				t.Error("a host that says nothing counts as heard, in the future")
			}
			idle.down, h.stop.why = false, ""
			for range 10 { // what was called off waits for a person
				if h.run(time.Hour, h.status(r.ID, "done")) {
					return
				}
				h.change(operator.Change{Rollout: r.ID, Action: "resume"})
			}
			t.Errorf("not done: %s\n%s", h.rollout(r.ID).Next, h.dump())
		})
	}
}

// TestClockBehindTheRecord: it was set back while the control plane was down.
func TestClockBehindTheRecord(t *testing.T) {
	h := newHouse(t, "a")
	h.start(operator.RolloutSpec{})
	h.run(time.Minute, nil)
	h.now = h.now.Add(-year)
	h.restart()
	halted := ""
	h.c.cfg.Halt = func(_, why string, _ time.Time) error { halted, h.stop.why = why, why; return nil }
	h.run(2*time.Second, nil)
	if !strings.Contains(halted, "newest event in the record") {
		t.Errorf("halted %q", halted)
	}
	halted = ""
	h.restart()
	h.run(2*time.Second, nil)
	if halted != "" || len(h.events("clock.jumped")) != 1 {
		t.Errorf("said twice: %q, %v", halted, h.events("clock.jumped"))
	}
}
