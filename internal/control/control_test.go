package control

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
)

func TestGoodKernelReachesEveryHost(t *testing.T) {
	h := newHouse(t, "a", "b", "a", "b", "a", "b", "a")
	r := h.start(operator.RolloutSpec{})
	if !h.run(time.Hour, h.status(r.ID, "done")) {
		t.Fatalf("not done: %s\n%s", h.rollout(r.ID).Next, h.dump())
	}
	for _, s := range h.hosts {
		if s.release != newRelease || s.deflt != newRelease || len(s.reboots) != 1 {
			t.Errorf("%s runs %s, default %s, %d reboots", s.id, s.release, s.deflt, len(s.reboots))
		}
	}
	if n := len(h.events("stage.skipped")); n == 0 {
		t.Error("1 % of 7 hosts are canaries already: the wave was not said to be skipped")
	}
	if n := len(h.events("approval.given")); n != 2 {
		t.Errorf("%d approvals, want one for each type", n)
	}
	h.run(10*time.Second, nil)
	if gs := h.liveGrants(); len(gs) != 0 {
		t.Errorf("grants still held: %+v", gs)
	}
	// Approved types need no canaries the next time, and nobody is left to update.
	if _, err := h.c.PlanRollout(t.Context(), "ada", operator.RolloutSpec{Kernel: "new"}, h.now); err == nil || !strings.Contains(err.Error(), "already runs") {
		t.Errorf("a second rollout: %v", err)
	}
}

func (h *house) liveGrants() []store.Grant {
	var gs []store.Grant
	_ = h.st.View(h.t.Context(), func(r store.Reader) (err error) { gs, err = r.LiveGrants(); return err })
	return gs
}

func TestPanickingKernelStopsAtItsCanary(t *testing.T) {
	h := newHouse(t, "a", "b", "a", "b", "a", "b")
	for _, s := range h.hosts {
		s.panics = s.model == "b"
	}
	r := h.start(operator.RolloutSpec{})
	if !h.run(time.Hour, h.status(r.ID, "paused")) {
		t.Fatal(h.dump())
	}
	paused := h.now
	h.run(10*time.Minute, nil)
	touched := map[string]int{}
	for _, s := range h.hosts {
		if s.prepared > 0 {
			touched[s.model]++
		}
		for _, at := range s.reboots {
			if at.Sub(paused) > fleet.ConfirmLife {
				t.Errorf("%s began a reboot %s after the pause", s.id, at.Sub(paused))
			}
		}
		if s.panics && (s.release != oldRelease || s.deflt != oldRelease) {
			t.Errorf("%s runs %s, default %s", s.id, s.release, s.deflt)
		}
	}
	if touched["b"] != 1 || touched["a"] != 1 {
		t.Errorf("touched %v, want one canary of each type", touched)
	}
	_, is := h.incidents()
	if len(is) != 1 || !strings.Contains(is[0].Saw, "came back on "+oldRelease) || len(is[0].Choices) < 3 || is[0].NoEvidence == "" {
		t.Errorf("incidents: %+v", is)
	}
	// The operator leaves the type out and goes on: the other type gets the kernel.
	h.change(operator.Change{Rollout: r.ID, Action: "leave-out", Type: is[0].Type, Why: "panics there"})
	h.change(operator.Change{Rollout: r.ID, Action: "resume"})
	if !h.run(time.Hour, h.status(r.ID, "done")) {
		t.Fatalf("%s\n%s", h.rollout(r.ID).Next, h.dump())
	}
	for _, s := range h.hosts {
		if want := map[string]string{"a": newRelease, "b": oldRelease}[s.model]; s.release != want {
			t.Errorf("%s runs %s", s.id, s.release)
		}
	}
}

func (h *house) incidents() (all int, open []store.Incident) {
	_ = h.st.View(h.t.Context(), func(r store.Reader) (err error) { open, err = r.Incidents(false); return err })
	return len(open), open
}

func TestFailedCheckRevertsAndPauses(t *testing.T) {
	h := newHouse(t, "a", "a")
	for _, s := range h.hosts {
		s.fails = true
	}
	r := h.start(operator.RolloutSpec{})
	if !h.run(time.Hour, h.status(r.ID, "paused")) {
		t.Fatal(h.dump())
	}
	if why := h.rollout(r.ID).StatusWhy; !strings.Contains(why, "check http failed") {
		t.Errorf("paused because %q", why)
	}
	h.run(5*time.Minute, nil)
	// Never offered again without a person, not even after a resume.
	h.change(operator.Change{Rollout: r.ID, Action: "resume"})
	h.run(5*time.Minute, nil)
	reboots := 0
	for _, s := range h.hosts {
		reboots += len(s.reboots)
	}
	if reboots != 1 {
		t.Errorf("%d reboots into the kernel, want the canary's one", reboots)
	}
	why, err := h.c.WhyHost(t.Context(), h.hosts[0].id, h.now)
	if err != nil || why.Why == "" {
		t.Errorf("why: %+v %v", why, err)
	}
}

