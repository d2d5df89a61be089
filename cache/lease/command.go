package lease

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

// maxFor is how long a change may last, extensions apart.
const maxFor = 24 * time.Hour

// held is what every reply says about who takes the change back.
const held = "the gateway's journal alone: while no gateway runs, nothing is taken back but by a restart of the server"

// Commands are CACHE.CONFIG TEMP SET, LIST, REVERT and EXTEND over a fleet.
func Commands(k *Keeper, fleet *upstream.Fleet, approvals *cache.Approvals) []*cache.Command {
	c := &commands{k, fleet, approvals}
	forArg := cache.Arg{Name: "for", Keyword: "FOR", Type: cache.Duration, Min: 1, Max: maxFor.Seconds(), Help: "until it takes itself back, at most 24h"}
	reason := cache.Arg{Name: "reason", Keyword: "REASON", Public: true, Help: "why, for the record"}
	id := cache.Arg{Name: "id", Public: true, Help: "the lease: l-…"}
	rows := []cache.Field{{Name: "node", Type: "string", Help: "HOST:PORT"}, {Name: "old", Type: "string", Help: "the value before"}, {Name: "state", Type: "string", Help: "applied, reverted, restarted, conflicted, unchanged"}}
	guards := []string{
		"only settings on a list, within bounds", "a second person, but for logging settings", "one node first; the others when it still answers quickly",
		"taken back only where nobody else has changed it meanwhile",
	}
	return []*cache.Command{
		{
			Name: "CACHE.CONFIG TEMP SET", Summary: "Change a setting for a while; it takes itself back", Class: cache.Write, Plans: true,
			Help:     "Held by " + held + ".\nSettings: " + strings.Join(Params(), ", "),
			Args:     []cache.Arg{{Name: "param", Public: true, Help: "the setting"}, {Name: "value", Public: true, Help: "its value for that time"}, forArg, reason, cache.ArgOn, cache.ArgDryRun, cache.ArgApprove, cache.ArgFormat},
			Guards:   guards,
			Reply:    rows,
			Needs:    "CONFIG",
			Examples: []string{"CACHE.CONFIG TEMP SET slowlog-log-slower-than 1000 FOR 10m REASON looking-for-slow-calls ON cluster:main"},
			Run:      c.set,
		},
		{Name: "CACHE.CONFIG TEMP LIST", Summary: "List changes that are held, and the newest that are over", Class: cache.Read, Args: []cache.Arg{cache.ArgFormat}, Reply: rows, Run: c.list},
		{Name: "CACHE.CONFIG TEMP REVERT", Summary: "Take a change back now", Class: cache.Write, Args: []cache.Arg{id, cache.ArgFormat}, Guards: guards[3:], Reply: rows, Run: c.revert, Examples: []string{"CACHE.CONFIG TEMP REVERT l-0123456789ab"}},
		{Name: "CACHE.CONFIG TEMP EXTEND", Summary: "Move the deadline of a change", Class: cache.Write, Args: []cache.Arg{id, forArg, reason, cache.ArgApprove, cache.ArgFormat}, Guards: guards[1:2], Reply: rows, Run: c.extend, Examples: []string{"CACHE.CONFIG TEMP EXTEND l-0123456789ab FOR 1h REASON not-found-yet"}},
	}
}

type commands struct {
	k         *Keeper
	fleet     *upstream.Fleet
	approvals *cache.Approvals
}

