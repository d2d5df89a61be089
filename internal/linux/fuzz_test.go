package linux

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func FuzzParseOSRelease(f *testing.F) {
	f.Add("ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n")
	f.Add("ID='ubuntu'\nID_LIKE=debian\n# ID=x")
	f.Add("ID==\n=ID\n\"")
	f.Fuzz(func(t *testing.T, text string) {
		o := parseOSRelease(text)
		if len(o.ID)+len(o.Version)+len(o.Codename) > 3*len(text) {
			t.Fatalf("%d bytes gave %+v", len(text), o)
		}
		if o.Family != "" && !strings.Contains(text, o.Family) {
			t.Fatalf("%q is of family %s", text, o.Family)
		}
	})
}

func FuzzParseUnits(f *testing.F) {
	f.Add("● nginx.service loaded failed failed A web server\nx.mount loaded failed failed /x\n")
	f.Add("* \n.\n \t\n")
	f.Fuzz(func(t *testing.T, out string) {
		units := parseUnits(out)
		if !slices.IsSorted(units) || len(slices.Compact(slices.Clone(units))) != len(units) {
			t.Fatalf("not sorted, or twice: %q", units)
		}
		for _, u := range units {
			if u == "" || strings.ContainsAny(u, " \n\t") || !strings.Contains(out, u) {
				t.Fatalf("%q is no unit of %q", u, out)
			}
		}
	})
}

// Whoever shares the link can send these.
func FuzzNeighbourReplies(f *testing.F) {
	gateway := netip.MustParseAddr("10.0.0.1")
	arp := make([]byte, 28)
	arp[7] = 2
	copy(arp[14:], gateway.AsSlice())
	f.Add(arp)
	f.Add(append([]byte{136, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 16)...))
	f.Add([]byte{136})
	f.Fuzz(func(t *testing.T, b []byte) {
		if isARPReply(b, gateway) && len(b) < 28 {
			t.Fatalf("%d bytes were a reply", len(b))
		}
		if isNDPReply(b, [16]byte{}) && (len(b) < 24 || b[0] != 136) {
			t.Fatalf("% x was a reply", b)
		}
	})
}
