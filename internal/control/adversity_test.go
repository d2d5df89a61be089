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

// TestRollbackDoesNotReopenUnderAnother: a rollout that has ended is not opened again while another one has its hosts.
func TestRollbackDoesNotReopenUnderAnother(t *testing.T) {
	h := newHouse(t, "a", "a")
	r := h.start(operator.RolloutSpec{})
	if !h.run(time.Hour, h.status(r.ID, "done")) {
		t.Fatal(h.dump())
	}
	h.addKernel("newer", "6.12.200-cloud-amd64")
	second, err := h.c.StartRollout(t.Context(), "ada", operator.RolloutSpec{Kernel: "newer"}, "", h.now)
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.c.ChangeRollout(t.Context(), "ada", operator.Change{Rollout: r.ID, Action: "rollback", Why: "x"}, h.now)
	if err == nil || !errors.Is(err, operator.ErrState) || !strings.Contains(err.Error(), "in rollout "+second.ID) {
		t.Errorf("rollback under another rollout: %v", err)
	}
	if got := h.rollout(r.ID).Status; got != "done" {
		t.Errorf("%s is %s", r.ID, got)
	}
}

// TestRollbackWithNobodyToBringBack: the hosts have got a newer kernel; to call the older rollout rolled back would be a lie.
func TestRollbackWithNobodyToBringBack(t *testing.T) {
	h := newHouse(t, "a", "a")
	first := h.start(operator.RolloutSpec{})
	if !h.run(time.Hour, h.status(first.ID, "done")) {
		t.Fatal(h.dump())
	}
	h.addKernel("newer", "6.12.200-cloud-amd64")
	soak := time.Second
	second, err := h.c.StartRollout(t.Context(), "ada", operator.RolloutSpec{Kernel: "newer", Soak: &soak}, "", h.now)
	if err != nil {
		t.Fatal(err)
	}
	if !h.run(time.Hour, h.status(second.ID, "done")) {
		t.Fatal(h.dump())
	}
	_, err = h.c.ChangeRollout(t.Context(), "ada", operator.Change{Rollout: first.ID, Action: "rollback", Why: "x"}, h.now)
	if err == nil || !strings.Contains(err.Error(), "no host that it brought to "+newRelease+" runs that now") {
		t.Errorf("rollback: %v", err)
	}
	// Once the newer one is rolled back, there is something to bring back.
	for _, r := range []operator.Rollout{second, first} {
		h.change(operator.Change{Rollout: r.ID, Action: "rollback", Why: "x"})
		if !h.run(time.Hour, h.status(r.ID, "rolled-back")) {
			t.Fatalf("%s\n%s", h.rollout(r.ID).Next, h.dump())
		}
	}
	for _, s := range h.hosts {
		if s.release != oldRelease || s.deflt != oldRelease {
			t.Errorf("%s runs %s, default %s", s.id, s.release, s.deflt)
		}
	}
}

// canBeChosen: an open incident offers nothing that its rollout would refuse.
func (h *house) canBeChosen() {
	h.t.Helper()
	_, open := h.incidents()
	for _, in := range open {
		if len(in.Choices) == 0 {
			h.t.Errorf("%s offers nothing", in.ID)
		}
		status := h.rollout(in.Rollout).Status
		for _, c := range in.Choices {
			for action, not := range map[string][]string{"abort": {"aborting", "rolling-back"}, "rollback": {"rolling-back"}, "resume": {"aborting", "rolling-back"}, "leave-out": {"aborting", "rolling-back"}} {
				if strings.Contains(c.Command, "rollout "+action) && slices.Contains(not, status) {
					h.t.Errorf("%s of a rollout that is %s offers: %s", in.ID, status, c.Command)
				}
			}
		}
	}
}

