package drain

import (
	"context"
	"errors"
	"fmt"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

var rows = []cache.Field{
	{Name: "node", Type: "string", Help: "HOST:PORT"},
	{Name: "cluster", Type: "string", Help: "the name of its cluster"},
	{Name: "mode", Type: "string", Help: "cluster, sentinel or standalone"},
	{Name: "state", Type: "string", Help: "waiting, moving, moved, stayed, replica, cold"},
	{Name: "to", Type: "string", Help: "who takes over"},
	{Name: "why", Type: "string", Help: "what is to be known of it"},
}

// Commands are CACHE.DRAIN, CACHE.RESUME and CACHE.DRAINS. With k nil they are descriptions.
func Commands(k *Keeper) []*cache.Command {
	c := &commands{k}
	return []*cache.Command{
		{
			Name: "CACHE.DRAIN", Summary: "move all primaries off a host before it reboots", Class: cache.Disruptive, Plans: true,
			Help: "Each primary is handed over to a replica on another host that has everything, in a cluster by CLUSTER FAILOVER, elsewhere by REPLICAOF with writes paused. " +
				"Writes wait for as long as that takes; none that was acknowledged is lost, unless under Sentinel the gateway is killed between the two roles, stays away, and the replica restarts with less in the very second in which a Sentinel promotes it. Restarted before, it is not promoted; then, and of a plain pair, nobody takes writes until a gateway is back. It ends as drained or unchanged, also when the gateway is killed; may_reboot says whether the host may reboot.\n" +
				"Under Sentinel the replica with the lowest replica-priority takes over. Others have 0 meanwhile, which the Sentinels must have heard before writes wait: that takes 10 s at most.\n" +
				"Of a plain pair and under Sentinel the roles are saved with CONFIG REWRITE, which writes down all settings that were changed at run time.\n" +
				"Call it with DRYRUN: it says what would move where, and the id of an approval. Another person says CACHE.APPROVE id; then call it again with the same words and APPROVAL id.",
			Args: cache.PlanArgs(
				cache.Arg{Name: "host", Public: true, Help: "the machine, or HOST:PORT of one node"},
				cache.Arg{Name: "cold", Keyword: "COLD", Type: cache.Flag, Optional: true, Help: "accept that primaries without a replica lose their keys in the reboot"},
			),
			Guards: []string{
				"refuses without a replica on another host that is up to date, as new and as large; of a cluster also unless most primaries call it whole, and while slots move",
				"refuses while CACHE.CONFIG TEMP holds a setting of a node whose role it would save",
				"one primary of a cluster at a time; nothing is ever forced",
				"another person's approval, bound to what moves where",
			},
			Needs: "cluster 3.0, Sentinel 6.2, a plain pair 6.2", Reply: rows,
			Examples: []string{"CACHE.DRAIN db-7 DRYRUN", "CACHE.DRAIN db-7 APPROVAL p-0123456789ab"},
			Run:      c.drain,
		},
		{
			Name: "CACHE.RESUME", Summary: "take a drained host back into service after its reboot", Class: cache.Disruptive,
			Help:   "Looks whether every node of the host is back as a replica that follows, and says what is missing if not. Primaries stay where they are: each hand-over is a risk.",
			Args:   []cache.Arg{{Name: "id", Public: true, Help: "the drain: d-…"}, cache.ArgFormat},
			Guards: []string{"changes no role"}, Reply: rows, Examples: []string{"CACHE.RESUME d-0123456789ab"}, Run: c.resume,
		},
		{Name: "CACHE.DRAINS", Summary: "list hosts that are, or were, drained", Class: cache.Read, Args: []cache.Arg{cache.ArgFormat}, Reply: rows, Examples: []string{"CACHE.DRAINS"}, Run: c.list},
	}
}

type commands struct{ k *Keeper }

func (c *commands) drain(ctx context.Context, call *cache.Call) (cache.Value, error) {
	d, err := c.k.plan(ctx, call.Text("host"), call.Flag("cold"), call.User.Name)
	if err != nil {
		return cache.Value{}, err
	}
	if id := call.Text("approval"); id != "" {
		// The plan is made anew: an approval of another one does not count.
		if err := c.k.approvals.Take(id, d.hash(), call.User); err != nil {
			return cache.Value{}, err
		}
		return c.carryOut(ctx, call, d)
	}
	moving := 0
	for _, p := range d.Parts {
		if moves(p) {
			moving++
		}
	}
	id, err := c.k.approvals.Ask(cache.Ask{Hash: d.hash(), Command: call.Command.Name, By: d.By, What: fmt.Sprintf("%s wants to drain %s: %d of %d nodes are primaries that move", d.By, d.What, moving, len(d.Parts))})
	if err != nil {
		return cache.Value{}, err
	}
	if !call.Flag("dryrun") {
		return cache.Value{}, cache.NeedsApproval(id, "draining %s", d.What)
	}
	d.State = "planned"
	v := d.value()
	v.Add("approval", cache.String(id))
	return v, nil
}

func (c *commands) carryOut(ctx context.Context, call *cache.Call, d *Drain) (cache.Value, error) {
	if err := c.k.begin(d); err != nil {
		return cache.Value{}, err
	}
	defer c.k.release(d.ID)
	if err := c.k.change(d, func() {}); err != nil {
		return cache.Value{}, err
	}
	err := c.k.carryOut(ctx, d, call.Progress)
	if s := c.k.copyOf(d); s.outcome() != Draining {
		err = errors.Join(err, c.k.end(d, call.User.Name, call.Job))
	}
	now := c.k.copyOf(d)
	if err == nil {
		return now.value(), nil
	}
	code, next := cache.CodeErr, "CACHE.DRAINS shows each node; drain it again when the reason is gone"
	if e, ok := errors.AsType[*cache.Error](err); ok {
		code, next = e.Code, e.Next
	} else if _, ok := errors.AsType[*upstream.Failure](err); ok {
		code = cache.CodeUnreachable
	}
	return cache.Value{}, cache.Errorf(code, next, "%s: %s is %s: %v", d.ID, d.What, now.State, err)
}

func (c *commands) resume(ctx context.Context, call *cache.Call) (cache.Value, error) {
	c.k.mu.Lock()
	d := c.k.drains[call.Text("id")]
	c.k.mu.Unlock()
	if d == nil {
		return cache.Value{}, cache.Errorf(cache.CodeErr, "CACHE.DRAINS shows those that there are", "there is no drain of that id")
	}
	if s := c.k.copyOf(d); s.State == Draining {
		return cache.Value{}, cache.Errorf(cache.CodeBusy, "CACHE.DRAINS shows how it ends", "%s is still under way", s.ID)
	}
	for _, p := range c.k.copyOf(d).Parts {
		s := c.k.see(ctx, &p, p.Addr)
		switch {
		case !s.up:
			return cache.Value{}, cache.Errorf(cache.CodeGuard, "call again when it is back", "%s does not answer, or is loading its data", p.Addr)
		case p.State != Moved && p.State != Follows, s.primary && !c.k.see(ctx, &p, p.To).primary && p.To != "", s.primary && s.slots:
			// nothing was moved off it, or roles have moved again since
		case p.State == Moved && s.primary && p.Mode == "standalone":
			return cache.Value{}, cache.Errorf(cache.CodeConflict, "stop it, look at what it was sent, and start it with replicaof "+p.To, "%s started as a primary, and %s is one", p.Addr, p.To)
		case s.primary && p.To != "" || !s.primary && !s.linked:
			return cache.Value{}, cache.Errorf(cache.CodeGuard, "call again when it follows", "%s is back, and does not follow its primary yet", p.Addr)
		}
	}
	if err := c.k.change(d, func() { d.State = Resumed }); err != nil {
		return cache.Value{}, err
	}
	_, lerr := c.k.log.Append(cache.Event{At: c.k.now().UTC(), Who: call.User.Name, Kind: "host.resumed", Command: call.Command.Name, Job: call.Job, What: d.What + " is back in service", Why: d.ID})
	now := c.k.copyOf(d)
	return now.value(), lerr
}

func (c *commands) list(context.Context, *cache.Call) (cache.Value, error) {
	out := cache.List()
	for _, d := range c.k.list() {
		out.Items = append(out.Items, d.value())
	}
	return cache.Dict("rows", out), nil
}
