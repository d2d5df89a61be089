package builtin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

// Arguments that every walk over the keys takes.
var (
	argSlack = cache.Arg{Name: "slack", Keyword: "SLACK", Type: cache.Decimal, Optional: true, Default: "2", Min: 1.1, Max: 100, Help: "how many times longer than before a canary's ping may take before the walk slows down"}
	argDuty  = cache.Arg{Name: "duty", Keyword: "DUTY", Type: cache.Decimal, Optional: true, Default: "0.7", Min: 0.01, Max: 1, Help: "the most of a server's time that the walk may take"}
)

// walkGuards is how walks over the keys are bounded, for people.
var walkGuards = []string{
	"a replica is walked instead of its primary where it is fit for that",
	"a canary pings each server all the time; where its pings take SLACK times as long as before the walk is slowed at once, and sped up again slowly",
	"a stall, evictions, a lagging or broken replication, a change of role open a breaker; after 8 times in a row the server is left alone and coverage says so",
	"at most one walk at a time on one machine and on one shard",
}

// lagFit is how many bytes a replica may be behind to stand for its primary.
const lagFit = 1 << 20

// shard is one part of a keyspace and who may be asked for it.
type shard struct {
	name string // cluster/primary
	node *upstream.Node
	why  string // why nobody can be asked; empty: node can
	all  []*upstream.Node
}

// owns says whether a key of slot can be in the shard.
func (sh shard) owns(slot int) bool {
	return slices.ContainsFunc(sh.all, func(n *upstream.Node) bool {
		return n.Mode != "cluster" || slices.ContainsFunc(n.Slots, func(r [2]int) bool { return r[0] <= slot && slot <= r[1] })
	})
}

// askable are the chosen nodes, and what is to be said of shards that have none.
func askable(list []shard) (nodes []*upstream.Node, failed []*upstream.Failure) {
	for _, sh := range list {
		if sh.node == nil {
			failed = append(failed, &upstream.Failure{Node: sh.name, Err: errors.New(sh.why)})
		} else {
			nodes = append(nodes, sh.node)
		}
	}
	return nodes, failed
}

// shards chooses one node for each shard: where forHeat, the primary, which alone knows how customers use the keys;
// else a replica that is up to date, else the primary. A selector that names a role or a node decides alone.
func shards(v *upstream.View, sel cache.Select, forHeat bool) []shard {
	by := map[string][]*upstream.Node{}
	for _, n := range v.Nodes {
		by[n.Cluster+"/"+n.Shard] = append(by[n.Cluster+"/"+n.Shard], n)
	}
	var out []shard
	for name, nodes := range by {
		if cmp.Or(nodes[0].Mode) == "cluster" && !slices.ContainsFunc(nodes, func(n *upstream.Node) bool { return len(n.Slots) > 0 || n.Role == upstream.Replica }) {
			continue // a primary without slots holds nothing
		}
		s := shard{name: name, all: nodes}
		best := -1
		for _, n := range nodes {
			score := 0
			switch {
			case n.Down != "":
				s.why = cmp.Or(s.why, n.Down)
				continue
			case n.Loading:
				s.why = cmp.Or(s.why, "it is loading its data")
				continue
			case n.Role == upstream.Primary:
				score = 1
				if forHeat {
					score = 3
				}
			case n.LinkUp && n.LagBytes >= 0 && n.LagBytes <= lagFit:
				score = 2
			case sel.Names("node") || sel.Names("role"): // asked for by name
				score = 0
			default:
				s.why = cmp.Or(s.why, "its replica is behind, and its primary does not answer")
				continue
			}
			if score > best || score == best && s.node != nil && n.LagBytes < s.node.LagBytes {
				best, s.node = score, n
			}
		}
		if s.node != nil {
			s.why = ""
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b shard) int { return cmp.Compare(a.name, b.name) })
	return out
}

// walked is what a walk over many shards brought.
type walked struct {
	ok       int
	failed   []*upstream.Failure
	coverage float64
	guards   upstream.GuardReport
	notes    []string
	seen     int64
	size     int64
}

// budgetSpent ends a walk whose BUDGET is spent; what was seen until then is the answer.
var errBudget = errors.New("the budget is spent")

