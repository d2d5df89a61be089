package agent

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kernwave/kernwave/fleet"
)

// drawOperation makes any snapshot that a journal could hold, and more.
func drawOperation(rt *rapid.T) operation {
	boot := func(name string) string { return rapid.SampledFrom([]string{"b1", "b2", "b3"}).Draw(rt, name) }
	up := func(name string) time.Duration {
		return time.Duration(rapid.IntRange(0, 100).Draw(rt, name)) * time.Second
	}
	o := operation{
		Seq: 1, ID: "op-1", Kind: rapid.SampledFrom([]fleet.Kind{fleet.KindUpdate, fleet.KindReboot}).Draw(rt, "kind"),
		Kernel:      fleet.Kernel{ID: "new", Release: "new"},
		Phase:       rapid.SampledFrom(fleet.Phases()[1:]).Draw(rt, "phase"),
		BootID:      boot("boot"),
		Since:       up("since"),
		FromRelease: "old", FromBootID: boot("from"), TrialDeadline: time.Minute,
		Arming: rapid.Bool().Draw(rt, "arming"), Committed: rapid.Bool().Draw(rt, "committed"), Undrained: rapid.Bool().Draw(rt, "undrained"),
		End: rapid.SampledFrom([]fleet.Phase{fleet.PhaseReverted, fleet.PhaseFellBack, fleet.PhaseFailed, fleet.PhaseCancelled}).Draw(rt, "end"),
	}
	if rapid.Bool().Draw(rt, "has_trial") {
		o.Trial = &fleet.Trial{BootID: boot("trial_boot"), Release: "new"}
	}
	if rapid.Bool().Draw(rt, "has_reboot") {
		o.Reboot = &reboot{BootID: boot("reboot_boot")}
		o.Returns = 1
	}
	if rapid.Bool().Draw(rt, "has_grant") {
		o.Grant = drawGrant(rt)
	}
	return o
}

func drawGrant(rt *rapid.T) *heldGrant {
	asked := time.Duration(rapid.IntRange(0, 100).Draw(rt, "asked")) * time.Second
	return &heldGrant{
		ID: "g", BootID: rapid.SampledFrom([]string{"b1", "b2"}).Draw(rt, "grant_boot"),
		Asked: asked, Until: asked + time.Duration(rapid.IntRange(0, 60).Draw(rt, "life"))*time.Second,
	}
}

func drawNow(rt *rapid.T) now {
	return now{
		BootID: rapid.SampledFrom([]string{"b1", "b2", "b3"}).Draw(rt, "now_boot"), Uptime: time.Duration(rapid.IntRange(0, 200).Draw(rt, "now")) * time.Second,
		Release:   rapid.SampledFrom([]string{"old", "new", "other"}).Draw(rt, "release"),
		TrialBoot: rapid.SampledFrom([]fleet.OperationID{"", "op-1", "op-0"}).Draw(rt, "trial"),
		Wall:      time.Unix(1_700_000_000, 0),
	}
}

func drawDesired(rt *rapid.T) *fleet.DesiredOperation {
	if rapid.Bool().Draw(rt, "nothing") {
		return nil
	}
	return &fleet.DesiredOperation{
		ID:   rapid.SampledFrom([]fleet.OperationID{"op-1", "op-2"}).Draw(rt, "id"),
		Word: rapid.SampledFrom([]fleet.Word{"", fleet.WordCommit, fleet.WordRevert, fleet.WordCancel}).Draw(rt, "word"),
	}
}

