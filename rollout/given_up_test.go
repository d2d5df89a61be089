package rollout

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// smallWorld is n hosts of one type, h00 the canary, in a rollout that has just begun.
func smallWorld(t *testing.T, n int) (*Rollout, Snapshot) {
	t.Helper()
	snap := Snapshot{Ops: map[fleet.HostID][]fleet.Operation{}, Hosts: map[fleet.HostID]HostNow{}, Approvals: map[fleet.HostTypeID]string{}}
	p := Plan{
		Kernel: testKernel(), Types: []TypePlan{{ID: "a", Hosts: n, Canaries: []fleet.HostID{"h0"}}},
		Stages: []StagePlan{{Upto: 1, Adds: 1}, {Percent: 100, Upto: n, Adds: n - 1}},
	}
	for i := range n {
		id := fleet.HostID("h" + string(rune('0'+i)))
		stage := 1
		if i == 0 {
			stage = 0
		}
		p.Hosts = append(p.Hosts, PlanHost{ID: id, Type: "a", Stage: stage})
		snap.Hosts[id] = HostNow{Status: fleet.StatusActive, InService: true, Release: oldRelease, Type: "a"}
	}
	spec := Spec{Kernel: "new"}.WithDefaults()
	r := &Rollout{ID: "r-1", Spec: spec, Plan: p, State: Begin(spec, p, "ada", noon)}
	snap.R = r
	return r, snap
}

func has[D Decision](ds []Decision, is func(D) bool) bool {
	for _, d := range ds {
		if d, ok := d.(D); ok && is(d) {
			return true
		}
	}
	return false
}

func wants(ds []Decision, h fleet.HostID) bool {
	return has(ds, func(w Want) bool { return w.Host == h })
}

// TestNextHostSpeaksForAGivenUpCanary: giving up on the only canary of a type is not the end of its rollout.
func TestNextHostSpeaksForAGivenUpCanary(t *testing.T) {
	r, snap := smallWorld(t, 3)
	act := func(a Action) {
		t.Helper()
		if err := r.Act(a, noon); err != nil {
			t.Fatal(err)
		}
	}
	act(Action{Kind: ActSkip, Host: "h0", Who: "ada", Why: "broken board"})
	ds, _ := Step(snap, noon)
	if !wants(ds, "h1") || wants(ds, "h2") {
		t.Fatalf("decided %+v; want h1, and it alone, as the next canary", ds)
	}
	if why := Explain(snap, "h1", noon, nil).Why; !strings.Contains(why, "next to try the kernel for its type") {
		t.Errorf("h1: %s", why)
	}
	if why := Explain(snap, "h2", noon, nil).Why; !strings.Contains(why, "canaries is running: 1 host whose turn comes") {
		t.Errorf("h2: %s", why)
	}
	snap.Ops["h1"] = []fleet.Operation{{ID: "op-1", Host: "h1", Release: newRelease, Phase: fleet.PhaseCommitted, Trial: &fleet.Trial{BootID: "b", Release: newRelease}}}
	if ds, _ = Step(snap, noon); !has(ds, func(a Approve) bool { return a.Evidence == "trial passed on h1" }) {
		t.Errorf("decided %+v; want the approval by h1", ds)
	}
	delete(snap.Ops, "h1")
	act(Action{Kind: ActSkip, Host: "h1", Who: "ada"})
	act(Action{Kind: ActSkip, Host: "h2", Who: "ada"})
	if ds, _ = Step(snap, noon); len(ds) != 0 {
		t.Errorf("nobody is left, decided %+v", ds)
	}
	if w := WaitsFor(snap, noon); !strings.Contains(w, "type a") || !strings.Contains(w, "leave-out") {
		t.Errorf("waits for %q; want it to name the type that nobody can speak for", w)
	}
}

