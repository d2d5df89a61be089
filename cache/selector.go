package cache

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Target is what a selector looks at: one node of a fleet.
type Target struct {
	Cluster string // the name of the fleet it belongs to
	Addr    string // HOST:PORT
	Host    string // the machine
	Service string // may be empty
	Role    string // primary, replica
}

// Select chooses nodes: every term must hold. The zero value chooses all.
type Select struct{ terms []selectTerm }

type selectTerm struct{ key, pattern string }

var selectKeys = []string{"cluster", "node", "host", "service", "role"}

// ParseSelect reads "cluster:prod,role:replica": a key, a colon and a pattern that may hold * and ?, joined by commas.
func ParseSelect(s string) (Select, error) {
	var sel Select
	for part := range strings.SplitSeq(s, ",") {
		key, pattern, ok := strings.Cut(strings.TrimSpace(part), ":")
		key = strings.ToLower(key)
		if !ok || pattern == "" || !slices.Contains(selectKeys, key) {
			return Select{}, fmt.Errorf("%q is no selector: write cluster:NAME, node:HOST:PORT, host:NAME, service:NAME or role:ROLE", part)
		}
		if _, err := path.Match(pattern, ""); err != nil {
			return Select{}, fmt.Errorf("%q: the pattern is malformed", part)
		}
		if key == "role" && pattern != "primary" && pattern != "replica" {
			return Select{}, fmt.Errorf("%q: a role is primary or replica", part)
		}
		sel.terms = append(sel.terms, selectTerm{key, pattern})
	}
	return sel, nil
}

// All says whether every node is chosen.
func (s Select) All() bool { return len(s.terms) == 0 }

// Names says whether the selector has a term of that key.
func (s Select) Names(key string) bool {
	return slices.ContainsFunc(s.terms, func(t selectTerm) bool { return t.key == key })
}

// Matches says whether t is chosen.
func (s Select) Matches(t Target) bool {
	for _, term := range s.terms {
		v := map[string]string{"cluster": t.Cluster, "node": t.Addr, "host": t.Host, "service": t.Service, "role": t.Role}[term.key]
		if ok, err := path.Match(term.pattern, v); err != nil || !ok {
			return false
		}
	}
	return true
}

// String is what ParseSelect reads; "" chooses all.
func (s Select) String() string {
	parts := make([]string, len(s.terms))
	for i, t := range s.terms {
		parts[i] = t.key + ":" + t.pattern
	}
	return strings.Join(parts, ",")
}

// MayMatch says whether a target whose value of key is v could be chosen: every term of that key matches it.
func (s Select) MayMatch(key, v string) bool {
	for _, t := range s.terms {
		if t.key != key {
			continue
		}
		if ok, err := path.Match(t.pattern, v); err != nil || !ok {
			return false
		}
	}
	return true
}