// TestTransitions: whatever is in a journal and whatever happens, the next phase can follow, ends stay, a host leaves
// service under a live grant only, and goes on towards the reboot under one only; nothing is changed in place.
func TestTransitions(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		o, n := drawOperation(rt), drawNow(rt)
		before, err := json.Marshal(o)
		if err != nil {
			rt.Fatal(err)
		}
		var g *heldGrant
		if rapid.Bool().Draw(rt, "granted") {
			g = drawGrant(rt)
		}
		d := drawDesired(rt)
		for name, next := range map[string]operation{
			"obey": obey(o, d, g, n), "lapse": lapse(o, g, n), "resume": resume(o, n, lastBoot{NoCrash: "none"}),
		} {
			if !o.Phase.CanBecome(next.Phase) {
				rt.Errorf("%s: %s became %s", name, o.Phase, next.Phase)
			}
			if o.ended() && !same(o, next) {
				rt.Errorf("%s changed an operation that is over", name)
			}
			if o.Phase == fleet.PhasePrepared && next.Phase == fleet.PhaseDraining && !g.liveAt(n) {
				rt.Errorf("%s: drains without a live grant", name)
			}
			if name != "resume" && next.Phase != o.Phase && (next.Phase == fleet.PhaseRebooting || next.Phase == fleet.PhaseTrial) {
				rt.Errorf("%s: became %s by a word", name, next.Phase)
			}
			off := []fleet.Phase{fleet.PhaseReverting, fleet.PhaseUndraining, fleet.PhaseCancelled, fleet.PhaseRefused}
			if slices.Contains(off, next.Phase) && next.Phase != o.Phase && next.Problem == nil {
				rt.Errorf("%s: became %s without saying why", name, next.Phase)
			}
		}
		l := lapse(o, g, n)
		switch l.Phase {
		case fleet.PhaseDraining, fleet.PhaseDrained, fleet.PhaseRebooting:
			if !g.liveAt(n) && !l.leaving(n) {
				rt.Errorf("stays in %s without a live grant", l.Phase)
			}
		}
		if after, err := json.Marshal(o); err != nil || string(after) != string(before) {
			rt.Errorf("changed in place from %s to %s", before, after)
		}
		var back operation
		if err := json.Unmarshal(before, &back); err != nil || !same(o, back) {
			rt.Errorf("does not survive the journal: %s, %v", before, err)
		}
	})
}

// TestTodoNeverReboots: no snapshot alone leads to a reboot into a trial; an ended or waiting operation does nothing.
func TestTodoNeverReboots(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		o, n := drawOperation(rt), drawNow(rt)
		switch act := todo(&o, n); {
		case act == doGo:
			rt.Errorf("%s leads to a reboot without a question", o.Phase)
		case act != doNothing && (o.ended() || o.Phase == fleet.PhasePrepared || o.Phase == fleet.PhasePassed):
			rt.Errorf("%s leads to %s", o.Phase, act)
		case act == doReturn && (!o.onTrial(n) || o.Returns >= maxReturns):
			rt.Errorf("reboots out of what is no trial, or once too often")
		}
	})
}

func TestWorse(t *testing.T) {
	good := Network{
		Links:    []Link{{"eth0", true, []string{"10.0.0.2/24", "fd00::2/64"}}, {"eth1", false, nil}},
		Gateways: []Gateway{{"10.0.0.1", "eth0", true}, {"fd00::1", "eth0", false}},
	}
	for _, c := range []struct {
		name  string
		after func(*Network)
		want  []string
	}{
		{"the same", func(*Network) {}, nil},
		{"more than before", func(n *Network) {
			n.Links[1].Carrier = true
			n.Links[0].Addresses = append(n.Links[0].Addresses, "10.0.0.3/24")
			n.Links = append(n.Links, Link{"eth2", true, nil})
			n.Gateways[1].Answers = true
		}, nil},
		{"a link without carrier is gone", func(n *Network) { n.Links = n.Links[:1] }, nil},
		{"no carrier", func(n *Network) { n.Links[0].Carrier = false }, []string{"link eth0 has no carrier"}},
		{"an address is missing", func(n *Network) { n.Links[0].Addresses = []string{"10.0.0.2/24"} }, []string{"link eth0 lacks address fd00::2/64"}},
		{"the link is missing", func(n *Network) { n.Links = n.Links[1:] }, []string{"link eth0 is missing"}},
		{"no route", func(n *Network) { n.Gateways = nil }, []string{"there is no default route"}},
		{"one route is missing", func(n *Network) { n.Gateways = n.Gateways[1:] }, []string{"the default route by 10.0.0.1 on eth0 is missing"}},
		{"a gateway is silent", func(n *Network) { n.Gateways[0].Answers = false }, []string{"gateway 10.0.0.1 on eth0 does not answer"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			after := Network{Links: slices.Clone(good.Links), Gateways: slices.Clone(good.Gateways)}
			c.after(&after)
			if got := worse(good, after); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestFileNamesStayInside(t *testing.T) {
	for id, want := range map[fleet.OperationID]string{
		"op-1": "op-1", "../../etc/passwd": "%2e.%2f..%2fetc%2fpasswd", "a/b": "a%2fb", ".": "%2e", "a b\x00": "a%20b%00",
	} {
		if got := fileName(id); got != want {
			t.Errorf("%q: got %q, want %q", id, got, want)
		}
	}
}