// TestApprovalByAnotherRollout: another rollout approves the kernel for a type while the canary of this one has not passed.
// The wave waits for it all the same: it may have seen what the other one did not.
func TestApprovalByAnotherRollout(t *testing.T) {
	advances := func(ds []Decision) bool {
		return has(ds, func(Soak) bool { return true }) || has(ds, func(Advance) bool { return true })
	}
	r, snap := smallWorld(t, 3)
	snap.Approvals["a"] = "trial passed on x7"
	ds, _ := Step(snap, noon)
	if !wants(ds, "h0") || wants(ds, "h1") || advances(ds) {
		t.Errorf("decided %+v; want its own canary, h0, and it alone", ds)
	}
	snap.Ops["h0"] = []fleet.Operation{{ID: "op-1", Host: "h0", Release: newRelease, Phase: fleet.PhaseReverted, Trial: &fleet.Trial{BootID: "b", Release: newRelease}}}
	r.State.Held = map[fleet.HostID]string{"h0": "eth0 has no carrier"}
	if ds, _ = Step(snap, noon); advances(ds) || wants(ds, "h0") {
		t.Errorf("its canary failed and is held, decided %+v", ds)
	}
	if w := WaitsFor(snap, noon); !strings.Contains(w, "h0") || !strings.Contains(w, "eth0 has no carrier") {
		t.Errorf("waits for %q; want the canary and what it saw", w)
	}
	given := *r
	given.State.Held = maps.Clone(r.State.Held)
	if err := given.Act(Action{Kind: ActSkip, Host: "h0", Who: "ada", Why: "bad cable"}, noon); err != nil {
		t.Fatal(err)
	}
	skipped := snap
	skipped.R = &given
	if ds, _ = Step(skipped, noon); !advances(ds) {
		t.Errorf("a person gave its canary up, and the type is approved: decided %+v", ds)
	}
	if err := r.Act(Action{Kind: ActRetry, Host: "h0", Who: "ada", Why: "new cable"}, noon); err != nil {
		t.Fatal(err)
	}
	if ds, _ = Step(snap, noon); !wants(ds, "h0") || advances(ds) {
		t.Errorf("a person wants its canary tried again, decided %+v", ds)
	}
	snap.Ops["h0"] = append(snap.Ops["h0"], fleet.Operation{ID: "op-2", Host: "h0", Release: newRelease, Phase: fleet.PhaseCommitted, Trial: &fleet.Trial{BootID: "c", Release: newRelease}})
	if ds, _ = Step(snap, noon); !advances(ds) || has(ds, func(Approve) bool { return true }) {
		t.Errorf("its canary passed, decided %+v; want the soak, and no second approval", ds)
	}
}

// TestApprovalThatEndsIsSaid: an approval that is withdrawn or runs out in a wave stops its type, and says so.
func TestApprovalThatEndsIsSaid(t *testing.T) {
	r, snap := smallWorld(t, 3)
	snap.Ops["h0"] = []fleet.Operation{{ID: "op-1", Host: "h0", Release: newRelease, Phase: fleet.PhaseCommitted}}
	now := snap.Hosts["h0"]
	now.Release = newRelease
	snap.Hosts["h0"] = now
	r.State.Stage = 1
	if ds, _ := Step(snap, noon); len(ds) != 0 {
		t.Errorf("no approval, decided %+v", ds)
	}
	if w := WaitsFor(snap, noon); !strings.Contains(w, "not approved for type a any more") {
		t.Errorf("waits for %q", w)
	}
}

// TestSkippedHostThatDiedIsNotWaitedFor: it was never told to reboot, so it never counts as lost.
func TestSkippedHostThatDiedIsNotWaitedFor(t *testing.T) {
	for _, goal := range []Goal{GoalForward, GoalAbort, GoalRollback} {
		r, snap := smallWorld(t, 1)
		snap.Ops["h0"] = []fleet.Operation{{ID: "op-1", Host: "h0", Release: newRelease, Phase: fleet.PhaseDraining}}
		snap.Approvals["a"] = "trial passed"
		now := snap.Hosts["h0"]
		now.InService, now.Unheard = false, noon
		snap.Hosts["h0"] = now
		r.State.Goal, r.State.Stage, r.Spec.Soak = goal, 1, 0
		later := noon.Add(time.Hour)
		if w := WaitsFor(snap, later); !strings.Contains(w, "h0") || !strings.Contains(w, "silent since") {
			t.Errorf("%s: waits for %q; want it to name the silent host", goal, w)
		}
		if err := r.Act(Action{Kind: ActSkip, Host: "h0", Who: "ada"}, later); err != nil {
			t.Fatal(err)
		}
		if ds, _ := Step(snap, later); !has(ds, func(Finish) bool { return true }) {
			t.Errorf("%s: decided %+v; want the end: a person gave up on the only host", goal, ds)
		}
	}
}