// TestRollbackGoesOn: a host that the new kernel lost is found while the others are being brought back. A person has decided already.
func TestRollbackGoesOn(t *testing.T) {
	h := newHouse(t, "a", "a", "a")
	r := h.start(operator.RolloutSpec{ReturnWithin: 2 * time.Minute})
	if !h.run(time.Hour, func() bool { return h.rollout(r.ID).Stage > 0 }) {
		t.Fatal(h.dump())
	}
	for _, s := range h.hosts {
		s.hangs = s.release == oldRelease
	}
	if !h.run(time.Hour, func() bool { return slices.ContainsFunc(h.hosts, func(s *simHost) bool { return s.down }) }) {
		t.Fatal(h.dump())
	}
	h.change(operator.Change{Rollout: r.ID, Action: "rollback", Why: "it hangs"})
	if !h.run(time.Hour, func() bool { _, open := h.incidents(); return len(open) > 0 }) {
		t.Fatal(h.dump())
	}
	if got := h.rollout(r.ID); got.Status != "rolling-back" {
		t.Errorf("it is %s: %s", got.Status, got.Next)
	}
	h.canBeChosen()
	_, open := h.incidents()
	h.change(operator.Change{Rollout: r.ID, Action: "skip", Host: open[0].Hosts[0], Why: "broken"})
	for _, s := range h.hosts { // it is power cycled: a budget of one lets nobody go before
		s.down, s.hangs = false, false
	}
	if !h.run(time.Hour, h.status(r.ID, "rolled-back")) {
		t.Errorf("%s\n%s", h.rollout(r.ID).Next, h.dump())
	}
}

func (h *house) addKernel(id fleet.KernelID, release string) {
	h.t.Helper()
	if err := h.st.Update(h.t.Context(), func(tx store.Tx) error {
		return tx.AddKernel(fleet.Kernel{
			ID: id, Version: "1", Release: release, Family: "debian", Arch: "amd64",
			Flavour: "cloud-amd64", Packages: []fleet.Package{{Name: "linux-image", SHA256: string(id), Size: 1}},
		})
	}); err != nil {
		h.t.Fatal(err)
	}
}

// TestIncidentsEndWithTheirRollout: nobody can close the incident of a rollout that has ended.
func TestIncidentsEndWithTheirRollout(t *testing.T) {
	h := newHouse(t, "a", "b")
	h.hosts[0].hangs, h.hosts[1].hangs = true, true
	r := h.start(operator.RolloutSpec{ReturnWithin: 30 * time.Second})
	if !h.run(time.Minute, func() bool { return h.hosts[0].down && h.hosts[1].down }) {
		t.Fatal(h.dump())
	}
	h.change(operator.Change{Rollout: r.ID, Action: "abort", Why: "enough"})
	h.run(10*time.Minute, nil) // both are lost while it aborts
	if _, open := h.incidents(); len(open) != 2 {
		t.Fatalf("%d incidents\n%s", len(open), h.dump())
	}
	h.canBeChosen()
	for _, s := range h.hosts {
		h.change(operator.Change{Rollout: r.ID, Action: "skip", Host: s.id, Why: "broken"})
	}
	if !h.run(time.Minute, h.status(r.ID, "aborted")) {
		t.Fatalf("%s\n%s", h.rollout(r.ID).Next, h.dump())
	}
	if _, open := h.incidents(); len(open) != 0 {
		t.Errorf("still open: %+v", open)
	}
	// One that comes back after the end, and tells of a problem, leaves its event and nothing to decide.
	s := h.hosts[0]
	s.down, s.hangs, s.panics = false, false, true
	h.run(5*time.Minute, nil)
	if _, open := h.incidents(); len(open) != 0 {
		t.Errorf("opened after the end: %+v", open)
	}
	if s.op.Phase != fleet.PhaseFellBack {
		t.Errorf("%s: %s", s.id, s.op.Phase)
	}
}

