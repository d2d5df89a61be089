package rollout

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kernwave/kernwave/fleet"
)

// world is a small fleet on which decisions are carried out as the control plane and the agents would, with every
// choice (who is granted, which trial fails, who goes silent) drawn at random.
type world struct {
	t     *rapid.T
	r     *Rollout
	snap  Snapshot
	now   time.Time
	hosts []fleet.HostID
	ops   int
}

const newRelease, oldRelease = "6.12.117-new", "6.12.111-old"

func newWorld(t *rapid.T) *world {
	nTypes := rapid.IntRange(1, 3).Draw(t, "types")
	n := rapid.IntRange(nTypes, 12).Draw(t, "hosts")
	var hosts []fleet.Host
	w := &world{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	w.snap = Snapshot{Ops: map[fleet.HostID][]fleet.Operation{}, Hosts: map[fleet.HostID]HostNow{}, Approvals: map[fleet.HostTypeID]string{}}
	for i := range n {
		h := testHost(fmt.Sprintf("h%02d", i), fmt.Sprintf("type-%d", i%nTypes))
		hosts = append(hosts, h)
		w.hosts = append(w.hosts, h.ID)
		w.snap.Hosts[h.ID] = HostNow{Status: fleet.StatusActive, InService: true, Release: oldRelease}
	}
	spec := Spec{Kernel: "new", Canaries: rapid.IntRange(1, 2).Draw(t, "canaries"), Soak: 10 * time.Second}.WithDefaults()
	p, err := MakePlan(spec, testKernel(), hosts, func(fleet.HostTypeID) bool { return false }, "salt")
	if err != nil {
		t.Fatal(err)
	}
	w.r = &Rollout{ID: "r-1", Spec: spec, Plan: p, State: Begin(spec, p, "ada", w.now)}
	w.snap.R = w.r
	return w
}

func testKernel() fleet.Kernel {
	return fleet.Kernel{ID: "new", Release: newRelease, Family: "debian", Arch: "amd64", Flavour: "cloud-amd64"}
}

func testHost(id, typ string) fleet.Host {
	f := fleet.Facts{Arch: "amd64", OS: fleet.OS{Family: "debian"}}
	f.Kernel.Flavour = "cloud-amd64"
	f.Boot = fleet.Boot{OneShot: fleet.OneShotAssumed, Default: oldRelease}
	return fleet.Host{
		ID: fleet.HostID(id), Status: fleet.StatusActive, Facts: f, FactsHash: "x",
		Type: fleet.HostType{ID: fleet.HostTypeID(typ)}, Now: fleet.HostState{Release: oldRelease, InService: true},
	}
}

// step runs Step, checks what must always hold, and carries out the decisions.
func (w *world) step() []Decision {
	before := *w.r
	ds, wake := Step(w.snap, w.now)
	again, wake2 := Step(w.snap, w.now)
	if fmt.Sprint(ds) != fmt.Sprint(again) || wake != wake2 {
		w.t.Fatalf("same view, other decisions:\n%v\n%v", ds, again)
	}
	if fmt.Sprint(before.State) != fmt.Sprint(w.r.State) {
		w.t.Fatalf("Step changed the view")
	}
	x := NewIndex(w.r.Plan)
	for h, ops := range w.snap.Ops {
		x.Put(h, ops[len(ops)-1])
	}
	sameWithIndex(w.t, w.snap, x, w.now)
	for _, d := range ds {
		w.apply(d)
	}
	return ds
}

func (w *world) apply(d Decision) {
	halted := w.r.State.Paused != "" || w.snap.Stop != "" || w.r.State.Outcome != ""
	switch d := d.(type) {
	case Want:
		if halted {
			w.t.Fatalf("a halted rollout wants %+v", d)
		}
		w.checkWant(d)
		w.ops++
		w.snap.Ops[d.Host] = append(w.snap.Ops[d.Host], fleet.Operation{
			ID: fleet.OperationID(fmt.Sprintf("op-%d", w.ops)), Host: d.Host, Kind: fleet.KindUpdate, Release: d.Release,
			Stage: d.Stage, Phase: fleet.PhasePlanned, FromRelease: w.snap.Hosts[d.Host].Release,
		})
	case Say:
		op := w.open(d.Host)
		if op == nil || op.ID != d.Operation {
			w.t.Fatalf("a word to nobody: %+v", d)
		}
		op.Word, op.WordWhy = d.Word, d.Why
	case Lose:
		p := d.Problem
		w.open(d.Host).Problem = &p
	case Approve:
		w.snap.Approvals[d.Type] = d.Evidence
	}
	w.r.State.Apply(d, w.now)
}

// checkWant: promise 3 (canary order), promise 2 (no second offer without a person), one operation a host.
func (w *world) checkWant(d Want) {
	if w.open(d.Host) != nil {
		w.t.Fatalf("%s has an open operation and is wanted again", d.Host)
	}
	if _, held := w.r.State.Held[d.Host]; held {
		w.t.Fatalf("%s is held and is wanted again", d.Host)
	}
	if d.Stage == fleet.RollbackStage {
		return
	}
	i := slices.IndexFunc(w.r.Plan.Hosts, func(h PlanHost) bool { return h.ID == d.Host })
	h := w.r.Plan.Hosts[i]
	if _, out := w.r.State.LeftOut[h.Type]; out {
		w.t.Fatalf("%s is of a type that is left out", d.Host)
	}
	if _, ok := w.snap.Approvals[h.Type]; ok {
		if d.Stage == 0 {
			w.t.Fatalf("a canary of an approved type is wanted: %+v", d)
		}
		for _, t := range w.r.Plan.Types {
			_, approved := w.snap.Approvals[t.ID]
			_, out := w.r.State.LeftOut[t.ID]
			if !approved && !out {
				w.t.Fatalf("wave %d began while type %s is neither approved nor left out", d.Stage, t.ID)
			}
		}
		return
	}
	for _, other := range w.r.Plan.Hosts { // not approved: one canary at a time, and nobody else
		if op := w.open(other.ID); other.Type == h.Type && op != nil && !w.givenUp(op) {
			w.t.Fatalf("%s is wanted while canary %s of its type is at work", h.ID, other.ID)
		}
	}
	for _, t := range w.r.Plan.Types {
		if t.ID == h.Type && !slices.Contains(t.Canaries, h.ID) && !w.canariesGone(t) {
			w.t.Fatalf("%s is wanted before its type is approved", h.ID)
		}
	}
}

// givenUp says whether a person skipped the host of op while it was gone.
func (w *world) givenUp(op *fleet.Operation) bool {
	_, skipped := w.r.State.Skipped[op.Host]
	return skipped && (op.Problem != nil || !w.snap.Hosts[op.Host].Unheard.IsZero())
}

func (w *world) open(h fleet.HostID) *fleet.Operation {
	ops := w.snap.Ops[h]
	if len(ops) == 0 || ops[len(ops)-1].Phase.Ended() {
		return nil
	}
	return &ops[len(ops)-1]
}

// advance moves the operation of h as its agent could.
func (w *world) advance(h fleet.HostID) {
	op := w.open(h)
	if op == nil {
		return
	}
	now := w.snap.Hosts[h]
	fail := rapid.IntRange(0, 5).Draw(w.t, "fail") == 0
	to := func(p fleet.Phase, c fleet.Cause) {
		if !op.Phase.CanBecome(p) {
			w.t.Fatalf("%s cannot become %s", op.Phase, p)
		}
		op.Phase, op.PhaseSince = p, w.now
		if c != "" {
			op.Problem = &fleet.Problem{Cause: c, What: "saw " + string(c)}
		}
		now.InService = p.BeforeReboot() && p != fleet.PhaseDraining && p != fleet.PhaseDrained || p.Ended()
		w.snap.Hosts[h] = now
	}
	switch op.Phase {
	case fleet.PhasePlanned:
		if op.Word == fleet.WordCancel {
			to(fleet.PhaseCancelled, fleet.CauseTold)
			return
		}
		to(fleet.PhasePreparing, "")
	case fleet.PhasePreparing:
		switch {
		case op.Word == fleet.WordCancel:
			to(fleet.PhaseCancelled, fleet.CauseTold)
		case fail:
			to(fleet.PhaseRefused, fleet.CauseRefused)
		default:
			to(fleet.PhasePrepared, "")
		}
	case fleet.PhasePrepared:
		if op.Word == fleet.WordCancel {
			to(fleet.PhaseCancelled, fleet.CauseTold)
		} else if w.wishes(op.ID) {
			to(fleet.PhaseDraining, "")
		}
	case fleet.PhaseDraining:
		switch {
		case op.Word == fleet.WordCancel:
			to(fleet.PhaseUndraining, fleet.CauseTold)
		case fail:
			to(fleet.PhaseUndraining, fleet.CauseDrain)
		default:
			to(fleet.PhaseDrained, "")
		}
	case fleet.PhaseDrained:
		if MayReboot(w.snap, op.ID, h) != "" {
			if op.Word == fleet.WordCancel {
				to(fleet.PhaseUndraining, fleet.CauseTold)
			}
			return
		}
		if w.r.State.Paused != "" || w.snap.Stop != "" {
			w.t.Fatalf("a halted rollout let %s reboot", h)
		}
		op.ConfirmedAt = w.now
		to(fleet.PhaseRebooting, "")
	case fleet.PhaseUndraining:
		if op.Problem.Cause == fleet.CauseDrain {
			to(fleet.PhaseFailed, fleet.CauseDrain)
		} else {
			to(fleet.PhaseCancelled, op.Problem.Cause)
		}
	case fleet.PhaseRebooting:
		switch {
		case now.Unheard != (time.Time{}):
		case fail:
			now.Unheard = w.now
			w.snap.Hosts[h] = now
		case rapid.Bool().Draw(w.t, "panics"):
			to(fleet.PhaseReverting, fleet.CauseNotBooted)
		default:
			now.Release = op.Release
			to(fleet.PhaseTrial, "")
		}
	case fleet.PhaseTrial:
		if fail {
			to(fleet.PhaseReverting, fleet.CauseCheck)
		} else {
			to(fleet.PhasePassed, "")
		}
	case fleet.PhasePassed:
		switch op.Word {
		case fleet.WordCommit:
			to(fleet.PhaseCommitting, "")
		case fleet.WordRevert:
			to(fleet.PhaseReverting, fleet.CauseTold)
		}
	case fleet.PhaseCommitting:
		to(fleet.PhaseCommitted, "")
	case fleet.PhaseReverting:
		now.Release = op.FromRelease
		if op.Problem.Cause == fleet.CauseNotBooted {
			to(fleet.PhaseFellBack, fleet.CauseNotBooted)
		} else {
			to(fleet.PhaseReverted, op.Problem.Cause)
		}
	}
}

func (w *world) wishes(id fleet.OperationID) bool {
	return slices.ContainsFunc(Wishes(w.snap), func(o *fleet.Operation) bool { return o.ID == id })
}

// TestEveryOrderOfEvents draws actions of agents, hosts, people and time in any order, and checks the promises after
// each. In the end all faults stop and a person sees to what is held: the rollout must then end, truthfully.
func TestEveryOrderOfEvents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		host := func(t *rapid.T) fleet.HostID { return rapid.SampledFrom(w.hosts).Draw(t, "host") }
		act := func(a Action) { a.Who = "ada"; a.Why = "because"; _ = w.r.Act(a, w.now) }
		t.Repeat(map[string]func(*rapid.T){
			"":      func(t *rapid.T) { w.step(); w.explainAll() },
			"agent": func(t *rapid.T) { w.advance(host(t)) },
			"agents": func(t *rapid.T) {
				for _, h := range w.hosts {
					w.advance(h)
				}
			},
			"time": func(t *rapid.T) {
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 1200).Draw(t, "sec")) * time.Second)
			},
			"returns": func(t *rapid.T) { h := host(t); n := w.snap.Hosts[h]; n.Unheard = time.Time{}; w.snap.Hosts[h] = n },
			"silent": func(t *rapid.T) {
				h := host(t)
				n := w.snap.Hosts[h]
				if n.Unheard.IsZero() {
					n.Unheard = w.now
				}
				w.snap.Hosts[h] = n
			},
			"stop":   func(t *rapid.T) { w.snap.Stop = rapid.SampledFrom([]string{"", "fire"}).Draw(t, "stop") },
			"pause":  func(t *rapid.T) { act(Action{Kind: ActPause}) },
			"resume": func(t *rapid.T) { act(Action{Kind: ActResume}) },
			"retry":  func(t *rapid.T) { act(Action{Kind: ActRetry, Host: host(t)}) },
			"goal": func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "rarely") == 0 {
					act(Action{Kind: rapid.SampledFrom([]ActionKind{ActAbort, ActRollback}).Draw(t, "goal")})
				}
			},
		})
		w.finish()
	})
}

