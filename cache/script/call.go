package script

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

// chosen are the nodes of one call.
type chosen struct {
	ok     []*upstream.Node
	failed []string // each with its reason
	epoch  string
}

// nodes chooses: what the caller selects, within what the manifest allows. Where neither speaks of roles, a command that
// scans gets one node of each shard, a replica if there is one that keeps up, and one that writes gets the primaries.
func (m *Manager) nodes(ctx context.Context, b *Bundle, sel cache.Select) (chosen, error) {
	view, err := m.cfg.Fleet.Look(ctx, sel)
	if err != nil {
		return chosen{}, err
	}
	out := chosen{epoch: view.Epoch}
	limit := b.Manifest.Select
	var fit []*upstream.Node
	for _, n := range view.Nodes {
		if limit.Matches(n.Target) {
			fit = append(fit, n)
		}
	}
	if len(fit) == 0 {
		return out, cache.Errorf(cache.CodeErr, "choose others; its manifest says select: "+limit.String(), "%s may look at none of the chosen nodes", b.Manifest.Name)
	}
	byRole := sel.Names("role") || limit.Names("role")
	best := map[string]*upstream.Node{}
	for _, n := range fit {
		shard := n.Cluster + " " + n.Shard
		switch {
		case n.Down != "":
			out.failed = append(out.failed, n.Addr+": "+n.Down)
		case byRole || b.Manifest.Class == cache.Read:
			out.ok = append(out.ok, n)
		case b.Manifest.Class == cache.Write:
			if n.Role == upstream.Primary {
				out.ok = append(out.ok, n)
			}
		case best[shard] == nil || best[shard].Role == upstream.Primary && n.Role == upstream.Replica && n.LinkUp && !n.Loading:
			best[shard] = n
		}
	}
	for _, n := range fit { // in the order of the view
		if best[n.Cluster+" "+n.Shard] == n {
			out.ok = append(out.ok, n)
		}
	}
	for _, l := range view.Lost {
		out.failed = append(out.failed, l.Error())
	}
	if len(out.ok) > b.Manifest.MaxNodes {
		return out, cache.Errorf(cache.CodeGuard, "choose fewer with ON, or raise max_nodes in its manifest", "%d nodes are chosen, and %s may look at %d", len(out.ok), b.Manifest.Name, b.Manifest.MaxNodes)
	}
	return out, nil
}

// handler runs one version of a command. Calls keep the version that they began with.
func (m *Manager) handler(b *Bundle, author string) cache.Handler {
	return func(ctx context.Context, c *cache.Call) (cache.Value, error) {
		writes := b.Manifest.Class == cache.Write
		if id := c.Text("approval"); writes && id != "" {
			return m.execute(ctx, c, id)
		}
		nodes, err := m.nodes(ctx, b, c.Select("on"))
		if err != nil {
			return cache.Value{}, err
		}
		res, err := m.runner.Run(ctx, Order{Bundle: b, Args: b.args(c), Nodes: nodes.ok, Job: c.Job, Progress: func(text string) {
			c.Progress(cache.Dict("job", cache.String(c.Job), "said", cache.String(text)))
		}})
		if err != nil {
			return cache.Value{}, err
		}
		failed := append(nodes.failed, res.Failed...)
		asked := len(nodes.ok) + len(nodes.failed)
		coverage := 0.0
		if asked > 0 {
			coverage = float64(asked-len(failed)) / float64(asked)
		}
		v := cache.Dict("job", cache.String(c.Job), "epoch", cache.String(nodes.epoch), "asof", cache.String(m.cfg.Now().UTC().Format(time.RFC3339)), "coverage", cache.Real(coverage),
			"nodes", cache.Dict("ok", cache.Number(asked-len(failed)), "failed", cache.Strings(failed...)), "used", res.Used.value())
		if writes {
			plan := &Plan{Command: b.Manifest.Name, Version: b.Hash, Author: author, By: c.User.Name, Call: argText(b.args(c), c.Select("on")), At: m.cfg.Now().UTC(), Writes: res.Writes}
			if len(plan.Writes) > 0 {
				id, err := m.keep(plan)
				if err != nil {
					return cache.Value{}, err
				}
				if !c.Flag("dryrun") {
					return cache.Value{}, cache.NeedsApproval(id, "the plan of %d writes", len(plan.Writes))
				}
				v.Add("plan", plan.value(id))
			}
		}
		v.Add("rows", cache.List(res.Rows...))
		return v, nil
	}
}

func argText(args cache.Value, sel cache.Select) string {
	b, err := args.MarshalJSON()
	if err != nil {
		return err.Error()
	}
	return string(b) + " ON " + sel.String()
}

// keep remembers a plan under the id of the question for its approval. Plans live as long as their questions.
func (m *Manager) keep(p *Plan) (string, error) {
	id, err := m.cfg.Approvals.Ask(cache.Ask{Hash: p.Hash(), Command: p.Command, By: p.By, Author: p.Author, What: fmt.Sprintf("%s wants %d writes by %s, first %s", p.By, len(p.Writes), p.Command, redact(p.Writes[0]))})
	if err != nil {
		return "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for old, q := range m.plans {
		if m.cfg.Now().Sub(q.At) > 2*cache.ApprovalFor {
			delete(m.plans, old)
		}
	}
	m.plans[id] = p
	return id, nil
}

// redact is a write without the key: the record holds no customers' data.
func redact(w Write) string {
	op, _, _ := strings.Cut(w.String(), " ")
	return op + " on " + w.Node
}

// execute carries out a plan that was approved, exactly as it was approved.
func (m *Manager) execute(ctx context.Context, c *cache.Call, id string) (cache.Value, error) {
	m.mu.Lock()
	p := m.plans[id]
	m.mu.Unlock()
	if p == nil {
		return cache.Value{}, cache.Errorf(cache.CodeApproval, "call with DRYRUN to make a plan", "there is no plan %s: it was carried out, or expired, or the gateway was restarted", clip(id))
	}
	if p.Command != c.Command.Name {
		return cache.Value{}, cache.Errorf(cache.CodeStale, "", "%s is a plan of %s", id, p.Command)
	}
	if err := m.cfg.Approvals.Take(id, p.Hash(), c.User); err != nil {
		return cache.Value{}, err
	}
	m.mu.Lock()
	delete(m.plans, id)
	m.mu.Unlock()
	done, err := Execute(ctx, m.cfg.Fleet, p, func(d Done) {
		c.Progress(cache.Dict("job", cache.String(c.Job), "done", cache.Number(d.Changed+d.Gone), "of", cache.Number(len(p.Writes))))
	})
	e := cache.Event{At: m.cfg.Now().UTC(), Who: c.User.Name, Kind: "keys.changed", Command: p.Command, Job: c.Job, What: fmt.Sprintf("%d of %d keys changed, %d were gone", done.Changed, len(p.Writes), done.Gone), Why: id + " " + p.Hash()}
	if _, lerr := m.cfg.Log.Append(e); lerr != nil && err == nil {
		err = lerr
	}
	if err != nil {
		return cache.Value{}, err
	}
	return cache.Dict("job", cache.String(c.Job), "plan", cache.String(id), "changed", cache.Number(done.Changed), "gone", cache.Number(done.Gone), "of", cache.Number(len(p.Writes))), nil
}