// TestGrantWithoutItsOperation: one damaged row must not stop the whole control plane; the host stays counted.
func TestGrantWithoutItsOperation(t *testing.T) {
	h := newHouse(t, "a", "b")
	h.run(5*time.Second, nil)
	if err := h.st.Update(t.Context(), func(tx store.Tx) error {
		return tx.PutGrant(store.Grant{ID: "g-x", Operation: "o-gone", Host: "h0", GivenAt: h.now, ExpiresAt: h.now})
	}); err != nil {
		t.Fatal(err)
	}
	r := h.start(operator.RolloutSpec{})
	h.run(5*time.Minute, nil)
	if h.hosts[0].release != oldRelease || h.hosts[1].release != newRelease {
		t.Errorf("h0 runs %s, h1 runs %s; want the kernel on h1 alone", h.hosts[0].release, h.hosts[1].release)
	}
	why, err := h.c.WhyHost(t.Context(), "h0", h.now)
	if err != nil || !strings.Contains(why.Why, "holds a grant") {
		t.Errorf("why h0: %+v, %v", why, err)
	}
	if _, err := h.c.SetHostStatus(t.Context(), "ada", "h0", fleet.StatusMaintenance, "looked", h.now); err != nil {
		t.Fatal(err)
	}
	h.run(10*time.Second, nil)
	if _, err := h.c.SetHostStatus(t.Context(), "ada", "h0", fleet.StatusActive, "well", h.now); err != nil {
		t.Fatal(err)
	}
	if !h.run(time.Hour, h.status(r.ID, "done")) {
		t.Fatalf("%s\n%s", h.rollout(r.ID).Next, h.dump())
	}
}

// TestConfirmAsksForTheGrant: the last moment needs this host's grant for this operation, and a live one.
func TestConfirmAsksForTheGrant(t *testing.T) {
	h := newHouse(t, "a", "b")
	h.start(operator.RolloutSpec{})
	drained := func(s *simHost) bool { return s.op != nil && s.op.Phase == fleet.PhaseDrained }
	if !h.run(time.Minute, func() bool { return drained(h.hosts[0]) && drained(h.hosts[1]) }) {
		t.Fatal(h.dump())
	}
	gs := h.liveGrants()
	slices.SortFunc(gs, func(a, b store.Grant) int { return strings.Compare(string(a.Host), string(b.Host)) })
	mine, other := gs[0], gs[1]
	ask := func(g fleet.GrantID, want string) {
		t.Helper()
		a, err := h.c.ConfirmReboot(t.Context(), mine.Host, mine.Operation, g, h.now)
		if err != nil || a.Yes != (want == "") || !strings.Contains(a.WhyNot, want) {
			t.Errorf("confirm under %s: %+v, %v; want %q", g, a, err, want)
		}
	}
	put := func(g store.Grant) {
		t.Helper()
		if err := h.st.Update(t.Context(), func(tx store.Tx) error { return tx.PutGrant(g) }); err != nil {
			t.Fatal(err)
		}
	}
	ask(other.ID, "is for another operation")
	ended := mine
	ended.EndedAt, ended.EndedWhy = h.now, "a person took the host out"
	put(ended)
	ask(mine.ID, "has ended: a person took the host out")
	late := mine
	late.ExpiresAt = h.now
	put(late)
	ask(mine.ID, "ran out")
	put(mine)
	freeze := func(why string) {
		t.Helper()
		if err := h.st.Update(t.Context(), func(tx store.Tx) error {
			host, err := tx.Host(mine.Host)
			host.Frozen = why
			return errors.Join(err, tx.PutHost(host))
		}); err != nil {
			t.Fatal(err)
		}
	}
	freeze("two machines use its certificate")
	ask(mine.ID, "the host is frozen: two machines")
	freeze("")
	ask(mine.ID, "")
}

