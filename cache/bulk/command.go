package bulk

import (
	"context"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

var (
	argMatch = cache.Arg{Name: "match", Keyword: "MATCH", Type: cache.Pattern, Help: "only keys that match, as KEYS has it; nothing else is ever changed"}
	argRate  = cache.Arg{Name: "rate", Keyword: "RATE", Type: cache.Integer, Optional: true, Default: "2000", Min: 1, Max: 200_000, Help: "keys a second on each node at most: what is gone at once comes back to the origin at once"}
	argSlack = cache.Arg{Name: "slack", Keyword: "SLACK", Type: cache.Decimal, Optional: true, Default: "2", Min: 1.1, Max: 100, Help: "how many times longer than before a canary's ping may take before the work slows down"}
	argWork  = cache.Arg{Name: "id", Public: true, Help: "the work: b-…"}
	// fullest bounds a capture: it stands on the gateway's disk.
	fullest = float64(int64(1) << 40)
)

var guards = []string{
	"a dry run first: its plan, with the count, is what another person approves; with more keys than that it stops",
	"a canary pings each server all the time, and the work slows down or stops by what customers would feel; RATE keys a second on each node at most; one node of a machine at a time",
	"pauses while more than 100,000 values wait to be freed in the background, and while replicas are behind",
	"what was begun and interrupted is carried on with CACHE.BULK RESUME, within 24 hours",
}

var rows = []cache.Field{
	{Name: "id", Type: "string", Help: "of the work: b-…; of a dry run, the approval's: p-…"},
	{Name: "state", Type: "string", Help: "planned, running, interrupted, done"},
	{Name: "op", Type: "string", Help: "unlink, expire, undo"},
	{Name: "keys", Type: "int", Help: "that the plan counted"},
	{Name: "changed", Type: "int", Help: "keys that were unlinked, set to expire, or put back"},
	{Name: "gone", Type: "int", Help: "not there any more when it came to them"},
	{Name: "busy", Type: "int", Help: "left alone: customers wrote them all the time"},
	{Name: "large", Type: "int", Help: "left alone: above 32 MB, too large to capture"},
	{Name: "kept", Type: "int", Help: "undo: left alone, because someone has written them since"},
	{Name: "there", Type: "int", Help: "undo: as they were already"},
	{Name: "expired", Type: "int", Help: "undo: would have expired since"},
	{Name: "captured_bytes", Type: "int", Help: "on the gateway's disk"},
}

// Commands are CACHE.UNLINK, CACHE.EXPIRE, CACHE.UNDO and CACHE.BULK. With m nil they are descriptions.
func Commands(m *Manager) []*cache.Command {
	c := &commands{m}
	flow := "\nCall it with DRYRUN: it counts, over all keys, and answers with the plan and the id of an approval. Another person says CACHE.APPROVE id within 30 minutes; then call it again with the same words and APPROVAL id in the place of DRYRUN."
	return []*cache.Command{
		{
			Name: "CACHE.UNLINK", Summary: "unlink all keys that match a pattern", Class: cache.Write, Plans: true,
			Help: "With CAPTURE each value and the instant it expires are on the gateway's disk before the key is unlinked, and it is unlinked only if it still is as it was captured; CACHE.UNDO puts it back, byte for byte. " +
				"Values above 32 MB are left alone then, a full capture stops the work, and captures are kept for 7 days." + flow,
			Args: cache.PlanArgs(
				argMatch,
				cache.Arg{Name: "idle", Keyword: "IDLE", Type: cache.Duration, Optional: true, Min: 1, Max: 1e9, Help: "only keys that nobody has used for so long; not where the eviction policy is LFU"},
				cache.Arg{Name: "capture", Keyword: "CAPTURE", Type: cache.Size, Optional: true, Min: 1, Max: fullest, Help: "bytes that may be captured for CACHE.UNDO, such as 2gb; without it the work cannot be undone"},
				argRate, argSlack, cache.ArgOn,
			),
			Guards: guards, Needs: "4.0; 7.0 with CAPTURE, and EVAL", Reply: rows,
			Examples: []string{"CACHE.UNLINK MATCH session:2019:* CAPTURE 2gb DRYRUN", "CACHE.UNLINK MATCH session:2019:* CAPTURE 2gb APPROVAL p-0123456789ab"},
			Run:      c.unlink,
		},
		{
			Name: "CACHE.EXPIRE", Summary: "let all keys that match a pattern expire", Class: cache.Write, Plans: true,
			Help: "Each key gets an instant of its own, TTL from now and spread by JITTER both ways, so that they neither expire nor come back from the origin at once. When they were to expire before is captured; CACHE.UNDO puts that back." + flow,
			Args: cache.PlanArgs(
				argMatch,
				cache.Arg{Name: "ttl", Keyword: "TTL", Type: cache.Duration, Min: 1, Max: 1e9, Help: "time to live from now"},
				cache.Arg{Name: "jitter", Keyword: "JITTER", Type: cache.Decimal, Optional: true, Default: "10", Min: 0, Max: 90, Help: "percent of TTL that each key's may be shorter or longer"},
				cache.Arg{Name: "no_ttl", Keyword: "ONLY-NO-TTL", Type: cache.Flag, Optional: true, Help: "only keys that never expire"},
				argRate, argSlack, cache.ArgOn,
			),
			Guards: guards, Needs: "7.0, and EVAL", Reply: rows,
			Examples: []string{"CACHE.EXPIRE MATCH cart:* TTL 24h JITTER 20 ONLY-NO-TTL DRYRUN", "CACHE.EXPIRE MATCH cart:* TTL 24h JITTER 20 ONLY-NO-TTL APPROVAL p-0123456789ab"},
			Run:      c.expire,
		},
		{
			Name: "CACHE.UNDO", Summary: "put back what CACHE.UNLINK or CACHE.EXPIRE changed", Class: cache.Write, Plans: true,
			Help:   "Values come back byte for byte and expire when they would have. A key that someone has written since, or whose time to live someone has changed, stays as it is and is counted as kept. It may be repeated." + flow,
			Args:   cache.PlanArgs(argWork, argRate, argSlack),
			Guards: guards, Needs: "5.0; 7.0 for what expires, and EVAL", Reply: rows,
			Examples: []string{"CACHE.UNDO b-0123456789ab DRYRUN", "CACHE.UNDO b-0123456789ab APPROVAL p-0123456789ab"},
			Run:      c.undo,
		},
		{Name: "CACHE.BULK LIST", Summary: "list what changes, or has changed, many keys", Class: cache.Read, Args: []cache.Arg{cache.ArgFormat}, Reply: rows, Examples: []string{"CACHE.BULK LIST"}, Run: c.list},
		{
			Name: "CACHE.BULK RESUME", Summary: "carry on what was interrupted, as it was approved", Class: cache.Write, Args: []cache.Arg{argWork, cache.ArgAsync, cache.ArgFormat},
			Guards: guards[1:], Reply: rows, Examples: []string{"CACHE.BULK RESUME b-0123456789ab"}, Run: c.resume,
		},
	}
}

type commands struct{ m *Manager }

// plan is what a call wants, without what a dry run adds.
func plan(c *cache.Call, op string) *Plan {
	return &Plan{
		Op: op, Match: c.Text("match"), Idle: c.Duration("idle"), Capture: c.Int("capture"), TTL: c.Duration("ttl"), Jitter: c.Float("jitter") / 100,
		NoTTL: c.Flag("no_ttl"), Rate: c.Int("rate"), Slack: c.Float("slack"), On: c.Select("on").String(), By: c.User.Name,
	}
}

func (c *commands) unlink(ctx context.Context, call *cache.Call) (cache.Value, error) {
	return c.change(ctx, call, plan(call, Unlink))
}

func (c *commands) expire(ctx context.Context, call *cache.Call) (cache.Value, error) {
	return c.change(ctx, call, plan(call, Expire))
}

// change makes a plan, or carries one out that was approved.
func (c *commands) change(ctx context.Context, call *cache.Call, p *Plan) (cache.Value, error) {
	if id := call.Text("approval"); id != "" {
		return c.approved(ctx, call, p)
	}
	p.At = c.m.now().UTC()
	g, err := c.m.dryRun(ctx, call.Job, call.Select("on"), p, func(done, of int) {
		call.Progress(cache.Dict("job", cache.String(call.Job), "shards_done", cache.Number(done), "shards", cache.Number(of)))
	})
	if err != nil {
		return cache.Value{}, err
	}
	return c.ask(call, p, g)
}

// ask opens the question for a plan's approval.
func (c *commands) ask(call *cache.Call, p *Plan, g upstream.GuardReport) (cache.Value, error) {
	keys, _, _ := p.sum()
	if keys == 0 {
		return cache.Dict("job", cache.String(call.Job), "state", cache.String("nothing to do"), "op", cache.String(p.Op), "keys", cache.Number(0), "guards", g.Value()), nil
	}
	id, err := c.m.keep(p, call.Command.Name)
	if err != nil {
		return cache.Value{}, err
	}
	if !call.Flag("dryrun") {
		return cache.Value{}, cache.NeedsApproval(id, "the plan to change %d keys", keys)
	}
	shards := cache.List()
	for _, s := range p.Shards {
		shards.Items = append(shards.Items, cache.Dict("cluster", cache.String(s.Cluster), "shard", cache.String(s.Addr), "keys", cache.Number(s.Keys), "bytes", cache.Number(s.Bytes)))
	}
	return cache.Dict("job", cache.String(call.Job), "state", cache.String("planned"), "op", cache.String(p.Op), "keys", cache.Number(keys), "plan", p.value(id),
		"next", cache.String("someone else says CACHE.APPROVE "+id+"; then the same call with APPROVAL "+id+" in the place of DRYRUN"), "guards", g.Value(), "rows", shards), nil
}

func (c *commands) approved(ctx context.Context, call *cache.Call, want *Plan) (cache.Value, error) {
	w, err := c.m.approved(call.Text("approval"), call.User, func(p *Plan) bool {
		same := *p
		same.At, same.Shards = time.Time{}, nil
		return same.Hash() == want.Hash()
	})
	if err != nil {
		return cache.Value{}, err
	}
	return c.carryOut(ctx, call, w)
}

func (c *commands) carryOut(ctx context.Context, call *cache.Call, w *Work) (cache.Value, error) {
	g, err := c.m.carryOut(ctx, call, w)
	if err != nil {
		return cache.Value{}, err
	}
	v := w.value()
	v.Add("job", cache.String(call.Job))
	v.Add("guards", g.Value())
	return v, nil
}

// value is how a work stands.
func (w *Work) value() cache.Value {
	keys, _, _ := w.Plan.sum()
	t := w.total()
	w.mu.Lock()
	state, why := w.state, w.why
	w.mu.Unlock()
	v := cache.Dict("id", cache.String(w.ID), "state", cache.String(state), "op", cache.String(w.Plan.Op), "by", cache.String(w.Plan.By), "began", cache.String(w.Plan.At.Format(time.RFC3339)),
		"keys", cache.Number(keys), "changed", cache.Number(t.Changed), "gone", cache.Number(t.Gone), "busy", cache.Number(t.Busy), "large", cache.Number(t.Large))
	if w.Plan.Op == Undo {
		v.Add("of", cache.String(w.Plan.Of))
		v.Add("kept", cache.Number(t.Kept))
		v.Add("there", cache.Number(t.There))
		v.Add("expired", cache.Number(t.Expired))
	} else {
		v.Add("captured_bytes", cache.Number(w.captured()))
	}
	if why != "" {
		v.Add("why", cache.String(why))
	}
	return v
}

func (c *commands) undo(ctx context.Context, call *cache.Call) (cache.Value, error) {
	of := c.m.find(call.Text("id"))
	switch {
	case of == nil:
		return cache.Value{}, cache.Errorf(cache.CodeErr, "CACHE.BULK LIST shows what there is", "there is no work of that id")
	case of.State() == Running:
		return cache.Value{}, cache.Errorf(cache.CodeBusy, "CACHE.JOB CANCEL ends it", "%s still runs", of.ID)
	case of.Plan.Op == Undo:
		return cache.Value{}, cache.Errorf(cache.CodeErr, "make a new plan for what is to be changed again", "%s is an undo itself", of.ID)
	}
	want := &Plan{Op: Undo, Of: of.ID, Rate: call.Int("rate"), Slack: call.Float("slack"), By: call.User.Name}
	if call.Text("approval") != "" {
		return c.approved(ctx, call, want)
	}
	p, err := planUndo(of)
	if err != nil {
		return cache.Value{}, err
	}
	p.Rate, p.Slack, p.By, p.At = want.Rate, want.Slack, want.By, c.m.now().UTC()
	return c.ask(call, p, upstream.GuardReport{})
}

func (c *commands) list(context.Context, *cache.Call) (cache.Value, error) {
	out := cache.List()
	for _, w := range c.m.list() {
		out.Items = append(out.Items, w.value())
	}
	return cache.Dict("rows", out), nil
}

func (c *commands) resume(ctx context.Context, call *cache.Call) (cache.Value, error) {
	w := c.m.find(call.Text("id"))
	switch {
	case w == nil:
		return cache.Value{}, cache.Errorf(cache.CodeErr, "CACHE.BULK LIST shows what there is", "there is no work of that id")
	case c.m.now().Sub(w.Plan.At) > resumeFor:
		return cache.Value{}, cache.Errorf(cache.CodeStale, "make a new plan for the rest", "%s was approved more than %s ago", w.ID, resumeFor)
	case !w.claim():
		return cache.Value{}, cache.Errorf(cache.CodeErr, "", "%s is %s; only what was interrupted is carried on", w.ID, w.State())
	}
	return c.carryOut(ctx, call, w)
}
