package fleet

import (
	"slices"
	"testing"
)

func TestPhases(t *testing.T) {
	for _, p := range Phases() {
		for _, n := range p.Next() {
			if !n.Known() {
				t.Errorf("%s can become %s, which is no phase", p, n)
			}
		}
		if p != PhasePlanned && !PhasePlanned.CanBecome(p) {
			t.Errorf("%s cannot be reached", p)
		}
		if p.Ended() == slices.ContainsFunc(Phases(), func(q Phase) bool { return p != q && p.CanBecome(q) }) {
			t.Errorf("%s: ended %v, but others follow or none do", p, p.Ended())
		}
	}
	for _, c := range []struct {
		from, to Phase
		want     bool
	}{
		{PhasePlanned, PhaseTrial, true},       // check-ins in between were lost
		{PhaseTrial, PhaseDrained, false},      // never back
		{PhasePrepared, PhaseReverted, true},   // the whole trial was missed
		{PhaseDraining, PhaseRefused, false},   // refusing is for hosts in service
		{PhaseCommitted, PhaseReverted, false}, // an end is an end
		{"strange", "strange", false},
	} {
		if got := c.from.CanBecome(c.to); got != c.want {
			t.Errorf("%s can become %s: got %v, want %v", c.from, c.to, got, c.want)
		}
	}
}

func TestTypeOf(t *testing.T) {
	f := Facts{
		Hardware: Hardware{Vendor: "Acme", Model: "Rack 2000 / v2"}, OS: OS{ID: "debian", Version: "12"}, Arch: "amd64",
		Disks:  []Disk{{Name: "nvme0n1", Driver: "nvme", Firmware: "1.0"}, {Name: "nvme1n1", Driver: "nvme", Firmware: "1.0"}},
		NICs:   []NIC{{Name: "eth0", Driver: "ixgbe"}},
		Kernel: Running{Release: "6.12.1-amd64", Flavour: "amd64"}, Labels: Labels{"workload": "web"},
	}
	a := TypeOf(f)
	if got, want := a.String(), "model=Acme Rack 2000 / v2, storage=nvme (1.0), network=ixgbe, workload=web, os=debian 12, arch=amd64, flavour=amd64"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	same := f
	same.Kernel.Release, same.Disks = "6.12.9-amd64", f.Disks[:1]
	if TypeOf(same).ID != a.ID {
		t.Error("another release, or one disk less, made another type")
	}
	other := f
	other.Labels = Labels{"workload": "db"}
	if TypeOf(other).ID == a.ID {
		t.Error("another workload is the same type")
	}
}

func TestIncarnation(t *testing.T) {
	seen := Incarnation{2, 5, "a"}
	for _, c := range []struct {
		from    Incarnation
		refused bool
	}{
		{Incarnation{2, 5, "a"}, false},
		{Incarnation{2, 6, "b"}, false},
		{Incarnation{3, 1, "b"}, false},
		{Incarnation{2, 4, "a"}, true},
		{Incarnation{1, 9, "a"}, true},
		{Incarnation{2, 5, "b"}, true},
	} {
		if got := seen.Refuses(c.from); (got != "") != c.refused {
			t.Errorf("%+v: refuses %q, want refused %v", c.from, got, c.refused)
		}
	}
	if why := (Incarnation{}).Refuses(Incarnation{1, 1, "x"}); why != "" {
		t.Errorf("a new host refuses: %s", why)
	}
}

func FuzzParseSelector(f *testing.F) {
	for _, s := range []string{"", "workload=web", "type!=a*,rack=r?", "=x", "a", "a=[", "a!=b=c", " a = b "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		sel, err := ParseSelector(s)
		if err != nil {
			return
		}
		again, err := ParseSelector(sel.String())
		if err != nil || again.String() != sel.String() {
			t.Fatalf("%q prints as %q, which reads as %q, %v", s, sel, again, err)
		}
		sel.Matches(Host{ID: "a", Facts: Facts{Labels: Labels{"a": "b"}}})
	})
}

func TestSelectorKeysAreNames(t *testing.T) {
	for _, s := range []string{"a ! =b", "workload !=web", "a b=c", "wörk=x", "-a=b", "a\x80=b"} {
		sel, err := ParseSelector(s)
		if ok := s == "workload !=web"; (err == nil) != ok {
			t.Errorf("%q: %v, %v", s, sel, err)
		}
	}
}

func TestSelector(t *testing.T) {
	h := Host{ID: "web-1", Facts: Facts{Labels: Labels{"workload": "web", "rack": "r1"}, Hardware: Hardware{Model: "Rack/2"}}}
	for _, c := range []struct {
		sel  string
		want bool
	}{
		{"", true},
		{"workload=web", true},
		{"workload=db", false},
		{"workload!=db,rack=r1", true},
		{"id=web-*", true},
		{"model=Rack*", true},
		{"missing=", true},
		{"missing=x", false},
		{"workload!=web", false},
	} {
		sel, err := ParseSelector(c.sel)
		if err != nil {
			t.Fatal(err)
		}
		if got := sel.Matches(h); got != c.want {
			t.Errorf("%q: got %v, want %v", c.sel, got, c.want)
		}
	}
}

func FuzzParseHostID(f *testing.F) {
	f.Add("web-1.example")
	f.Add("../etc")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseHostID(s); err == nil && (string(id) != s || len(s) > 63 || s[0] == '.' || s[0] == '-') {
			t.Fatalf("accepted %q", s)
		}
	})
}