func (c *commands) set(ctx context.Context, call *cache.Call) (cache.Value, error) {
	name, value := strings.ToLower(call.Text("param")), call.Text("value")
	p, err := check(name, value)
	if err != nil {
		return cache.Value{}, err
	}
	view, err := c.fleet.Look(ctx, call.Select("on"))
	if err != nil {
		return cache.Value{}, err
	}
	if f := view.Failed(); len(f) > 0 {
		return cache.Value{}, cache.Errorf(cache.CodeUnreachable, "choose others with ON", "a change is made on all chosen nodes or none, and %d do not answer: %v", len(f), f[0])
	}
	l := Lease{Param: name, Value: value, By: call.User.Name, Reason: call.Text("reason")}
	for _, replicas := range []bool{true, false} { // a replica is the canary
		for _, n := range view.Nodes {
			if (n.Role == upstream.Replica) == replicas {
				old, _, err := fleetNode{c.fleet, n.Cluster, n.Addr}.Get(ctx, name)
				if err != nil {
					return cache.Value{}, nodeError(&Part{Addr: n.Addr}, err)
				}
				l.Parts = append(l.Parts, Part{Cluster: n.Cluster, Addr: n.Addr, Old: old, State: Unchanged})
			}
		}
	}
	if call.Flag("dryrun") {
		v := reply(l)
		v.Add("needs_approval", cache.Truth(!p.harmless))
		return v, nil
	}
	if !p.harmless {
		what := fmt.Sprintf("%s wants %s = %s on %d nodes for %s: %s", l.By, name, value, len(l.Parts), call.Duration("for"), l.Reason)
		if err := c.approved(call, hash(l, call.Duration("for"), ""), what, &l); err != nil {
			return cache.Value{}, err
		}
	}
	l.Deadline = c.k.clock.In(call.Duration("for"))
	l, err = c.k.Take(ctx, l)
	if err != nil {
		return cache.Value{}, err
	}
	return reply(l), nil
}

// hash is what an approval is bound to: the change, where, from which values, and for how long.
func hash(l Lease, d time.Duration, extends string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %d %q\n", l.Param, l.Value, l.By, d, extends)
	for _, p := range l.Parts {
		fmt.Fprintf(h, "%q %q %q\n", p.Cluster, p.Addr, p.Old)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// approved asks for another person's approval, or uses the one that the call brings.
func (c *commands) approved(call *cache.Call, sum, what string, l *Lease) error {
	if id := call.Text("approval"); id != "" {
		l.Approval = id
		return c.approvals.Take(id, sum, call.User)
	}
	id, err := c.approvals.Ask(cache.Ask{Hash: sum, Command: call.Command.Name, What: what, By: call.User.Name})
	if err != nil {
		return err
	}
	return cache.Errorf(cache.CodeApproval, "someone else says CACHE.APPROVE "+id+", then call again with APPROVAL "+id, "%s: the change needs another person's approval", id)
}

func (c *commands) list(context.Context, *cache.Call) (cache.Value, error) {
	rows := cache.List()
	for _, l := range c.k.List() {
		rows.Items = append(rows.Items, reply(l))
	}
	return cache.Dict("held_by", cache.String(held), "rows", rows), nil
}

func (c *commands) revert(ctx context.Context, call *cache.Call) (cache.Value, error) {
	l, err := c.k.Revert(ctx, call.Text("id"))
	if err != nil {
		return cache.Value{}, err
	}
	return reply(l), nil
}

func (c *commands) extend(_ context.Context, call *cache.Call) (cache.Value, error) {
	l, err := c.k.Get(call.Text("id"))
	if err != nil {
		return cache.Value{}, err
	}
	if p := params[l.Param]; !p.harmless {
		l.By = call.User.Name
		if err := c.approved(call, hash(l, call.Duration("for"), l.ID), fmt.Sprintf("%s wants %s (%s = %s) to last %s longer: %s", call.User.Name, l.ID, l.Param, l.Value, call.Duration("for"), call.Text("reason")), &l); err != nil {
			return cache.Value{}, err
		}
	}
	l, err = c.k.Extend(l.ID, c.k.clock.In(call.Duration("for")), l.Approval)
	if err != nil {
		return cache.Value{}, err
	}
	return reply(l), nil
}

// reply describes a lease.
func reply(l Lease) cache.Value {
	state := "held"
	switch {
	case l.ID == "":
		state = "dry run"
	case !l.Open():
		state = "over"
	case !l.Held:
		state = "being taken back"
	}
	rows := cache.List()
	for _, p := range l.Parts {
		r := cache.Dict("node", cache.String(p.Addr), "old", cache.String(p.Old), "state", cache.String(p.State))
		if p.Found != "" {
			r.Add("found", cache.String(p.Found))
		}
		if p.Err != "" {
			r.Add("waits_because", cache.String(p.Err))
		}
		rows.Items = append(rows.Items, r)
	}
	return cache.Dict("lease", cache.String(l.ID), "state", cache.String(state), "param", cache.String(l.Param), "value", cache.String(l.Value), "by", cache.String(l.By), "reason", cache.String(l.Reason),
		"deadline", cache.String(l.Deadline.Wall.Format(time.RFC3339)), "held_by", cache.String(held), "nodes", rows)
}