func TestLostHostUsesTheBudgetUpUntilAPersonDecides(t *testing.T) {
	h := newHouse(t, "a", "a", "a")
	r := h.start(operator.RolloutSpec{})
	// The canary is good; whoever comes next hangs.
	if !h.run(time.Hour, func() bool { return h.rollout(r.ID).Stage > 0 }) {
		t.Fatal(h.dump())
	}
	for _, s := range h.hosts {
		s.hangs = s.release == oldRelease
	}
	if !h.run(time.Hour, h.status(r.ID, "paused")) {
		t.Fatal(h.dump())
	}
	if why := h.rollout(r.ID).StatusWhy; !strings.Contains(why, "did not return") {
		t.Errorf("paused because %q", why)
	}
	var lost *simHost
	for _, s := range h.hosts {
		if s.down {
			lost = s
		}
		s.hangs = false
	}
	h.change(operator.Change{Rollout: r.ID, Action: "resume"})
	h.run(time.Hour, nil)
	if n := len(h.events("reboot.confirmed")); n != 2 {
		t.Fatalf("%d reboots while a host is lost, want 2: no timeout frees the budget\n%s", n, h.dump())
	}
	var waiting fleet.HostID
	for _, s := range h.hosts {
		if s.release == oldRelease && !s.down {
			waiting = s.id
		}
	}
	why, err := h.c.WhyHost(t.Context(), waiting, h.now)
	if err != nil || !strings.Contains(why.Why, string(lost.id)) || !strings.Contains(why.Why, "budget spent") {
		t.Errorf("why %s: %+v %v", waiting, why, err)
	}
	if _, err := h.c.SetHostStatus(t.Context(), "ada", lost.id, fleet.StatusMaintenance, "broken board", h.now); err != nil {
		t.Fatal(err)
	}
	if !h.run(time.Hour, h.status(r.ID, "done")) {
		t.Fatalf("%s\n%s", h.rollout(r.ID).Next, h.dump())
	}
}

func TestDrainFailureGivesTheGrantBack(t *testing.T) {
	h := newHouse(t, "a", "b", "b")
	h.hosts[0].noDrain = true
	r := h.start(operator.RolloutSpec{})
	h.run(10*time.Minute, nil)
	got := h.rollout(r.ID)
	if got.Status != "running" || !strings.Contains(got.Next, "h0") {
		t.Errorf("status %s, waits for %q", got.Status, got.Next)
	}
	if len(h.hosts[0].reboots) != 0 || h.hosts[0].outOfService || len(h.liveGrants()) != 0 {
		t.Errorf("reboots %v, out %v, grants %v", h.hosts[0].reboots, h.hosts[0].outOfService, h.liveGrants())
	}
	h.hosts[0].noDrain = false
	h.change(operator.Change{Rollout: r.ID, Action: "retry", Host: "h0"})
	if !h.run(time.Hour, h.status(r.ID, "done")) {
		t.Fatalf("%s\n%s", h.rollout(r.ID).Next, h.dump())
	}
}

// TestKilledAtAnyInstant kills the control plane every few seconds, in a different second in each round.
func TestKilledAtAnyInstant(t *testing.T) {
	for every := 3; every <= 13; every += 5 {
		if testing.Short() && every > 3 {
			break // the race detector makes SQLite slow, and the first round kills most often
		}
		t.Run(fmt.Sprint(every), func(t *testing.T) {
			h := newHouse(t, "a", "b", "a", "b")
			r := h.start(operator.RolloutSpec{})
			done := false
			for i := 0; i < 4000 && !done; i++ {
				done = h.run(time.Duration(every)*time.Second, h.status(r.ID, "done"))
				h.restart()
			}
			if !done {
				t.Fatalf("%s\n%s", h.rollout(r.ID).Next, h.dump())
			}
			for _, s := range h.hosts {
				if len(s.reboots) != 1 || s.release != newRelease {
					t.Errorf("%s: %d reboots, runs %s", s.id, len(s.reboots), s.release)
				}
			}
		})
	}
}

