package agent

import (
	"fmt"
	"slices"
	"strings"
)

// worse lists what the network had before and has no longer, in words. Nothing: it is as good as before. What is new,
// and a gateway that did not answer before either, is no reason.
func worse(before, after Network) []string {
	var out []string
	for _, b := range before.Links {
		i := slices.IndexFunc(after.Links, func(l Link) bool { return l.Name == b.Name })
		if i < 0 {
			if b.Carrier || len(b.Addresses) > 0 {
				out = append(out, fmt.Sprintf("link %s is missing", b.Name))
			}
			continue
		}
		a := after.Links[i]
		if b.Carrier && !a.Carrier {
			out = append(out, fmt.Sprintf("link %s has no carrier", b.Name))
		}
		for _, addr := range b.Addresses {
			if !slices.Contains(a.Addresses, addr) {
				out = append(out, fmt.Sprintf("link %s lacks address %s", b.Name, addr))
			}
		}
	}
	if len(before.Gateways) > 0 && len(after.Gateways) == 0 {
		return append(out, "there is no default route")
	}
	for _, b := range before.Gateways {
		i := slices.IndexFunc(after.Gateways, func(g Gateway) bool { return g.Address == b.Address && g.Link == b.Link })
		switch {
		case i < 0:
			out = append(out, fmt.Sprintf("the default route by %s on %s is missing", b.Address, b.Link))
		case b.Answers && !after.Gateways[i].Answers:
			out = append(out, fmt.Sprintf("gateway %s on %s does not answer", b.Address, b.Link))
		}
	}
	return out
}

// newlyFailed lists the units that have failed now and had not before.
func newlyFailed(before, after []string) []string {
	var out []string
	for _, u := range after {
		if !slices.Contains(before, u) {
			out = append(out, u)
		}
	}
	return out
}

// describe is for people: what a network looked like.
func describe(n Network) string {
	var b strings.Builder
	for _, l := range n.Links {
		carrier := "no carrier"
		if l.Carrier {
			carrier = "carrier"
		}
		fmt.Fprintf(&b, "%s: %s, %s\n", l.Name, carrier, orNone(strings.Join(l.Addresses, " ")))
	}
	for _, g := range n.Gateways {
		answers := "does not answer"
		if g.Answers {
			answers = "answers"
		}
		fmt.Fprintf(&b, "default route by %s on %s: %s\n", g.Address, g.Link, answers)
	}
	return b.String()
}

func orNone(s string) string {
	if s == "" {
		return "no addresses"
	}
	return s
}
