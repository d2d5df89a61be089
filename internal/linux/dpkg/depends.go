package dpkg

import (
	"fmt"
	"regexp"
	"strings"
)

// relation is one alternative of a dependency: name, and op version where it has one.
type relation struct{ Name, Op, Version string }

// String prints it as a package's control file has it.
func (r relation) String() string {
	if r.Op == "" {
		return r.Name
	}
	return r.Name + " (" + r.Op + " " + r.Version + ")"
}

var relationSyntax = regexp.MustCompile(`^([a-zA-Z0-9][a-zA-Z0-9+.-]*)(?::[a-z0-9-]+)?(?:\s*\(\s*(<<|<=|=|>=|>>|<|>)\s*([0-9A-Za-z][^\s()]*)\s*\))?$`)

// parseRelations reads a Depends field: all of the outer list are needed, one of each inner one.
func parseRelations(field string) ([][]relation, error) {
	var all [][]relation
	for group := range strings.SplitSeq(field, ",") {
		if strings.TrimSpace(group) == "" {
			continue
		}
		var any []relation
		for alternative := range strings.SplitSeq(group, "|") {
			m := relationSyntax.FindStringSubmatch(strings.TrimSpace(alternative))
			if m == nil {
				return nil, fmt.Errorf("a dependency that is none: %q", strings.TrimSpace(alternative))
			}
			any = append(any, relation{m[1], m[2], m[3]})
		}
		all = append(all, any)
	}
	return all, nil
}

// met says whether version fulfils r. The obsolete < and > mean <= and >=.
func (r relation) met(version string) bool {
	c := compareVersions(version, r.Version)
	switch r.Op {
	case "<<":
		return c < 0
	case "<=", "<":
		return c <= 0
	case "=":
		return c == 0
	case ">=", ">":
		return c >= 0
	case ">>":
		return c > 0
	}
	return true
}

// missing lists the dependencies that nothing in s fulfils.
func (s status) missing(needed [][]relation) []string {
	var out []string
	for _, alternatives := range needed {
		if !s.fulfils(alternatives) {
			words := make([]string, len(alternatives))
			for i, r := range alternatives {
				words[i] = r.String()
			}
			out = append(out, strings.Join(words, " | "))
		}
	}
	return out
}

func (s status) fulfils(alternatives []relation) bool {
	for _, r := range alternatives {
		for _, p := range s {
			if !p.usable() {
				continue
			}
			if p.Name == r.Name && r.met(p.Version) {
				return true
			}
			for _, v := range p.Provides {
				// A virtual package has a version only where it says so.
				if v.Name == r.Name && (r.Op == "" || v.Version != "" && r.met(v.Version)) {
					return true
				}
			}
		}
	}
	return false
}
