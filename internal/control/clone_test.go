package control

import (
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/internal/store/sqlite"
)

// plane is one of two control planes over copies of one store.
type plane struct {
	c    *Control
	st   *sqlite.Store
	stop *stopFlag
}

// TestCloneBesideTheOriginal lets a copy of a store run beside the original, in the middle of a rollout, with hosts that
// reach the one, the other, or now this and now that, and lose a third of the answers. An impatient person lifts the copy's stop by force at once. The
// budget holds over both, and the original stops as soon as it hears from a host that obeys the copy.
func TestCloneBesideTheOriginal(t *testing.T) {
	seeds := int64(40)
	if testing.Short() {
		seeds = 8
	}
	noticed, boots := 0, 0
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			saw, n := cloneBeside(t, rand.New(rand.NewSource(seed)))
			if saw {
				noticed++
			}
			boots += n
		})
	}
	t.Logf("%d seeds, %d trials; the original heard of the copy in %d", seeds, boots, noticed)
	if noticed == 0 || boots == 0 {
		t.Error("this test looked at nothing")
	}
}

func cloneBeside(t *testing.T, rnd *rand.Rand) (noticed bool, boots int) {
	h := newHouse(t, "a", "a", "a", "a", "a", "b", "b", "b")
	soak := time.Second
	r := h.start(operator.RolloutSpec{Waves: []int{50, 100}, Soak: &soak})
	h.run(time.Duration(rnd.Intn(120))*time.Second, nil)
	original := plane{h.c, h.st, &h.stop}
	start, copied := h.clone()
	if err := SettleMove(t.Context(), copied.st, start, h.now); err != nil {
		t.Fatal(err)
	}
	// 0: the original, 1: the copy, 2: either, 3: either, but never an answer of the copy
	reach := map[fleet.HostID]int{}
	for _, s := range h.hosts {
		reach[s.id], s.old = rnd.Intn(4), rnd.Intn(2) == 0
		s.loses = func() bool { return h.c == copied.c && reach[s.id] == 3 || rnd.Intn(3) == 0 }
	}
	planes := []plane{original, copied}
	forcedAt, resumed := time.Duration(rnd.Intn(200))*time.Second, false
	for began := h.now; h.now.Sub(began) < 15*time.Minute; h.now = h.now.Add(time.Second) {
		if !resumed && h.now.Sub(began) >= forcedAt {
			resumed = true
			copied.stop.why = ""
			copied.c.Accept()
			_, _ = copied.c.ChangeRollout(t.Context(), "ada", operator.Change{Rollout: r.ID, Action: "resume"}, h.now)
		}
		for _, p := range planes {
			if _, err := p.c.Tick(t.Context(), h.now); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range h.hosts {
			if s.next.After(h.now) {
				continue
			}
			which := reach[s.id]
			if which >= 2 {
				which = rnd.Intn(2)
			}
			h.c = planes[which].c
			s.turn(h)
		}
		h.checkBudget()
	}
	for _, s := range h.hosts {
		both := reach[s.id] == 2 && s.seen.Incarnation == 2
		if why := original.c.Status(h.now).Superseded; both && !strings.Contains(why, "incarnation 2") {
			t.Errorf("%s obeys the copy and speaks to the original, which says %q", s.id, why)
		}
		noticed = noticed || both
		boots += len(s.reboots)
	}
	if noticed && len(open(t, original)) > 0 {
		for _, g := range open(t, original) {
			if h.now.Before(g.ExpiresAt) {
				t.Errorf("the original still lets %s leave service", g.Host)
			}
		}
	}
	return noticed, boots
}

// TestCopyCountsWhoMayObeyTheOriginal: a host that was heard by the copy, and never got its answer, still obeys the
// original and may leave service at any moment. The copy counts it as out, though it says that it serves.
func TestCopyCountsWhoMayObeyTheOriginal(t *testing.T) {
	h := newHouse(t, "a", "a", "a")
	soak := time.Second
	r := h.start(operator.RolloutSpec{Soak: &soak})
	if !h.run(time.Hour, func() bool { return h.rollout(r.ID).Stage > 0 }) { // the canary has committed
		t.Fatal(h.dump())
	}
	var one, two *simHost
	for _, s := range h.hosts {
		if s.release == oldRelease && one == nil {
			one = s
		} else if s.release == oldRelease {
			two = s
		}
		s.old = true
	}
	h.stop.why = "so that nobody leaves service yet"
	h.run(10*time.Second, nil)
	h.stop.why = ""
	original := h.c
	start, copied := h.clone()
	if err := SettleMove(t.Context(), copied.st, start, h.now); err != nil {
		t.Fatal(err)
	}
	one.loses = func() bool { return h.c == copied.c }
	copied.stop.why = "" // forced
	copied.c.Accept()
	if _, err := copied.c.ChangeRollout(t.Context(), "ada", operator.Change{Rollout: r.ID, Action: "resume"}, h.now); err != nil {
		t.Fatal(err)
	}
	h.c = copied.c
	one.turn(h) // in service, it says
	for range 60 {
		for _, c := range []*Control{original, copied.c} {
			if _, err := c.Tick(t.Context(), h.now); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range h.hosts {
			h.c = copied.c
			if s == one {
				h.c = original
			}
			if !s.next.After(h.now) {
				s.turn(h)
			}
		}
		h.checkBudget()
		h.now = h.now.Add(time.Second)
	}
	if len(one.reboots) == 0 || len(two.reboots) > 0 {
		t.Errorf("reboots: %v under the original, %v under the copy", one.reboots, two.reboots)
	}
}

// clone begins a control plane on a copy of what there is.
func (h *house) clone() (store.Start, plane) {
	h.t.Helper()
	st, err := sqlite.OpenSnapshot(h.snapshot(), sqlite.Options{Rand: rand.New(rand.NewSource(2))})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { st.Close() })
	start, err := st.Begin(h.t.Context(), store.Place{MachineID: "m", Dir: "elsewhere", Instance: "copy", At: h.now})
	if err != nil || start.Incarnation.Incarnation != 2 {
		h.t.Fatal(start, err)
	}
	p := plane{st: st, stop: &stopFlag{start.Moved}}
	if p.c, err = New(Config{From: start.Incarnation, Now: func() time.Time { return h.now }}, st, p.stop, h.c.log); err != nil {
		h.t.Fatal(err)
	}
	return start, p
}

func open(t *testing.T, p plane) (gs []store.Grant) {
	t.Helper()
	if err := p.st.View(t.Context(), func(r store.Reader) (err error) { gs, err = r.LiveGrants(); return err }); err != nil {
		t.Fatal(err)
	}
	return gs
}

// TestTakeOver: what becomes of each operation that a host tells and the rows do not know, or know otherwise.
func TestTakeOver(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	said := func(id fleet.OperationID, p fleet.Phase, c fleet.Cause) fleet.OperationReport {
		x := fleet.OperationReport{ID: id, Kind: fleet.KindUpdate, Kernel: "new", Release: newRelease, Phase: p, Owner: "r-1"}
		if c != "" {
			x.Problem = &fleet.Problem{Cause: c, What: "it went wrong"}
		}
		return x
	}
	row := func(id fleet.OperationID, p fleet.Phase) fleet.Operation {
		return fleet.Operation{ID: id, Host: "h", Owner: "r-1", Phase: p, Release: newRelease}
	}
	for _, c := range []struct {
		name   string
		told   []fleet.OperationReport
		rows   []fleet.Operation // newest first
		want   string            // id phase word, of what is written
		failed bool
	}{
		{name: "nothing"},
		{name: "known and over", told: []fleet.OperationReport{said("o", fleet.PhaseCommitted, "")}, rows: []fleet.Operation{row("o", fleet.PhaseCommitted)}},
		{name: "known as committed, and it went back since", told: []fleet.OperationReport{said("o", fleet.PhaseFellBack, fleet.CauseNotBooted)}, rows: []fleet.Operation{row("o", fleet.PhaseCommitted)}, failed: true},
		{name: "known as committed, and going back", told: []fleet.OperationReport{said("o", fleet.PhaseReverting, "")}, rows: []fleet.Operation{row("o", fleet.PhaseCommitted)}, failed: true},
		{name: "known as fallen back, and nothing else", told: []fleet.OperationReport{said("o", fleet.PhaseFellBack, fleet.CauseNotBooted)}, rows: []fleet.Operation{row("o", fleet.PhaseFellBack)}},
		{name: "known, and went on", told: []fleet.OperationReport{said("o", fleet.PhaseTrial, "")}, rows: []fleet.Operation{row("o", fleet.PhasePrepared)}, want: "o trial"},
		{name: "known, and ended badly", told: []fleet.OperationReport{said("o", fleet.PhaseFellBack, fleet.CauseNotBooted)}, rows: []fleet.Operation{row("o", fleet.PhasePlanned)}, want: "o fell-back"},
		{name: "known, never begun", rows: []fleet.Operation{row("o", fleet.PhasePlanned)}, want: "o cancelled"},
		{name: "known, and the journal is gone", rows: []fleet.Operation{row("o", fleet.PhaseDrained)}, want: "o drained"},
		{name: "unknown, preparing", told: []fleet.OperationReport{said("n", fleet.PhasePreparing, "")}, want: "n preparing cancel"},
		{name: "unknown, drained", told: []fleet.OperationReport{said("n", fleet.PhaseDrained, "")}, want: "n drained cancel"},
		{name: "unknown, rebooting", told: []fleet.OperationReport{said("n", fleet.PhaseRebooting, "")}, want: "n rebooting revert"},
		{name: "unknown, in trial", told: []fleet.OperationReport{said("n", fleet.PhaseTrial, "")}, want: "n trial revert"},
		{name: "unknown, passed", told: []fleet.OperationReport{said("n", fleet.PhasePassed, "")}, want: "n passed revert"},
		{name: "unknown, committing", told: []fleet.OperationReport{said("n", fleet.PhaseCommitting, "")}, want: "n committing"},
		{name: "unknown, committed", told: []fleet.OperationReport{said("n", fleet.PhaseCommitted, "")}, want: "n committed"},
		{name: "unknown, fell back", told: []fleet.OperationReport{said("n", fleet.PhaseFellBack, fleet.CauseNotBooted)}, want: "n fell-back", failed: true},
		{name: "unknown, told to revert", told: []fleet.OperationReport{said("n", fleet.PhaseReverted, fleet.CauseTold)}, want: "n reverted"},
		{name: "fell back, then committed", told: []fleet.OperationReport{said("n", fleet.PhaseFellBack, fleet.CauseNotBooted), said("m", fleet.PhaseCommitted, "")}, want: "n fell-back, m committed"},
		{name: "told twice", told: []fleet.OperationReport{said("n", fleet.PhaseCommitted, ""), said("n", fleet.PhaseTrial, "")}, want: "n committed"},
		{name: "a phase of the future", told: []fleet.OperationReport{said("n", "pondering", "")}},
		{
			name: "one known ended, one unknown open", told: []fleet.OperationReport{said("o", fleet.PhaseCommitted, ""), said("n", fleet.PhaseTrial, "")},
			rows: []fleet.Operation{row("o", fleet.PhaseDraining), row("before", fleet.PhaseCommitted)}, want: "o committed, n trial revert",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			took := takeOver("h", c.told, c.rows, func(fleet.OperationReport) string { return "r-1" }, now)
			var got []string
			for _, op := range took.ops {
				got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s", op.ID, op.Phase, op.Word)))
				if op.Host != "h" || op.Owner != "r-1" {
					t.Errorf("%+v", op)
				}
			}
			if s := strings.Join(got, ", "); s != c.want {
				t.Errorf("got %q, want %q", s, c.want)
			}
			if len(took.events) != len(took.ops) {
				t.Errorf("%d events for %d operations", len(took.events), len(took.ops))
			}
			if _, failed := took.failed[newRelease]; failed != c.failed {
				t.Errorf("remembered as failed: %v", took.failed)
			}
		})
	}
}

// TestForgottenGrantIsCounted: a host whose operation is beyond its reboot is out, whatever it says of itself, and
// though the store knows of no grant.
func TestForgottenGrantIsCounted(t *testing.T) {
	h := newHouse(t, "a", "a")
	h.run(5*time.Second, nil)
	if err := h.st.Update(t.Context(), func(tx store.Tx) error {
		return tx.PutOperation(fleet.Operation{ID: "o-x", Host: "h0", Kind: fleet.KindUpdate, Release: newRelease, Owner: lostOwner, Phase: fleet.PhaseTrial})
	}); err != nil {
		t.Fatal(err)
	}
	_, use, err := h.c.Budgets(t.Context(), h.now)
	if err != nil || len(use) != 1 || len(use[0].Out) != 1 || use[0].Out[0] != (operator.Out{Host: "h0", Why: "is trial"}) {
		t.Errorf("use %+v, %v", use, err)
	}
}
