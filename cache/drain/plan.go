package drain

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

// lagMost is how far a replica may be behind to take over: the hand-over waits for the rest with writes paused.
const lagMost = 1 << 20

// plan says what draining what would do. The error says why it may not.
func (k *Keeper) plan(ctx context.Context, what string, cold bool, by string) (*Drain, error) {
	v, err := k.fleet.Look(ctx, cache.Select{})
	if err != nil {
		return nil, err
	}
	d := &Drain{ID: cache.NewID("d"), What: what, By: by, Cold: cold, At: k.now().UTC(), State: Draining}
	on := func(n *upstream.Node) bool { return n.Host == what || n.Addr == what }
	for _, n := range v.Nodes {
		if !on(n) {
			continue
		}
		p := Part{Cluster: n.Cluster, Addr: n.Addr, Mode: n.Mode, State: Waiting}
		switch {
		case n.Down != "":
			return nil, cache.Errorf(cache.CodeUnreachable, "mend it first, or take it out of the fleet", "%s does not answer, so who takes over from it is not known: %s", n.Addr, n.Down)
		case n.Role == upstream.Replica, n.Mode == "cluster" && len(n.Slots) == 0:
			p.State, p.Saved = Follows, true
		default:
			to, why := k.heir(ctx, v, n, on)
			switch {
			case to != nil:
				p.To, p.RunID, p.ToRun = to.Addr, k.see(ctx, &p, n.Addr).run, k.see(ctx, &p, to.Addr).run
				for _, o := range v.Nodes {
					if o.Cluster == n.Cluster && o.Shard == n.Shard && o.Role == upstream.Replica && o != to && o.Down == "" {
						p.Others = append(p.Others, o.Addr)
					}
				}
			case cold:
				p.State, p.Saved, p.Why = Cold, true, why
			default:
				return nil, cache.Errorf(cache.CodeGuard, "mend or add a replica on another host; or accept that its keys are gone, with COLD", "%s cannot be drained: %s", n.Addr, why)
			}
			if n.Mode != "cluster" && to != nil && k.Leased != nil { // roles are saved with CONFIG REWRITE
				rewritten := []string{n.Addr, to.Addr}
				if n.Mode == "sentinel" { // comeBack
					rewritten = append(rewritten, p.Others...)
				}
				for _, addr := range rewritten {
					if id := k.Leased(n.Cluster, addr); id != "" {
						return nil, cache.Errorf(cache.CodeGuard, "CACHE.CONFIG TEMP REVERT "+id+", and drain it again", "a setting of %s is changed for a while, and saving its role would make that last", addr)
					}
				}
			}
			if n.Mode == "cluster" && to != nil {
				if err := k.clusterFit(ctx, v, n); err != nil {
					return nil, err
				}
				if err := k.tooSoon(ctx, n, to); err != nil {
					return nil, err
				}
			}
		}
		d.Parts = append(d.Parts, p)
	}
	if len(d.Parts) == 0 {
		return nil, cache.Errorf(cache.CodeErr, "CACHE.NODES shows hosts and nodes", "no node is on host %s, or has that address", what)
	}
	return d, nil
}

