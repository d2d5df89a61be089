package builtin

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

func (s *set) latency() *cache.Command {
	return &cache.Command{
		Name: "CACHE.LATENCY", Summary: "how long commands take now, against how long they took before", Class: cache.Read,
		Help: "Takes what servers count by themselves (LATENCY HISTOGRAM) twice, FOR apart, and compares the difference with all that was before. It is time in the server, without the network and without waiting for other commands; " +
			"the histogram's classes are powers of two, so quantiles are upper ends, to a factor of 2. Servers before 7.0 know averages only.",
		Args: []cache.Arg{
			{Name: "by", Keyword: "BY", Optional: true, Default: "cmd", Enum: []string{"cmd", "node"}, Help: "one row a command, or a node"},
			{Name: "for", Keyword: "FOR", Type: cache.Duration, Optional: true, Default: "5", Min: 0.1, Max: 300, Help: "how long to look"},
			cache.ArgTop, cache.ArgOn, cache.ArgFormat,
		},
		Guards: []string{"two questions to each node"}, Needs: "7.0; averages before",
		Reply: []cache.Field{
			{Name: "what", Type: "string", Help: "the command, or the node"},
			{Name: "calls_per_s", Type: "double", Help: "in the time that was looked at"},
			{Name: "mean_us", Type: "double", Help: "the mean in that time"},
			{Name: "p50_us", Type: "int", Help: "half took this or less; null: not known"},
			{Name: "p99_us", Type: "int", Help: "99 in 100 did"},
			{Name: "p999_us", Type: "int", Help: "999 in 1000 did"},
			{Name: "before_p99_us", Type: "int", Help: "99 in 100 of all before"},
			{Name: "p99_ratio", Type: "double", Help: "now against before"},
		},
		Examples: []string{"CACHE.LATENCY", "CACHE.LATENCY BY node FOR 30s ON cluster:main"},
		Run:      s.runLatency,
	}
}

// hist is how often a command took how long: by the upper end of its class, in microseconds.
type hist struct {
	calls int64
	usec  float64
	by    map[int64]int64
}

// quantile is the class that holds the q-th part; -1: none.
func (h hist) quantile(q float64) int64 {
	var all int64
	for _, n := range h.by {
		all += n
	}
	if all == 0 {
		return -1
	}
	ends := make([]int64, 0, len(h.by))
	for e := range h.by {
		ends = append(ends, e)
	}
	slices.Sort(ends)
	left := q * float64(all)
	for _, e := range ends {
		if left -= float64(h.by[e]); left <= 0 {
			return e
		}
	}
	return ends[len(ends)-1]
}

func (h *hist) add(o hist) {
	h.calls += o.calls
	h.usec += o.usec
	if h.by == nil {
		h.by = map[int64]int64{}
	}
	for e, n := range o.by {
		h.by[e] += n
	}
}

// less is h without what it held before. Where the server was reset meanwhile, it is h.
func (h hist) less(before hist) hist {
	if h.calls < before.calls {
		return h
	}
	d := hist{calls: h.calls - before.calls, usec: h.usec - before.usec, by: map[int64]int64{}}
	for e, n := range h.by {
		if n -= before.by[e]; n > 0 {
			d.by[e] = n
		}
	}
	return d
}

// histograms takes what a node counted so far.
func histograms(ctx context.Context, n *upstream.Node) (map[string]hist, time.Time, error) {
	vs, err := n.Pipe(ctx, words("LATENCY", "HISTOGRAM"), words("INFO", "commandstats"))
	now := time.Now()
	if err != nil {
		return nil, now, err
	}
	out := map[string]hist{}
	for name, line := range upstream.ParseInfo(vs[1].Str) {
		if name, ok := strings.CutPrefix(name, "cmdstat_"); ok {
			f := upstream.Fields(line)
			h := hist{}
			h.calls, _ = strconv.ParseInt(f["calls"], 10, 64)
			h.usec, _ = strconv.ParseFloat(f["usec"], 64)
			out[name] = h
		}
	}
	if vs[0].Kind != cache.Err {
		for i := 0; i+1 < len(vs[0].Items); i += 2 {
			h := out[vs[0].Items[i].Str]
			h.by = map[int64]int64{}
			var below int64
			pairs := vs[0].Items[i+1].Get("histogram_usec")
			for j := 0; j+1 < len(pairs.Items); j += 2 { // the counts add up from class to class
				end, _ := pairs.Items[j].Integer()
				n, _ := pairs.Items[j+1].Integer()
				h.by[end] = n - below
				below = n
			}
			out[vs[0].Items[i].Str] = h
		}
	}
	return out, now, nil
}

func (s *set) runLatency(ctx context.Context, c *cache.Call) (cache.Value, error) {
	v, err := s.Fleet.Look(ctx, c.Select("on"))
	if err != nil {
		return cache.Value{}, err
	}
	d := c.Duration("for")
	type pair struct {
		now, before map[string]hist
		took        float64
	}
	a := upstream.AskLong(ctx, v.Nodes, d, func(ctx context.Context, n *upstream.Node) (pair, error) {
		if n.Down != "" {
			return pair{}, errors.New(n.Down)
		}
		before, from, err := histograms(ctx, n)
		if err != nil {
			return pair{}, err
		}
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return pair{}, context.Cause(ctx)
		}
		after, to, err := histograms(ctx, n)
		if err != nil {
			return pair{}, err
		}
		p := pair{now: map[string]hist{}, before: before, took: to.Sub(from).Seconds()}
		for name, h := range after {
			p.now[name] = h.less(before[name])
		}
		return p, nil
	})
	e := reply(c, v).covered(len(a.Got), append(a.Failed, v.Lost...))
	type row struct {
		now, before hist
		rate        float64
	}
	rows := map[string]*row{}
	for _, g := range a.Got {
		for name, h := range g.Val.now {
			what := name
			if c.Text("by") == "node" {
				what = g.Node.Addr
			}
			r := rows[what]
			if r == nil {
				r = &row{}
				rows[what] = r
			}
			r.now.add(h)
			r.before.add(g.Val.before[name])
			r.rate += float64(h.calls) / g.Val.took
		}
	}
	names := make([]string, 0, len(rows))
	for name, r := range rows {
		if r.now.calls > 0 {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { // where the time goes
		if x, y := rows[a].now.usec, rows[b].now.usec; x != y {
			if x > y {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	for _, name := range names[:min(len(names), int(c.Int("top")))] {
		r := rows[name]
		p99, old := r.now.quantile(0.99), r.before.quantile(0.99)
		ratio := cache.Value{}
		if p99 > 0 && old > 0 {
			ratio = cache.Real(round(float64(p99) / float64(old)))
		}
		q := func(x int64) cache.Value { return maybe(x >= 0, x) }
		e.rows = append(e.rows, cache.Dict("what", cache.String(name), "calls_per_s", cache.Real(round(r.rate)),
			"mean_us", cache.Real(round(r.now.usec/float64(r.now.calls))), "p50_us", q(r.now.quantile(0.5)), "p99_us", q(p99),
			"p999_us", q(r.now.quantile(0.999)), "before_p99_us", q(old), "p99_ratio", ratio))
	}
	return e.value()
}