// walk runs fn on the chosen node of every shard, one at a time on each machine, watched by a pacer. fn says how far it
// came. What ends one shard early leaves the others alone.
func (s *set) walk(ctx context.Context, c *cache.Call, list []shard, fn func(ctx context.Context, n *upstream.Node, p *upstream.Pacer) (upstream.Scanned, error)) (walked, error) {
	bctx := ctx
	if d := c.Duration("budget"); d > 0 {
		var cancel context.CancelFunc
		bctx, cancel = context.WithTimeoutCause(ctx, d, errBudget)
		defer cancel()
	}
	type result struct {
		got upstream.Scanned
		g   upstream.GuardReport
		err error
	}
	res := make([]result, len(list))
	var wg sync.WaitGroup
	tell := progress(c, len(list))
	for i, sh := range list {
		if sh.node == nil {
			res[i].err = &upstream.Failure{Node: sh.name, Err: errors.New(sh.why)}
			continue
		}
		wg.Go(func() {
			r := &res[i]
			release, err := s.Fleet.Heavy.Take(bctx, sh.node, c.Job, func(holder string) {
				tell.note(fmt.Sprintf("%s waits for job %s, which works on the same machine or shard", sh.node, holder))
			})
			if err != nil {
				r.err = &upstream.Failure{Node: sh.node.Addr, Err: err}
				return
			}
			defer release()
			p, err := sh.node.Pace(bctx, c.Float("slack"), c.Float("duty"))
			if err != nil {
				r.err = err
				return
			}
			defer p.Close()
			r.got, r.err = fn(bctx, sh.node, p)
			r.g = p.Report()
			tell.shard(sh.node, r.got, r.err)
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil { // the caller went away: nobody reads what there is
		return walked{}, context.Cause(ctx)
	}
	var w walked
	var known int64
	sized := 0
	for _, r := range res {
		if r.got.Size > 0 || r.err == nil {
			known += r.got.Size
			sized++
		}
	}
	mean := 1.0
	if sized > 0 {
		mean = max(1, float64(known)/float64(sized)) // what is not known of a shard's size
	}
	var part, whole float64
	for _, r := range res {
		size := float64(r.got.Size)
		if r.err != nil && r.got.Size == 0 {
			size = mean
		}
		size = max(size, 1)
		whole += size
		part += size * r.got.Coverage()
		w.seen += r.got.Keys
		w.size += r.got.Size
		w.guards.Add(r.g)
		switch f, ok := errors.AsType[*upstream.Failure](r.err); {
		case r.err == nil:
			w.ok++
		case ok:
			w.failed = append(w.failed, f)
		default:
			w.failed = append(w.failed, &upstream.Failure{Node: "?", Err: r.err})
		}
	}
	if whole > 0 {
		w.coverage = part / whole
	}
	if errors.Is(context.Cause(bctx), errBudget) {
		w.notes = append(w.notes, fmt.Sprintf("the budget of %s was spent: the rows stand for %.0f %% of the keys", c.Duration("budget"), 100*w.coverage))
	}
	return w, nil
}

// put fills the envelope.
func (w walked) put(e *envelope) *envelope {
	e.ok, e.failed, e.coverage, e.guards = w.ok, w.failed, w.coverage, w.guards.Value()
	e.notes = append(e.notes, w.notes...)
	e.extra = append(e.extra, "keys_seen", cache.Number(w.seen))
	if w.seen > 0 && w.ok == 0 { // an answer in part is an answer
		e.ok = 1
	}
	return e
}

// teller tells how far a walk is, at most five times a second.
type teller struct {
	c     *cache.Call
	total int

	mu   sync.Mutex
	done int
	keys int64
	last time.Time
}

func progress(c *cache.Call, total int) *teller { return &teller{c: c, total: total} }

func (t *teller) shard(n *upstream.Node, got upstream.Scanned, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done++
	state := "done"
	if err != nil {
		state = err.Error()
	}
	t.c.Progress(cache.Dict("job", cache.String(t.c.Job), "node", cache.String(n.Addr), "state", cache.String(state),
		"keys_seen", cache.Number(got.Keys), "shards_done", cache.Number(t.done), "shards", cache.Number(t.total)))
}

func (t *teller) note(s string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.c.Progress(cache.Dict("job", cache.String(t.c.Job), "note", cache.String(s)))
}