// TestLostHostIsNamed: after a resume the rollout still says whom it waits for.
func TestLostHostIsNamed(t *testing.T) {
	r, snap := smallWorld(t, 2)
	snap.Ops["h0"] = []fleet.Operation{{
		ID: "op-1", Host: "h0", Release: newRelease, Phase: fleet.PhaseRebooting, ConfirmedAt: noon,
		Problem: &fleet.Problem{Cause: fleet.CauseLost, What: "did not return"},
	}}
	snap.Hosts["h0"] = HostNow{Status: fleet.StatusActive, Unheard: noon, Type: "a"}
	r.State.Held = map[fleet.HostID]string{"h0": "did not return"}
	r.State.Settled = map[fleet.HostID]fleet.OperationID{"h0": "op-1"}
	for _, goal := range []Goal{GoalForward, GoalAbort, GoalRollback} {
		r.State.Goal = goal
		if w := WaitsFor(snap, noon.Add(time.Hour)); !strings.Contains(w, "h0 (did not return") {
			t.Errorf("%s: waits for %q; want it to name the lost host", goal, w)
		}
	}
}

// TestAnomalyWhileSoaking: what a soak is for.
func TestAnomalyWhileSoaking(t *testing.T) {
	r, snap := smallWorld(t, 2)
	snap.Approvals["a"] = "trial passed"
	snap.Ops["h0"] = []fleet.Operation{{
		ID: "op-1", Host: "h0", Release: newRelease, Phase: fleet.PhaseFellBack,
		Problem: &fleet.Problem{Cause: fleet.CauseNotBooted, What: "came back on the old kernel"},
	}}
	r.State.Stages[0].SoakUntil = noon.Add(time.Hour)
	ds, _ := Step(snap, noon)
	if !has(ds, func(Pause) bool { return true }) || !has(ds, func(Raise) bool { return true }) || !has(ds, func(h Hold) bool { return h.Host == "h0" }) {
		t.Errorf("decided %+v; want the anomaly raised, the host held and the rollout paused", ds)
	}
}

// TestCalledOff: whatever takes the wish away calls an operation off before its reboot, in every phase of it.
func TestCalledOff(t *testing.T) {
	for name, change := range map[string]func(*Rollout, *Snapshot){
		"paused":   func(r *Rollout, _ *Snapshot) { r.State.Paused = "paused by ada" },
		"stopped":  func(_ *Rollout, s *Snapshot) { s.Stop = "stopped by ada" },
		"aborted":  func(r *Rollout, _ *Snapshot) { r.State.Goal = GoalAbort },
		"back":     func(r *Rollout, _ *Snapshot) { r.State.Goal = GoalRollback },
		"ended":    func(r *Rollout, _ *Snapshot) { r.State.Outcome = OutcomeAborted },
		"skipped":  func(r *Rollout, _ *Snapshot) { r.State.Skipped = map[fleet.HostID]string{"h0": "ada"} },
		"left out": func(r *Rollout, _ *Snapshot) { r.State.LeftOut = map[fleet.HostTypeID]string{"a": "ada"} },
		"maintenance": func(_ *Rollout, s *Snapshot) {
			s.Hosts["h0"] = HostNow{Status: fleet.StatusMaintenance, InService: true, Type: "a"}
		},
	} {
		for _, p := range fleet.Phases() {
			if !p.BeforeReboot() {
				continue
			}
			r, snap := smallWorld(t, 2)
			snap.Ops["h0"] = []fleet.Operation{{ID: "op-1", Host: "h0", Release: newRelease, Phase: p}}
			change(r, &snap)
			snap.R = r
			if ds, _ := Step(snap, noon); !has(ds, func(s Say) bool { return s.Word == fleet.WordCancel && s.Operation == "op-1" }) {
				t.Errorf("%s in %s: decided %+v; want it called off", name, p, ds)
			}
			if ws := Wishes(snap); len(ws) != 0 {
				t.Errorf("%s in %s: wishes %+v", name, p, ws)
			}
			if MayReboot(snap, "op-1", "h0") == "" {
				t.Errorf("%s in %s: it may reboot", name, p)
			}
		}
	}
}

