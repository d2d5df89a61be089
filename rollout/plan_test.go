package rollout

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kernwave/kernwave/fleet"
)

func noneApproved(fleet.HostTypeID) bool { return false }

func TestWhoCannotTakePart(t *testing.T) {
	change := func(f func(h *fleet.Host)) fleet.Host { h := testHost("x", "t"); f(&h); return h }
	for _, c := range []struct {
		name string
		host fleet.Host
		why  string
	}{
		{"retired", change(func(h *fleet.Host) { h.Status = fleet.StatusRetired }), "retired"},
		{"maintenance", change(func(h *fleet.Host) { h.Status, h.StatusWhy = fleet.StatusMaintenance, "ada: fan" }), "in maintenance: ada: fan"},
		{"revoked", change(func(h *fleet.Host) { h.Revoked = true }), "revoked"},
		{"unknown", change(func(h *fleet.Host) { h.FactsHash = "" }), "never said what it is"},
		{"parked", change(func(h *fleet.Host) { h.Now.Parked = "damaged journal" }), "damaged journal"},
		{"architecture", change(func(h *fleet.Host) { h.Facts.Arch = "arm64" }), "the kernel is for amd64, the host is arm64"},
		{"flavour", change(func(h *fleet.Host) { h.Facts.Kernel.Flavour = "rt-amd64" }), "the host runs rt-amd64"},
		{"family", change(func(h *fleet.Host) { h.Facts.OS.Family = "" }), "the host needs unknown"},
		{"no one-shot", change(func(h *fleet.Host) {
			h.Facts.Boot.OneShot, h.Facts.Boot.OneShotWhy = fleet.OneShotImpossible, "/boot is on LVM"
		}), "/boot is on LVM"},
		{"one-shot not known", change(func(h *fleet.Host) { h.Facts.Boot.OneShot = "" }), "not known"},
		{"has it", change(func(h *fleet.Host) { h.Now.Release, h.Facts.Boot.Default = newRelease, newRelease }), "already runs " + newRelease},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := MakePlan(Spec{}.WithDefaults(), testKernel(), []fleet.Host{c.host}, noneApproved, "s")
			if err == nil || !strings.Contains(err.Error(), c.why) {
				t.Errorf("got %v, want %q", err, c.why)
			}
		})
	}
}

// TestCanaryShowsSomething: a host that runs the kernel already, though not by default, is canary last.
func TestCanaryShowsSomething(t *testing.T) {
	var hosts []fleet.Host
	for i := range 5 {
		h := testHost(fmt.Sprint("h", i), "t")
		if i != 3 {
			h.Now.Release = newRelease
		}
		hosts = append(hosts, h)
	}
	for _, salt := range []string{"a", "b", "c", "d"} {
		p, err := MakePlan(Spec{}.WithDefaults(), testKernel(), hosts, noneApproved, salt)
		if err != nil || p.Types[0].Canaries[0] != "h3" {
			t.Errorf("canary %v, %v; want h3", p.Types, err)
		}
	}
}

// TestPlan: every host once; stages cumulative, rounded up, canaries counted; types spread over the waves.
func TestPlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 300).Draw(t, "hosts")
		types := rapid.IntRange(1, 5).Draw(t, "types")
		var hosts []fleet.Host
		for i := range n {
			hosts = append(hosts, testHost(fmt.Sprint("h", i), fmt.Sprint("t", i%types)))
		}
		spec := Spec{Kernel: "new", Canaries: rapid.IntRange(1, 3).Draw(t, "canaries")}.WithDefaults()
		approved := func(id fleet.HostTypeID) bool { return id == "t0" }
		p, err := MakePlan(spec, testKernel(), hosts, approved, "salt")
		if err != nil {
			t.Fatal(err)
		}
		if err := spec.Validate(); err != nil {
			t.Fatal(err)
		}
		seen := map[fleet.HostID]bool{}
		perStage := make([]int, len(p.Stages))
		last := 0
		for _, h := range p.Hosts {
			if seen[h.ID] || h.Stage < last {
				t.Fatalf("%s twice, or out of order", h.ID)
			}
			seen[h.ID], last = true, h.Stage
			perStage[h.Stage]++
		}
		if len(seen) != n {
			t.Fatalf("%d of %d hosts are planned", len(seen), n)
		}
		canaries := 0
		for _, tp := range p.Types {
			want := min(spec.Canaries, tp.Hosts)
			if tp.ID == "t0" {
				want = 0 // approved already
			}
			if len(tp.Canaries) != want {
				t.Fatalf("type %s of %d hosts has %d canaries, want %d", tp.ID, tp.Hosts, len(tp.Canaries), want)
			}
			canaries += want
		}
		upto := 0
		for i, st := range p.Stages {
			upto += perStage[i]
			if st.Adds != perStage[i] || st.Upto != upto {
				t.Fatalf("stage %d: plan says %+v, hosts say %d, %d", i, st, perStage[i], upto)
			}
			if want := max(canaries, (n*st.Percent+99)/100); upto != want {
				t.Fatalf("stage %d (%d %%) of %d hosts, %d canaries: %d hosts done at its end, want %d", i, st.Percent, n, canaries, upto, want)
			}
		}
	})
}

func TestSpecValidate(t *testing.T) {
	for _, c := range []struct {
		spec Spec
		want string
	}{
		{Spec{}, "kernel: must be named"},
		{Spec{Kernel: "k", Waves: []int{5, 5, 100}}, "5 % at position 2"},
		{Spec{Kernel: "k", Waves: []int{1, 50}}, "the last is 50 %"},
		{Spec{Kernel: "k", Waves: []int{1, 150}}, "150 % at position 2"},
		{Spec{Kernel: "k", Soak: -1}, "soak"},
		{Spec{Kernel: "k", Canaries: 101}, "canaries: 101"},
		{Spec{Kernel: "k", ReturnWithin: 1}, "return within"},
	} {
		if err := c.spec.WithDefaults().Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, want %q", c.spec, err, c.want)
		}
	}
}
