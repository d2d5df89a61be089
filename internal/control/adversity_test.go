package control

import (
	"errors"
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

func (h *house) addKernel(id fleet.KernelID, release string) {
	h.t.Helper()
	if err := h.st.Update(h.t.Context(), func(tx store.Tx) error {
		return tx.AddKernel(fleet.Kernel{ID: id, Version: "1", Release: release, Family: "debian", Arch: "amd64",
			Flavour: "cloud-amd64", Packages: []fleet.Package{{Name: "linux-image", SHA256: string(id), Size: 1}}})
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
