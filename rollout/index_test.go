package rollout

import (
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kernwave/kernwave/fleet"
)

// indexed is a Snapshot with an index: the fast twin.
type indexed struct {
	Snapshot
	x *Index
}

func (v indexed) Index() *Index { return v.x }

// sameWithIndex compares everything that looks at many hosts.
func sameWithIndex(t *rapid.T, plain Snapshot, x *Index, now time.Time) {
	fast := indexed{plain, x}
	ds, wake := Step(plain, now)
	fastDs, fastWake := Step(fast, now)
	if a, b := fmt.Sprintf("%+v", ds), fmt.Sprintf("%+v", fastDs); a != b || !wake.Equal(fastWake) {
		t.Fatalf("without an index: %s (wake %s)\nwith one:         %s (wake %s)", a, wake, b, fastWake)
	}
	wishes := func(v View) string {
		var s strings.Builder
		for _, op := range Wishes(v) {
			fmt.Fprintf(&s, "%+v\n", *op)
		}
		return s.String()
	}
	if a, b := wishes(plain), wishes(fast); a != b {
		t.Fatalf("wishes without an index: %s\nwith one:                %s", a, b)
	}
	if a, b := WaitsFor(plain, now), WaitsFor(fast, now); a != b {
		t.Fatalf("waits without an index for: %s\nwith one:                   %s", a, b)
	}
	for h, ops := range plain.Ops {
		if n := len(ops); n > 0 {
			if a, b := MayReboot(plain, ops[n-1].ID, h), MayReboot(fast, ops[n-1].ID, h); a != b {
				t.Fatalf("may %s reboot without an index: %q\nwith one: %q", h, a, b)
			}
		}
	}
}

// TestIndexChangesNothing holds Step with an index against Step without one, on rollouts in states that need not make
// sense: more hosts than are prepared ahead, any phase, any problem, any goal. The index follows in any order.
func TestIndexChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rnd := rand.New(rand.NewSource(rapid.Int64().Draw(t, "seed")))
		one := func(n int) bool { return rnd.Intn(n) == 0 }
		now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
		var hosts []fleet.Host
		for i := range 2*PrepareAhead + rnd.Intn(100) {
			hosts = append(hosts, testHost(fmt.Sprintf("h%03d", i), fmt.Sprintf("type-%d", i%3)))
		}
		spec := Spec{Kernel: "new", Waves: []int{10, 100}, Soak: time.Minute}.WithDefaults()
		p, err := MakePlan(spec, testKernel(), hosts, func(fleet.HostTypeID) bool { return false }, "salt")
		if err != nil {
			t.Fatal(err)
		}
		r := &Rollout{ID: "r-1", Spec: spec, Plan: p, State: Begin(spec, p, "ada", now)}
		r.State.Goal = rapid.SampledFrom([]Goal{GoalForward, GoalForward, GoalAbort, GoalRollback}).Draw(t, "goal")
		r.State.Stage = rapid.IntRange(0, 2).Draw(t, "stage")
		r.State.Paused = rapid.SampledFrom([]string{"", "", "by ada"}).Draw(t, "paused")
		v := Snapshot{R: r, Ops: map[fleet.HostID][]fleet.Operation{}, Hosts: map[fleet.HostID]HostNow{}, Approvals: map[fleet.HostTypeID]string{}}
		for _, tp := range p.Types {
			if !one(5) {
				v.Approvals[tp.ID] = "trial passed"
			}
		}
		x := NewIndex(p)
		calm := rapid.Bool().Draw(t, "calm") // any problem pauses
		committed := rapid.SampledFrom([]int{1, 2, 20}).Draw(t, "committed share")
		for _, i := range rnd.Perm(len(hosts)) {
			h := hosts[i].ID
			v.Hosts[h] = HostNow{Status: fleet.StatusActive, InService: !one(20), Release: oldRelease}
			if one(30) {
				v.Hosts[h] = HostNow{Status: fleet.StatusActive, InService: true, Unheard: now.Add(-time.Hour)}
			}
			for n := range rnd.Intn(3) {
				op := fleet.Operation{ID: fleet.OperationID(fmt.Sprint("o-", h, n)), Host: h, Stage: rnd.Intn(3) - 1, FromRelease: oldRelease, Phase: fleet.PhaseCommitted}
				if !one(committed) {
					op.Phase = fleet.Phases()[rnd.Intn(len(fleet.Phases()))]
				}
				if !calm && one(4) {
					op.Problem = &fleet.Problem{Cause: fleet.CauseCheck, What: "it is bad"}
					if one(2) {
						put(&r.State.Settled, h, op.ID)
						put(&r.State.Held, h, "it is bad")
					}
				}
				if one(3) {
					op.ConfirmedAt = now.Add(-2 * time.Hour)
				}
				x.Put(h, op) // the older ones too, as it happens
				v.Ops[h] = append(v.Ops[h], op)
			}
		}
		sameWithIndex(t, v, x, now)
	})
}