// TestAnswerHoldsNoDeadGrant: what a check-in is told of a grant is true at that moment.
func TestAnswerHoldsNoDeadGrant(t *testing.T) {
	h := newHouse(t, "a")
	h.start(operator.RolloutSpec{})
	s := h.hosts[0]
	if !h.run(time.Minute, func() bool { return s.op != nil && s.op.Phase == fleet.PhaseDraining }) {
		t.Fatal(h.dump())
	}
	g := h.liveGrants()[0]
	ask := func(now time.Time) fleet.DesiredOperation {
		t.Helper()
		f := s.facts()
		d, err := h.c.CheckIn(t.Context(), fleet.Report{
			Host: s.id, FactsHash: f.Hash(), Operation: s.op,
			Now: fleet.HostState{BootID: "h0-1", Release: s.release, NotInServiceWhy: "in an operation"},
		}, now)
		if err != nil || d.Operation == nil {
			t.Fatalf("%+v, %v", d, err)
		}
		return *d.Operation
	}
	if d := ask(h.now); d.Grant == nil || d.Grant.ID != g.ID || d.Grant.Life > h.c.cfg.GrantLife {
		t.Errorf("live: %+v", d.Grant)
	}
	if d := ask(g.ExpiresAt); d.Grant != nil {
		t.Errorf("run out: %+v", d.Grant)
	}
	h.stop.why = "by ada: fire"
	if d := ask(h.now); d.Grant != nil || d.Word != fleet.WordCancel || !strings.Contains(d.WordWhy, "fire") {
		t.Errorf("stopped: grant %+v, word %q because %q", d.Grant, d.Word, d.WordWhy)
	}
}

// TestStrangePhases: phases that go backwards, that nobody knows, and a journal that is gone are anomalies, and the
// phase that is kept is one of ours.
func TestStrangePhases(t *testing.T) {
	for name, c := range map[string]struct {
		say  func(op *fleet.OperationReport) *fleet.OperationReport
		want string
	}{
		"backwards": {func(op *fleet.OperationReport) *fleet.OperationReport { op.Phase = fleet.PhasePreparing; return op }, "says preparing after it said"},
		"unknown":   {func(op *fleet.OperationReport) *fleet.OperationReport { op.Phase = "flying"; return op }, "says flying after it said"},
		"journal":   {func(*fleet.OperationReport) *fleet.OperationReport { return nil }, "does not know operation"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, "a", "a")
			r := h.start(operator.RolloutSpec{})
			var s *simHost
			if !h.run(time.Minute, func() bool {
				for _, x := range h.hosts {
					if x.op != nil && x.op.Phase == fleet.PhaseDraining {
						s = x
					}
				}
				return s != nil
			}) {
				t.Fatal(h.dump())
			}
			h.run(2*time.Second, nil) // it has said so
			was := *s.op
			was.Phase = fleet.PhaseDraining
			s.down = true
			f := s.facts()
			if _, err := h.c.CheckIn(t.Context(), fleet.Report{
				Host: s.id, FactsHash: f.Hash(), Operation: c.say(&was),
				Now: fleet.HostState{BootID: fmt.Sprint(s.id, "-1"), Release: s.release, InService: true},
			}, h.now); err != nil {
				t.Fatal(err)
			}
			h.run(5*time.Second, nil)
			got := h.rollout(r.ID)
			if got.Status != "paused" || !strings.Contains(got.StatusWhy, c.want) {
				t.Errorf("%s: %s", got.Status, got.StatusWhy)
			}
			_, ops, err := h.c.Host(t.Context(), s.id, h.now)
			if err != nil || !ops[0].Phase.Known() || ops[0].Word != fleet.WordCancel {
				t.Errorf("operation %+v, %v", ops[0], err)
			}
		})
	}
}

// TestParkedHostIsGrantedNothing: its agent would not use the grant, and the budget would be spent.
func TestParkedHostIsGrantedNothing(t *testing.T) {
	h := newHouse(t, "a")
	h.start(operator.RolloutSpec{})
	s := h.hosts[0]
	if !h.run(time.Minute, func() bool { return s.op != nil }) {
		t.Fatal(h.dump())
	}
	s.parked = "damaged journal"
	h.run(time.Minute, nil)
	if n := len(h.events("grant.given")); n != 0 {
		t.Errorf("%d grants\n%s", n, h.dump())
	}
	why, err := h.c.WhyHost(t.Context(), s.id, h.now)
	if err != nil || !strings.Contains(why.Why, "its agent is parked: damaged journal") {
		t.Errorf("why: %+v, %v", why, err)
	}
}

