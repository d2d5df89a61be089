package dpkg

import (
	"strings"
	"testing"

	"github.com/kernwave/kernwave/fleet"
)

func FuzzParseStatus(f *testing.F) {
	f.Add("kmod\t30+20221128-1\tamd64\tinstalled\tok\t\nvirt\t1\tamd64\thalf-configured\treinstreq\tfeature (= 3), other\n")
	f.Add("linux-image-6.12.9-amd64\t6.12.9-1\tamd64\ttriggers-pending\tok\t")
	f.Add("\t\t\t\t\t\n")
	f.Fuzz(func(t *testing.T, out string) {
		s, err := parseStatus(out)
		if err != nil {
			return
		}
		if lines := strings.Count(out, "\n") + 1; len(s) > lines {
			t.Fatalf("%d packages of %d lines", len(s), lines)
		}
		for _, p := range s {
			k := fleet.Kernel{Packages: []fleet.Package{{Name: p.Name, Version: p.Version, Arch: p.Arch}}}
			if found, ok := s.find(p.Name, p.Arch); p.State != "not-installed" && (!ok || found.Name != p.Name) {
				t.Fatalf("%q is listed and not found", p.Name)
			}
			if one := (status{p}); one.has(k) == (p.broken() || !p.usable()) && p.State != "not-installed" {
				t.Fatalf("%+v: installed %v, broken %v, usable %v", p, one.has(k), p.broken(), p.usable())
			}
			if p.broken() != (len((status{p}).brokenBut(fleet.Kernel{})) == 1) {
				t.Fatalf("%+v: broken %v, but the list of what is broken says otherwise", p, p.broken())
			}
		}
	})
}

func FuzzParseFields(f *testing.F) {
	f.Add("Package: linux-image\nVersion: 6.12.9-1\nArchitecture: amd64\nInstalled-Size: 98123\nDepends: kmod,\n linux-base (>= 4.3~)\n")
	f.Add(" begins with a continuation\nPackage: x")
	f.Add("Installed-Size: 99999999999999999999")
	f.Fuzz(func(t *testing.T, out string) {
		a, err := parseFields(out)
		if err != nil {
			return
		}
		if len(a.Name)+len(a.Version)+len(a.Arch) > 3*len(out) {
			t.Fatalf("%d bytes gave %+v", len(out), a)
		}
		status{}.missing(a.Needs)
	})
}

func FuzzCompareVersions(f *testing.F) {
	f.Add("1:2.0~rc1-1", "2.0-1", "2.0-1+b1")
	f.Add("6.12.117-1", "6.12.111-1", "")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if compareVersions(a, a) != 0 {
			t.Fatalf("%q is not itself", a)
		}
		ab, ba := compareVersions(a, b), compareVersions(b, a)
		if (ab < 0) != (ba > 0) || (ab == 0) != (ba == 0) {
			t.Fatalf("%q, %q: %d one way, %d the other", a, b, ab, ba)
		}
		if bc, ac := compareVersions(b, c), compareVersions(a, c); ab <= 0 && bc <= 0 && ac > 0 {
			t.Fatalf("%q <= %q <= %q, and yet the first is newer than the last", a, b, c)
		}
	})
}