// heir is the replica that takes over from n: not on the same host, up to date, and as new and as large as the primary. nil:
// there is none, and why.
func (k *Keeper) heir(ctx context.Context, v *upstream.View, n *upstream.Node, on func(*upstream.Node) bool) (*upstream.Node, string) {
	var best *upstream.Node
	first := 0 // best's priority
	why := "it has no replica"
	limit := maxmemory(ctx, n)
	for _, r := range v.Nodes {
		if r.Cluster != n.Cluster || r.Follows != n.Addr || r.Role != upstream.Replica {
			continue
		}
		var is seen
		if r.Down == "" {
			is = k.see(ctx, &Part{Cluster: n.Cluster, Mode: n.Mode}, r.Addr)
		}
		switch m := maxmemory(ctx, r); {
		case r.Down != "":
			why = "its replica " + r.Addr + " does not answer"
		case on(r) || r.Host == n.Host:
			why = "its replica " + r.Addr + " is on the same host"
		case !r.LinkUp || r.Loading:
			why = "its replica " + r.Addr + " does not follow it now"
		case r.LagBytes < 0 || r.LagBytes > lagMost:
			why = fmt.Sprintf("its replica %s is %d bytes behind", r.Addr, r.LagBytes)
		case older(r.Version, n.Version):
			why = fmt.Sprintf("its replica %s runs %s, and it runs %s", r.Addr, r.Version, n.Version)
		case m > 0 && (limit == 0 || m < limit):
			why = "its replica " + r.Addr + " may hold less memory (maxmemory)"
		case n.Mode == "sentinel" && is.priority == "0":
			why = "its replica " + r.Addr + " is never to be promoted (replica-priority 0)"
		case is.unsaved:
			why = "its replica " + r.Addr + " has not written its data to its append-only file yet, and would come back with less if it died: wait until it has"
		default:
			mine := 0
			if n.Mode == "sentinel" { // whom Sentinels would promote
				mine, _ = strconv.Atoi(is.priority)
			}
			if best == nil || mine < first || mine == first && r.LagBytes < best.LagBytes {
				best, first = r, mine
			}
		}
	}
	return best, why
}

func maxmemory(ctx context.Context, n *upstream.Node) int64 {
	if n.Down != "" {
		return -1
	}
	v, err := n.Do(ctx, "CONFIG", "GET", "maxmemory")
	if err != nil || len(v.Items) != 2 {
		return -1
	}
	m, _ := v.Items[1].Integer()
	return m
}

// older says whether version a is older than b.
func older(a, b string) bool {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(x), len(y)) {
		m, _ := strconv.Atoi(x[i])
		n, _ := strconv.Atoi(y[i])
		if m != n {
			return m < n
		}
	}
	return false
}

// clusterFit says why a primary of a cluster may not be moved now: the cluster is not whole, too few primaries could vote,
// or slots are on their way.
func (k *Keeper) clusterFit(ctx context.Context, v *upstream.View, n *upstream.Node) error {
	ok, all := 0, 0
	for _, o := range v.Nodes {
		if o.Cluster != n.Cluster || o.Role != upstream.Primary || len(o.Slots) == 0 {
			continue
		}
		all++
		if o.Down != "" {
			continue
		}
		if in, err := o.Do(ctx, "CLUSTER", "INFO"); err == nil && strings.Contains(in.Str, "cluster_state:ok") {
			ok++
		}
	}
	if ok <= all/2 {
		return cache.Errorf(cache.CodeGuard, "mend the cluster first", "of %d primaries of cluster %s only %d say that it is whole", all, n.Cluster, ok)
	}
	t, err := n.Do(ctx, "CLUSTER", "NODES")
	if err != nil {
		return err
	}
	for line := range strings.SplitSeq(t.Str, "\n") {
		if strings.Contains(line, "myself") && strings.Contains(line, "[") {
			return cache.Errorf(cache.CodeGuard, "wait until they have arrived", "slots of %s are on their way", n.Addr)
		}
	}
	return nil
}

// value describes a drain in a reply.
func (d *Drain) value() cache.Value {
	parts := cache.List()
	saved := true
	for _, p := range d.Parts {
		saved = saved && (p.Saved || p.State != Moved)
		r := cache.Dict("cluster", cache.String(p.Cluster), "node", cache.String(p.Addr), "mode", cache.String(p.Mode), "state", cache.String(p.State), "to", cache.String(p.To))
		why := slices.DeleteFunc([]string{p.Why, p.owed()}, func(s string) bool { return s == "" })
		if len(why) > 0 {
			r.Add("why", cache.String(strings.Join(why, "; ")))
		}
		parts.Items = append(parts.Items, r)
	}
	return cache.Dict("id", cache.String(d.ID), "what", cache.String(d.What), "state", cache.String(d.State), "by", cache.String(d.By), "at", cache.String(d.At.Format("2006-01-02T15:04:05Z07:00")),
		"may_reboot", cache.Truth(d.State == Drained && saved), "nodes", parts)
}

// moves says whether a part is one that is to be handed over.
func moves(p Part) bool {
	return p.To != "" && slices.Contains([]string{Waiting, Moving, Stayed}, p.State)
}