func TestControlPlaneAway(t *testing.T) {
	h := newHouse(t, "a", "b", "a", "b", "a", "b")
	r := h.start(operator.RolloutSpec{})
	if !h.run(time.Hour, func() bool { return h.rollout(r.ID).Stage > 0 && len(h.liveGrants()) > 0 }) {
		t.Fatal(h.dump())
	}
	// Away: no ticks, no answers. A host without answers cannot begin anything in this test, so what is checked is
	// the other side: grants that ran out meanwhile are no grants afterwards.
	var before []store.Grant = h.liveGrants()
	h.now = h.now.Add(2 * time.Minute)
	h.restart()
	for _, g := range before {
		a, err := h.c.ConfirmReboot(t.Context(), g.Host, g.Operation, g.ID, h.now)
		if err != nil || a.Yes || !strings.Contains(a.WhyNot, "ran out") {
			t.Errorf("confirmed under a grant that ran out: %+v %v", a, err)
		}
	}
	if !h.run(time.Hour, h.status(r.ID, "done")) {
		t.Fatalf("%s\n%s", h.rollout(r.ID).Next, h.dump())
	}
	// What ran out was not brought back to life: each reboot has a grant that was given less than a minute before.
	given := h.events("grant.given")
	for _, s := range h.hosts {
		for _, at := range s.reboots {
			if !slices.ContainsFunc(given, func(e store.Event) bool { return e.Host == s.id && !e.At.After(at) && at.Sub(e.At) < time.Minute }) {
				t.Errorf("%s rebooted at %s\n%s", s.id, at, h.dump())
			}
		}
	}
}

func TestAbortAndRollback(t *testing.T) {
	h := newHouse(t, "a", "a", "a", "a")
	r := h.start(operator.RolloutSpec{Waves: []int{50, 100}})
	if !h.run(time.Hour, func() bool { return h.rollout(r.ID).Stage == 2 && len(h.liveGrants()) > 0 }) {
		t.Fatal(h.dump())
	}
	h.change(operator.Change{Rollout: r.ID, Action: "abort", Why: "enough"})
	if !h.run(time.Hour, h.status(r.ID, "aborted")) {
		t.Fatalf("%s\n%s", h.rollout(r.ID).Next, h.dump())
	}
	h.run(time.Minute, nil)
	on := map[string]int{}
	for _, s := range h.hosts {
		on[s.release]++
	}
	if on[newRelease] < 2 || on[oldRelease] < 1 {
		t.Errorf("after the abort: %v", on)
	}
	h.change(operator.Change{Rollout: r.ID, Action: "rollback", Why: "all of it"})
	if !h.run(time.Hour, h.status(r.ID, "rolled-back")) {
		t.Fatalf("%s\n%s", h.rollout(r.ID).Next, h.dump())
	}
	for _, s := range h.hosts {
		if s.release != oldRelease || s.deflt != oldRelease {
			t.Errorf("%s runs %s, default %s", s.id, s.release, s.deflt)
		}
	}
	// Whoever rolls back does not want the next rollout to go without canaries.
	p, err := h.c.PlanRollout(t.Context(), "ada", operator.RolloutSpec{Kernel: "new"}, h.now)
	if err != nil || len(p.Types[0].Canaries) != 1 || len(h.events("approval.withdrawn")) != 1 {
		t.Errorf("after the rollback the plan has canaries %v, %v", p.Types, err)
	}
}

// TestWaveWaitsForWhoCommitted: a host that committed and then fell silent is no success; the next wave waits for it.
func TestWaveWaitsForWhoCommitted(t *testing.T) {
	h := newHouse(t, "a", "a", "a")
	soak := 10 * time.Minute // longer than it takes to notice that a host is silent
	r := h.start(operator.RolloutSpec{Soak: &soak})
	if !h.run(time.Hour, func() bool { return !h.rollout(r.ID).Stages[0].SoakUntil.IsZero() }) {
		t.Fatal(h.dump())
	}
	var gone *simHost
	for _, s := range h.hosts {
		if s.deflt == newRelease {
			gone = s
		}
	}
	gone.down = true
	h.run(time.Hour, nil)
	if got := h.rollout(r.ID); got.Stage != 0 || !strings.Contains(got.Next, string(gone.id)+" committed and is silent") {
		t.Fatalf("stage %d, waits for %q", got.Stage, got.Next)
	}
	gone.down = false
	if !h.run(time.Hour, h.status(r.ID, "done")) {
		t.Fatalf("%s\n%s", h.rollout(r.ID).Next, h.dump())
	}
}