func (w *world) explainAll() {
	for _, h := range w.hosts {
		if why := Explain(w.snap, h, w.now, nil).Why; why == "" {
			w.t.Fatalf("%s: no reason", h)
		}
	}
	if WaitsFor(w.snap, w.now) == "" {
		w.t.Fatal("the rollout waits for nothing it can name")
	}
}

// finish heals everything and gives up on every host that is held; the rollout must end.
func (w *world) finish() {
	w.snap.Stop = ""
	for range 3000 {
		if w.r.State.Outcome != "" && !slices.ContainsFunc(w.hosts, func(h fleet.HostID) bool { return w.open(h) != nil }) {
			w.checkEnd()
			return
		}
		for _, h := range w.hosts {
			n := w.snap.Hosts[h]
			n.Unheard = time.Time{}
			w.snap.Hosts[h] = n
			w.advance(h)
			if _, held := w.r.State.Held[h]; held {
				_ = w.r.Act(Action{Kind: ActSkip, Host: h, Who: "ada", Why: "broken"}, w.now)
			}
		}
		for _, t := range w.r.Plan.Types {
			if _, ok := w.snap.Approvals[t.ID]; !ok && w.canariesGone(t) {
				_ = w.r.Act(Action{Kind: ActLeaveOut, Type: t.ID, Who: "ada", Why: "no canary left"}, w.now)
			}
		}
		_ = w.r.Act(Action{Kind: ActResume, Who: "ada"}, w.now)
		w.now = w.now.Add(time.Minute)
		w.step()
	}
	w.t.Fatalf("the rollout does not end; it waits for %s; state %+v", WaitsFor(w.snap, w.now), w.r.State)
}

func (w *world) canariesGone(t TypePlan) bool {
	for _, c := range t.Canaries {
		if _, skipped := w.r.State.Skipped[c]; !skipped {
			return false
		}
	}
	return true
}

// checkEnd: every operation has ended, and the outcome says what the hosts run.
func (w *world) checkEnd() {
	for _, h := range w.r.Plan.Hosts {
		if op := w.open(h.ID); op != nil {
			w.t.Fatalf("%s: the rollout is %s with an operation in phase %s", h.ID, w.r.State.Outcome, op.Phase)
		}
		_, skipped := w.r.State.Skipped[h.ID]
		_, out := w.r.State.LeftOut[h.Type]
		release := w.snap.Hosts[h.ID].Release
		switch {
		case w.r.State.Outcome == OutcomeDone && !skipped && !out && release != newRelease:
			w.t.Fatalf("done, but %s runs %s", h.ID, release)
		case w.r.State.Outcome == OutcomeRolledBack && !skipped && release != oldRelease:
			w.t.Fatalf("rolled back, but %s runs %s", h.ID, release)
		}
	}
}