// TestRollbackWaitsForHeldHosts: a host that could not go back is no host that is back.
func TestRollbackWaitsForHeldHosts(t *testing.T) {
	r, snap := smallWorld(t, 1)
	snap.Ops["h0"] = []fleet.Operation{{ID: "op-1", Host: "h0", Release: newRelease, FromRelease: oldRelease, Phase: fleet.PhaseCommitted}}
	snap.Hosts["h0"] = HostNow{Status: fleet.StatusActive, InService: true, Release: newRelease, Type: "a"}
	r.State.Goal, r.State.Held = GoalRollback, map[fleet.HostID]string{"h0": "refused"}
	if ds, _ := Step(snap, noon); len(ds) != 0 {
		t.Errorf("decided %+v; want to wait for a person", ds)
	}
}

// TestReadyHostsAreToldApart: a host that is ready waits for its grant, perhaps for ever; that is no work.
func TestReadyHostsAreToldApart(t *testing.T) {
	r, snap := smallWorld(t, 2)
	snap.Approvals["a"] = "trial passed"
	r.State.Stage = 1
	snap.Ops["h0"] = []fleet.Operation{{ID: "op-1", Host: "h0", Release: newRelease, Phase: fleet.PhasePrepared}}
	snap.Ops["h1"] = []fleet.Operation{{ID: "op-2", Host: "h1", Release: newRelease, Phase: fleet.PhaseTrial}}
	if w := WaitsFor(snap, noon); !strings.Contains(w, "1 host at work, 1 host ready to leave service") || !strings.Contains(w, "kernwave why h0") {
		t.Errorf("waits for %q", w)
	}
}

// TestRollbackCountsItsOwnHosts: on the way back a committed host is one that still has to go.
func TestRollbackCountsItsOwnHosts(t *testing.T) {
	r, snap := smallWorld(t, 3)
	for _, h := range []fleet.HostID{"h0", "h1"} {
		snap.Ops[h] = []fleet.Operation{{ID: "op-" + fleet.OperationID(h), Host: h, Release: newRelease, FromRelease: oldRelease, Phase: fleet.PhaseCommitted}}
		snap.Hosts[h] = HostNow{Status: fleet.StatusActive, InService: true, Release: newRelease, Type: "a"}
	}
	r.State.Goal = GoalRollback
	if w := WaitsFor(snap, noon); !strings.Contains(w, "2 hosts whose turn comes") {
		t.Errorf("waits for %q; want the two that have to go back", w)
	}
}

// TestPhaseBackwardsIsNotASecondOffer: a host whose journal was set back is not let out again without a person.
func TestPhaseBackwardsIsNotASecondOffer(t *testing.T) {
	r, snap := smallWorld(t, 1)
	snap.Ops["h0"] = []fleet.Operation{{
		ID: "op-1", Host: "h0", Release: newRelease, Phase: fleet.PhasePrepared, ConfirmedAt: noon,
		Problem: &fleet.Problem{Cause: fleet.CauseUnknownPhase, What: "the host says prepared after it said trial"},
	}}
	r.State.Held = map[fleet.HostID]string{"h0": "…"}
	r.State.Settled = map[fleet.HostID]fleet.OperationID{"h0": "op-1"}
	if ws := Wishes(snap); len(ws) != 0 {
		t.Errorf("wishes %+v", ws)
	}
	if why := MayReboot(snap, "op-1", "h0"); why == "" {
		t.Error("it may reboot again")
	}
	if ds, _ := Step(snap, noon); !has(ds, func(s Say) bool { return s.Word == fleet.WordCancel }) {
		t.Errorf("decided %+v; want the operation called off", ds)
	}
}

