package grant

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// Step returns what should change at now, and when to ask again if nothing happens before (zero: only when
// something happens). The same view and now give the same decisions in the same order. No group ever has more
// hosts out of service than its budget because of a Give.
func Step(v View, now time.Time) (ds []Decision, wake time.Time) {
	held := map[fleet.OperationID]bool{}
	wanted := map[fleet.OperationID]bool{}
	for _, r := range v.Requests {
		wanted[r.Operation] = true
	}
	for _, g := range v.Grants {
		if g.Over != "" {
			ds = append(ds, End{g.ID, g.Host, g.Over})
			continue
		}
		held[g.Operation] = true
		if g.Used || !wanted[g.Operation] || v.Stopped != "" || !now.Before(g.ExpiresAt) {
			continue // one that ran out stays so: its holder goes back into service, and may ask for another
		}
		renewAt := g.ExpiresAt.Add(-v.Life / 2)
		if !now.Before(renewAt) {
			until := now.Add(v.Life)
			ds = append(ds, Renew{g.ID, until})
			renewAt = until.Add(-v.Life / 2)
		}
		if wake.IsZero() || renewAt.Before(wake) {
			wake = renewAt
		}
	}
	if !v.waits(held) {
		return ds, wake
	}
	u := v.use()
	for _, r := range inOrder(v.Requests) {
		if held[r.Operation] || v.refuse(r, u) != nil {
			continue
		}
		until := now.Add(v.Life)
		ds = append(ds, Give{r.Operation, r.Host, until})
		held[r.Operation] = true
		u.add(v.Budgets, Out{r.Host, r.Groups, "was just granted"})
		if at := until.Add(-v.Life / 2); wake.IsZero() || at.Before(wake) {
			wake = at
		}
	}
	return ds, wake
}

// Waits says whether a request waits that is refused neither by a stop nor for its host's own sake. As long as none
// does, Step does not look at Out.
func (v View) Waits() bool {
	held := map[fleet.OperationID]bool{}
	for _, g := range v.Grants {
		if g.Over == "" {
			held[g.Operation] = true
		}
	}
	return v.waits(held)
}

func (v View) waits(held map[fleet.OperationID]bool) bool {
	return v.Stopped == "" && slices.ContainsFunc(v.Requests, func(r Request) bool { return !held[r.Operation] && r.Unfit == "" })
}

// Explain says why an operation's request is not granted; empty: it is, or would be at the next step. An operation
// without a request does not wait for anything here.
func Explain(v View, op fleet.OperationID) string {
	for _, g := range v.Grants {
		if g.Operation == op && g.Over == "" {
			return ""
		}
	}
	u := v.use()
	for _, r := range inOrder(v.Requests) {
		no := v.refuse(r, u)
		if r.Operation == op {
			return no.String()
		}
		if no == nil && !v.holds(r.Operation) {
			u.add(v.Budgets, Out{r.Host, r.Groups, "is next"})
		}
	}
	return ""
}

// refusal is a no. It is put into words only for people: in each step, hundreds of requests wait.
type refusal struct {
	why    string // says it all, if it is not empty
	self   string // why the host is out of service already
	budget Budget // is spent in the group, by those who are in
	groups Groups
	in     *outs
}

func (n *refusal) String() string {
	switch {
	case n == nil:
		return ""
	case n.why != "":
		return n.why
	case n.in == nil:
		return fmt.Sprintf("the host is out of service already: it %s", n.self)
	}
	return fmt.Sprintf("budget spent: %s, %d of %d out (%s)", name(n.budget.By, n.groups), len(n.in.why), n.budget.Limit, n.in)
}

// refuse is the one place that says no; nil: it does not.
func (v View) refuse(r Request, u use) *refusal {
	if v.Stopped != "" {
		return &refusal{why: "everything is stopped: " + v.Stopped}
	}
	if r.Unfit != "" {
		return &refusal{why: r.Unfit}
	}
	for _, b := range v.Budgets {
		in := u[key(b.By, r.Groups)]
		if in == nil {
			in = &outs{}
		}
		if why, self := in.why[r.Host]; self {
			return &refusal{self: why}
		}
		if len(in.why) >= b.Limit {
			return &refusal{budget: b, groups: r.Groups, in: in}
		}
	}
	return nil
}

// Use says for one group who is out, for people.
type Use struct {
	Group string // type=lab-small.web.3f9a1c
	Limit int
	Out   []Out // by host
}

// InUse lists the groups that have a host out, by name.
func InUse(v View) []Use {
	var us []Use
	u := v.use()
	for _, b := range v.Budgets {
		for k, in := range u {
			if k.by != b.By {
				continue
			}
			one := Use{Group: name(b.By, Groups{b.By: k.value}), Limit: b.Limit}
			for _, h := range in.hosts {
				one.Out = append(one.Out, Out{Host: h, Why: in.why[h]})
			}
			slices.SortFunc(one.Out, func(a, b Out) int { return cmp.Compare(a.Host, b.Host) })
			us = append(us, one)
		}
	}
	slices.SortFunc(us, func(a, b Use) int { return cmp.Compare(a.Group, b.Group) })
	return us
}

func (v View) holds(op fleet.OperationID) bool {
	return slices.ContainsFunc(v.Grants, func(g Grant) bool { return g.Operation == op && g.Over == "" })
}

func inOrder(rs []Request) []Request {
	rs = slices.Clone(rs)
	slices.SortStableFunc(rs, func(a, b Request) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Operation, b.Operation))
	})
	return rs
}

// use counts who is out in each group. A host counts once in a group, whatever the number of causes.
type use map[groupKey]*outs

type groupKey struct{ by, value string }

type outs struct {
	hosts []fleet.HostID
	why   map[fleet.HostID]string
}

func (v View) use() use {
	u := use{}
	for _, o := range v.Out {
		u.add(v.Budgets, o)
	}
	return u
}

func (u use) add(bs []Budget, o Out) {
	for _, b := range bs {
		k := key(b.By, o.Groups)
		if u[k] == nil {
			u[k] = &outs{why: map[fleet.HostID]string{}}
		}
		if _, twice := u[k].why[o.Host]; !twice {
			u[k].hosts = append(u[k].hosts, o.Host)
			u[k].why[o.Host] = o.Why
		}
	}
}

func key(by string, g Groups) groupKey { return groupKey{by, g[by]} }

func name(by string, g Groups) string {
	value := g[by]
	if value == "" {
		value = "(none)"
	}
	return strings.TrimPrefix(by, "label:") + " " + value
}

// String names at most three hosts.
func (o *outs) String() string {
	var parts []string
	for i, h := range o.hosts {
		if i == 3 {
			parts = append(parts, fmt.Sprintf("and %d more", len(o.hosts)-i))
			break
		}
		parts = append(parts, fmt.Sprintf("%s %s", h, o.why[h]))
	}
	return strings.Join(parts, ", ")
}
