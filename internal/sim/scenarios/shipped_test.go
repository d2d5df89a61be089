package scenarios

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/kernwave/kernwave/internal/sim"
)

// expectation is what must come of a shipped scenario with any seed, besides that every promise is kept.
type expectation struct {
	ended  []string // how the rollout may stand at the end
	harmed [2]int   // hosts, at least and at most
	// canaries says that every harmed host was harmed as a canary; back that every one is in service again.
	canaries, back bool
	faults         []string // that must have happened
	seen           []string // that must have been counted
	check          func(*testing.T, sim.Result)
}

var expected = map[string]expectation{
	"healthy":      {ended: []string{"done"}},
	"healthy-5000": {ended: []string{"done"}},
	"never-boots": {
		ended: []string{"paused"}, harmed: [2]int{1, 1}, canaries: true, back: true,
		check: func(t *testing.T, r sim.Result) { onlyCanaries(t, r); pausedAfterHarm(t, r) },
	},
	"never-boots-5000": {
		ended: []string{"done"}, harmed: [2]int{1, 2}, canaries: true, back: true,
		check: func(t *testing.T, r sim.Result) {
			pausedAfterHarm(t, r)
			for _, ty := range r.Rollouts[0].Types {
				if want := ty.Name == "db"; ty.LeftOut != want || (ty.Committed == 0) != want {
					t.Errorf("type %+v", ty)
				}
			}
		},
	},
	"boots-sometimes":      {ended: []string{"done"}, harmed: [2]int{1, 24}, back: true, faults: []string{"kernel-panic"}},
	"crashes":              {ended: []string{"done", "rolled-back"}, harmed: [2]int{1, 12}, faults: []string{"kernel-crash"}},
	"hangs-later":          {ended: []string{"done", "aborted"}, harmed: [2]int{0, 20}},
	"loses-network":        {ended: []string{"paused"}, harmed: [2]int{1, 1}, canaries: true, back: true, check: onlyCanaries},
	"fails-checks":         {ended: []string{"done"}, harmed: [2]int{1, 20}, back: true, faults: []string{"kernel-checks"}},
	"comes-back-slow":      {ended: []string{"paused"}, faults: []string{"kernel-slow-boot"}, check: onlyCanaries},
	"wrong-release":        {ended: []string{"paused"}, harmed: [2]int{1, 1}, canaries: true, back: true, check: func(t *testing.T, r sim.Result) { onlyCanaries(t, r); excluded(t, r, 2) }},
	"side-by-side":         {ended: []string{"done"}, harmed: [2]int{1, 45}, back: true, faults: []string{"kernel-panic"}},
	"control-plane-killed": {ended: []string{"done"}, faults: []string{sim.FaultKill}, seen: []string{"start-again"}},
	"two-leaders":          {ended: []string{"done"}, faults: []string{sim.FaultTwoLeaders}},
	"restored-backup":      {ended: []string{"done", "paused"}, harmed: [2]int{0, 10}, back: true, faults: []string{sim.FaultRestore}, seen: []string{"start-moved"}},
	"cloned-data":          {ended: []string{"done", "running", "paused"}, faults: []string{sim.FaultCloneData}},
	"cloned-image":         {ended: []string{"done", "running", "paused"}, faults: []string{sim.FaultCloneImage}},
	"wrong-clocks":         {ended: []string{"done"}, faults: []string{sim.FaultClock}},
	"bad-network":          {ended: []string{"done"}, faults: []string{sim.FaultLose, sim.FaultDelay, sim.FaultRepeat}},
	"silent-hosts":         {ended: []string{"done"}, faults: []string{sim.FaultSilent}},
	"stop-in-the-middle":   {ended: []string{"done"}, check: stoodStill},
	"sick-store":           {ended: []string{"done"}, faults: []string{sim.FaultSlowStore, sim.FaultFailingStore}, seen: []string{"store-failed"}},
	"bad-night": {
		ended: []string{"running", "paused", "aborting", "rolling-back", "done", "aborted", "rolled-back", "unknown"}, harmed: [2]int{0, 55},
		faults: []string{sim.FaultKill, sim.FaultLose},
	},
}