// TestHostThatChangedItsTypeIsNotTouched: what was proven on one type says nothing about another.
func TestHostThatChangedItsTypeIsNotTouched(t *testing.T) {
	r, snap := smallWorld(t, 2)
	snap.Approvals["a"] = "trial passed"
	r.State.Stage = 1
	snap.Hosts["h1"] = HostNow{Status: fleet.StatusActive, InService: true, Release: oldRelease, Type: "b"}
	ds, _ := Step(snap, noon)
	if wants(ds, "h1") || !wants(ds, "h0") {
		t.Errorf("decided %+v; want h0 alone", ds)
	}
	why := Explain(snap, "h1", noon, nil)
	if !strings.Contains(why.Why, "is of type b now, it was planned as a") || !strings.Contains(why.Next, "rollout skip r-1 h1") {
		t.Errorf("h1: %+v", why)
	}
	// On the way back it is brought back all the same.
	snap.Ops["h1"] = []fleet.Operation{{ID: "op-1", Host: "h1", Release: newRelease, FromRelease: oldRelease, Phase: fleet.PhaseCommitted}}
	snap.Hosts["h1"] = HostNow{Status: fleet.StatusActive, InService: true, Release: newRelease, Type: "b"}
	r.State.Goal = GoalRollback
	if ds, _ := Step(snap, noon); !wants(ds, "h1") {
		t.Errorf("decided %+v; want h1 back", ds)
	}
}

// TestRollbackLeavesHostsThatMovedOn: a later rollout gave the host another kernel; the earlier one has nothing to take back.
func TestRollbackLeavesHostsThatMovedOn(t *testing.T) {
	r, snap := smallWorld(t, 1)
	snap.Ops["h0"] = []fleet.Operation{{ID: "op-1", Host: "h0", Release: newRelease, FromRelease: oldRelease, Phase: fleet.PhaseCommitted}}
	snap.Hosts["h0"] = HostNow{Status: fleet.StatusActive, InService: true, Release: "6.12.200-newer", Default: "6.12.200-newer", Type: "a"}
	r.State.Goal = GoalRollback
	if ds, _ := Step(snap, noon); wants(ds, "h0") || !has(ds, func(f Finish) bool { return f.Outcome == OutcomeRolledBack }) {
		t.Errorf("decided %+v; want the end", ds)
	}
	if why := Explain(snap, "h0", noon, nil).Why; !strings.Contains(why, "runs 6.12.200-newer") {
		t.Errorf("h0: %s", why)
	}
}

// TestRollbackGoesOnPastWhatTheNewKernelDid: a person decided for the way back; that the new kernel has one more host on its
// conscience is no reason to wait with it. An anomaly of the way back itself is.
func TestRollbackGoesOnPastWhatTheNewKernelDid(t *testing.T) {
	r, snap := smallWorld(t, 3)
	r.State.Goal = GoalRollback
	committed := fleet.Operation{ID: "op-0", Host: "h0", Release: newRelease, FromRelease: oldRelease, Phase: fleet.PhaseCommitted}
	snap.Ops["h0"] = []fleet.Operation{committed}
	snap.Hosts["h0"] = HostNow{Status: fleet.StatusActive, InService: true, Release: newRelease, Type: "a"}
	lost := fleet.Operation{ID: "op-1", Host: "h1", Release: newRelease, Phase: fleet.PhasePassed, ConfirmedAt: noon.Add(-time.Hour)}
	snap.Ops["h1"] = []fleet.Operation{lost}
	snap.Hosts["h1"] = HostNow{Status: fleet.StatusActive, Unheard: noon.Add(-time.Hour), Type: "a"}
	ds, _ := Step(snap, noon)
	if !has(ds, func(a Raise) bool { return a.Anomaly.Host == "h1" }) || !has(ds, func(h Hold) bool { return h.Host == "h1" }) {
		t.Errorf("decided %+v; want an anomaly of h1, and h1 held", ds)
	}
	if has(ds, func(Pause) bool { return true }) || !wants(ds, "h0") {
		t.Errorf("decided %+v; want h0 to go back, and no pause", ds)
	}
	back := lost
	back.ID, back.Host, back.Stage, back.Release, back.FromRelease = "op-2", "h0", fleet.RollbackStage, oldRelease, newRelease
	snap.Ops["h0"] = []fleet.Operation{committed, back}
	snap.Hosts["h0"] = snap.Hosts["h1"]
	if ds, _ := Step(snap, noon); !has(ds, func(Pause) bool { return true }) {
		t.Errorf("decided %+v; want a pause: the way back lost a host", ds)
	}
}

func TestAbortOfAPausedRollback(t *testing.T) {
	r, _ := smallWorld(t, 1)
	r.State.Goal, r.State.Paused = GoalRollback, "paused by ada"
	if err := r.Act(Action{Kind: ActAbort, Who: "ada"}, noon); err == nil || !strings.Contains(err.Error(), "rolled back already") {
		t.Errorf("abort: %v", err)
	}
}