// TestSilentHostIsNoCanary: it would only hold the canary run up.
func TestSilentHostIsNoCanary(t *testing.T) {
	h := newHouse(t, "a", "a", "a", "a")
	h.run(5*time.Second, nil)
	p, err := h.c.PlanRollout(t.Context(), "ada", operator.RolloutSpec{Kernel: "new"}, h.now)
	if err != nil {
		t.Fatal(err)
	}
	first := p.Types[0].Canaries[0]
	for _, s := range h.hosts {
		s.down = s.id == first
	}
	h.run(10*time.Minute, nil)
	if p, err = h.c.PlanRollout(t.Context(), "ada", operator.RolloutSpec{Kernel: "new"}, h.now); err != nil || p.Types[0].Canaries[0] == first {
		t.Errorf("canaries %v, %v; %s is silent", p.Types[0].Canaries, err, first)
	}
	// What was planned is what is started.
	r := h.start(operator.RolloutSpec{})
	if r.Types[0].Canaries[0] != p.Types[0].Canaries[0] {
		t.Errorf("planned canary %v, started %v", p.Types[0].Canaries, r.Types[0].Canaries)
	}
}

func TestStopAndPauseRefuseTheLastMoment(t *testing.T) {
	h := newHouse(t, "a")
	r := h.start(operator.RolloutSpec{})
	drained := func() bool { return h.hosts[0].op != nil && h.hosts[0].op.Phase == fleet.PhaseDrained }
	if !h.run(time.Minute, drained) {
		t.Fatal(h.dump())
	}
	g := h.liveGrants()[0]
	confirm := func() fleet.Confirmation {
		a, err := h.c.ConfirmReboot(t.Context(), "h0", g.Operation, g.ID, h.now)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	h.stop.why = "by ada: fire"
	if a := confirm(); a.Yes || !strings.Contains(a.WhyNot, "fire") {
		t.Errorf("stopped: %+v", a)
	}
	h.stop.why = ""
	h.change(operator.Change{Rollout: r.ID, Action: "pause", Why: "lunch"})
	if a := confirm(); a.Yes || !strings.Contains(a.WhyNot, "lunch") {
		t.Errorf("paused: %+v", a)
	}
	for _, c := range []struct {
		host fleet.HostID
		op   fleet.OperationID
		g    fleet.GrantID
		why  string
	}{
		{"other", g.Operation, g.ID, "no operation"},
		{"h0", "op-x", g.ID, "no operation"},
		{"h0", g.Operation, "g-x", "no grant"},
	} {
		a, err := h.c.ConfirmReboot(t.Context(), c.host, c.op, c.g, h.now)
		if err != nil || a.Yes || !strings.Contains(a.WhyNot, c.why) {
			t.Errorf("%+v: %+v %v", c, a, err)
		}
	}
}

func TestBadWishesOfOperators(t *testing.T) {
	h := newHouse(t, "a", "b")
	h.run(5*time.Second, nil)
	start := func(s operator.RolloutSpec, key string) error {
		_, err := h.c.StartRollout(t.Context(), "ada", s, key, h.now)
		return err
	}
	for _, c := range []struct {
		name string
		err  error
		sort error
		want string
	}{
		{"no such kernel", start(operator.RolloutSpec{Kernel: "nope"}, ""), operator.ErrNotFound, `no kernel "nope"`},
		{"falling waves", start(operator.RolloutSpec{Kernel: "new", Waves: []int{50, 5, 100}}, ""), operator.ErrInvalid, "5 % at position 2"},
		{"bad selector", start(operator.RolloutSpec{Kernel: "new", Selector: "rubbish"}, ""), operator.ErrInvalid, "KEY=PATTERN"},
		{"nobody selected", start(operator.RolloutSpec{Kernel: "new", Selector: "workload=none"}, ""), operator.ErrState, "the selection is empty"},
		{"unknown type", start(operator.RolloutSpec{Kernel: "new", LeaveOut: []fleet.HostTypeID{"x"}}, ""), operator.ErrInvalid, `no host type "x"`},
	} {
		if c.err == nil || !errors.Is(c.err, c.sort) || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, c.err)
		}
	}
	if n := len(h.events("rollout.started")); n != 0 {
		t.Fatalf("%d rollouts came of it", n)
	}
	// The same key starts one rollout; another overlapping one is refused.
	if err := errors.Join(start(operator.RolloutSpec{Kernel: "new"}, "k"), start(operator.RolloutSpec{Kernel: "new"}, "k")); err != nil {
		t.Fatal(err)
	}
	if n := len(h.events("rollout.started")); n != 1 {
		t.Errorf("%d rollouts of one key", n)
	}
	if err := start(operator.RolloutSpec{Kernel: "new"}, ""); err == nil || !strings.Contains(err.Error(), "in rollout r-1") {
		t.Errorf("overlap: %v", err)
	}
}