// TestShipped plays every shipped scenario with several seeds: what its sentence says comes true, no promise is broken,
// and the same seed gives the same bytes. The large ones are played smaller; make bench-sim plays them whole.
func TestShipped(t *testing.T) {
	last := uint64(3)
	if testing.Short() {
		last = 1
	}
	for _, name := range Names() {
		want, ok := expected[name]
		if !ok {
			t.Errorf("%s has no expectation", name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := Shipped(name)
			if err != nil {
				t.Fatal(err)
			}
			if s.Name != name || !strings.HasSuffix(strings.TrimSpace(s.About), ".") {
				t.Errorf("%q is called %q and says %q", name, s.Name, s.About)
			}
			shrink(&s)
			for seed := uint64(1); seed <= last; seed++ {
				r := played(t, s, seed)
				if seed == 1 {
					again := played(t, s, seed)
					if a, b := encoded(t, r), encoded(t, again); !bytes.Equal(a, b) {
						t.Errorf("seed %d gives\n%s\nand then\n%s", seed, a, b)
					}
				}
				want.hold(t, r)
			}
		})
	}
	if len(expected) != len(Names()) {
		t.Errorf("%d expectations for %d scenarios", len(expected), len(Names()))
	}
}

// shrink makes a twenty-fifth of a large fleet, with as many types.
func shrink(s *sim.Scenario) {
	hosts := 0
	for _, ty := range s.Fleet.Types {
		hosts += ty.Hosts
	}
	if hosts < 1000 {
		return
	}
	for i := range s.Fleet.Types {
		s.Fleet.Types[i].Hosts = max(s.Fleet.Types[i].Hosts/25, 3)
	}
	for i := range s.Budgets {
		s.Budgets[i].Limit = max(s.Budgets[i].Limit/25, 2)
	}
}

func played(t *testing.T, s sim.Scenario, seed uint64) sim.Result {
	t.Helper()
	r, err := sim.Run(t.Context(), s, sim.Options{Seed: seed})
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	if r.Broken != nil {
		t.Fatalf("seed %d: %s", seed, r.Broken)
	}
	return r
}

// encoded is a result without what the wall clock did.
func encoded(t *testing.T, r sim.Result) []byte {
	t.Helper()
	r.RealSec = 0
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (e expectation) hold(t *testing.T, r sim.Result) {
	t.Helper()
	for _, ro := range r.Rollouts {
		if status := ro.Status; !slices.Contains(e.ended, status) {
			t.Errorf("seed %d: %s is %q (%s %s), want one of %q", r.Seed, ro.ID, status, ro.Why, ro.Refused, e.ended)
		}
	}
	if n := len(r.Harmed); n < e.harmed[0] || n > e.harmed[1] {
		t.Errorf("seed %d: %d hosts were harmed, want %d to %d: %+v", r.Seed, n, e.harmed[0], e.harmed[1], r.Harmed)
	}
	for _, h := range r.Harmed {
		if e.canaries && h.Caught != "canaries" || e.back && !h.Back || e.canaries && h.Runs != "old" {
			t.Errorf("seed %d: %+v", r.Seed, h)
		}
	}
	for _, f := range e.faults {
		if r.Faults[f] == 0 {
			t.Errorf("seed %d: no %s happened: %v", r.Seed, f, r.Faults)
		}
	}
	for _, f := range e.seen {
		if r.Seen[f] == 0 {
			t.Errorf("seed %d: no %s was seen: %v", r.Seed, f, r.Seen)
		}
	}
	if e.check != nil {
		e.check(t, r)
	}
}

// onlyCanaries says that nobody but canaries was asked.
func onlyCanaries(t *testing.T, r sim.Result) {
	t.Helper()
	for i, st := range r.Rollouts[0].Stages {
		if i > 0 && (st.Began != 0 || st.Committed != 0) {
			t.Errorf("seed %d: %+v", r.Seed, st)
		}
	}
}

func pausedAfterHarm(t *testing.T, r sim.Result) {
	t.Helper()
	if ps := r.Rollouts[0].Pauses; len(ps) == 0 || ps[0].After <= 0 {
		t.Errorf("seed %d: pauses %+v, want one after the harm", r.Seed, ps)
	}
}

func excluded(t *testing.T, r sim.Result, n int) {
	t.Helper()
	if got := r.Rollouts[0].Excluded; got != n {
		t.Errorf("seed %d: %d hosts are left out, want %d", r.Seed, got, n)
	}
}

// stoodStill says that the last wave waited for the stop to be lifted.
func stoodStill(t *testing.T, r sim.Result) {
	t.Helper()
	stages := r.Rollouts[0].Stages
	if last := stages[len(stages)-1]; last.Ended-last.Began < 70*60e9 {
		t.Errorf("seed %d: %s lasted %s, and an hour of it was stopped", r.Seed, last.Name, last.Ended-last.Began)
	}
}