// TestApprovalsThatDoNotCount: one that ran out, and one for types that were told apart in another way.
func TestApprovalsThatDoNotCount(t *testing.T) {
	h := newHouse(t, "a")
	h.run(5*time.Second, nil)
	canaries := func() int {
		t.Helper()
		r, err := h.c.PlanRollout(t.Context(), "ada", operator.RolloutSpec{Kernel: "new"}, h.now)
		if err != nil {
			t.Fatal(err)
		}
		return r.Stages[0].Hosts
	}
	approve := func(version int, until time.Time) {
		t.Helper()
		if err := h.st.Update(t.Context(), func(tx store.Tx) error {
			k, err := tx.Kernel("new")
			if err != nil {
				return err
			}
			_, err = tx.AppendApproval(store.Approval{
				Kernel: k.ID, Checksum: k.Checksum(), Type: fleet.TypeOf(*h.hosts[0].facts()).ID,
				TypeKeyVersion: version, At: h.now, Until: until, Evidence: "trial passed", By: "test",
			})
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	approve(fleet.TypeKeyVersion, h.now)
	approve(fleet.TypeKeyVersion+1, h.now.Add(time.Hour))
	if n := canaries(); n != 1 {
		t.Errorf("%d canaries, want one: no approval counts", n)
	}
	approve(fleet.TypeKeyVersion, h.now.Add(time.Hour))
	if n := canaries(); n != 0 {
		t.Errorf("%d canaries of an approved type", n)
	}
}

// TestLabelBudget: hosts of two types in one rack leave service one after another.
func TestLabelBudget(t *testing.T) {
	h := newHouse(t, "a", "b")
	h.run(5*time.Second, nil)
	if err := h.c.SetBudget(t.Context(), "ada", operator.Budget{By: "label:rack", Limit: 1}, h.now); err != nil {
		t.Fatal(err)
	}
	r := h.start(operator.RolloutSpec{})
	if !h.run(time.Hour, func() bool {
		if h.hosts[0].outOfService && h.hosts[1].outOfService {
			t.Fatalf("both are out\n%s", h.dump())
		}
		return h.status(r.ID, "done")()
	}) {
		t.Fatalf("%s\n%s", h.rollout(r.ID).Next, h.dump())
	}
	if n := len(h.events("operation.word")); n < 2 {
		t.Errorf("%d events tell of words, want each commit's", n)
	}
}

// TestBudgetKeepsToThePlannedType: hosts that name themselves anew in the middle do not double their budget.
func TestBudgetKeepsToThePlannedType(t *testing.T) {
	h := newHouse(t, "a", "a", "a", "a")
	r := h.start(operator.RolloutSpec{})
	if !h.run(time.Hour, func() bool { return h.rollout(r.ID).Stage == 4 && len(h.liveGrants()) > 0 }) {
		t.Fatal(h.dump())
	}
	for i, s := range h.hosts {
		s.model = fmt.Sprint("renamed-", i)
	}
	h.run(5*time.Minute, func() bool {
		out := 0
		for _, s := range h.hosts {
			if s.outOfService {
				out++
			}
		}
		if out > 1 {
			t.Fatalf("%d of one planned type are out\n%s", out, h.dump())
		}
		return false
	})
}

// lateStop comes after so many questions.
type lateStop struct{ after int }

func (s *lateStop) Stopped() (string, bool) {
	s.after--
	return "stopped by ada: fire", s.after < 0
}

// TestStopWhileConfirming: a stop at any instant of the last-moment answer takes it back.
func TestStopWhileConfirming(t *testing.T) {
	h := newHouse(t, "a")
	h.start(operator.RolloutSpec{})
	if !h.run(time.Minute, func() bool { return h.hosts[0].op != nil && h.hosts[0].op.Phase == fleet.PhaseDrained }) {
		t.Fatal(h.dump())
	}
	g := h.liveGrants()[0]
	for after := 0; ; after++ {
		stop := &lateStop{after}
		c, err := New(h.c.cfg, h.st, stop, h.c.log)
		if err != nil {
			t.Fatal(err)
		}
		a, err := c.ConfirmReboot(t.Context(), g.Host, g.Operation, g.ID, h.now)
		if err != nil {
			t.Fatal(err)
		}
		if stop.after >= 0 { // it never came
			if after < 2 || !a.Yes {
				t.Errorf("asked %d times, answer %+v", after-stop.after, a)
			}
			return
		}
		if a.Yes {
			t.Errorf("yes, though everything was stopped before question %d", after+1)
		}
	}
}

// TestSilentHostUsesTheBudgetUp: also one that no rollout has, from the start of the control plane on.
func TestSilentHostUsesTheBudgetUp(t *testing.T) {
	h := newHouse(t, "a", "a")
	h.run(5*time.Second, nil)
	h.hosts[1].down = true
	h.run(5*time.Minute, nil)
	h.restart()
	r := h.start(operator.RolloutSpec{Selector: "id=h0"})
	h.run(10*time.Minute, nil)
	if n := len(h.hosts[0].reboots); n != 0 {
		t.Fatalf("%d reboots while another host of the type is silent\n%s", n, h.dump())
	}
	why, err := h.c.WhyHost(t.Context(), "h0", h.now)
	if err != nil || !strings.Contains(why.Why, "budget spent") || !strings.Contains(why.Why, "h1 is silent since") {
		t.Errorf("why h0: %+v, %v", why, err)
	}
	if got := h.rollout(r.ID).Next; !strings.Contains(got, "see kernwave why h0") {
		t.Errorf("it waits for %q", got)
	}
	if _, err := h.c.SetHostStatus(t.Context(), "ada", "h1", fleet.StatusRetired, "gone", h.now); err != nil {
		t.Fatal(err)
	}
	if !h.run(time.Hour, h.status(r.ID, "done")) {
		t.Fatalf("%s\n%s", h.rollout(r.ID).Next, h.dump())
	}
}

// TestMaintenanceInTheMiddle: in every phase a person may take a host out and give it back; the rollout still ends,
// nobody keeps a grant, and nobody reboots twice without having come back.
func TestMaintenanceInTheMiddle(t *testing.T) {
	for _, p := range []fleet.Phase{fleet.PhasePreparing, fleet.PhasePrepared, fleet.PhaseDraining, fleet.PhaseDrained, fleet.PhaseRebooting, fleet.PhasePassed} {
		t.Run(string(p), func(t *testing.T) {
			h := newHouse(t, "a", "a", "a")
			r := h.start(operator.RolloutSpec{})
			var s *simHost
			if !h.run(time.Hour, func() bool {
				for _, x := range h.hosts {
					if x.op != nil && x.op.Phase == p {
						s = x
					}
				}
				return s != nil
			}) {
				t.Fatal(h.dump())
			}
			for _, to := range []fleet.Status{fleet.StatusMaintenance, fleet.StatusActive} {
				if _, err := h.c.SetHostStatus(t.Context(), "ada", s.id, to, "fan", h.now); err != nil {
					t.Fatal(err)
				}
				h.run(20*time.Second, nil)
			}
			if !h.run(time.Hour, h.status(r.ID, "done")) {
				t.Fatalf("%s\n%s", h.rollout(r.ID).Next, h.dump())
			}
			h.run(10*time.Second, nil)
			if gs := h.liveGrants(); len(gs) != 0 {
				t.Errorf("grants: %+v", gs)
			}
			for _, s := range h.hosts {
				if s.release != newRelease || len(s.reboots) != 1 {
					t.Errorf("%s runs %s after %d reboots\n%s", s.id, s.release, len(s.reboots), h.dump())
				}
			}
		})
	}
}
