package builtin

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

func (s *set) prefix() *cache.Command {
	return &cache.Command{
		Name: "CACHE.PREFIX", Summary: "map memory and time to live by prefix of the key", Class: cache.LoadRead,
		Help: "Every key is counted under exactly one prefix, so that the rows and what stands under rest sum to the total. A prefix is what comes before the DEPTHth separator, with it; a key with fewer separators counts under what it has.\n" +
			"Without SAMPLE and EPS all keys are looked at and the figures are exact, but for keys that come and go meanwhile. SAMPLE looks at a random part of them; EPS goes on until no interval is wider than so many percent of all bytes to either side, if need be to the last key. Sampled figures come with an interval that holds the truth in 95 of 100 samples.",
		Args: []cache.Arg{
			{Name: "depth", Keyword: "DEPTH", Type: cache.Integer, Optional: true, Default: "1", Min: 1, Max: 8, Help: "how many separators a prefix reaches over"},
			{Name: "sep", Keyword: "SEP", Optional: true, Default: ":", Public: true, Help: "the separator, one character or more"},
			cache.ArgTop,
			{Name: "sample", Keyword: "SAMPLE", Type: cache.Decimal, Optional: true, Min: 0.01, Max: 100, Help: "look at this part of the keys, in percent"},
			{Name: "eps", Keyword: "EPS", Type: cache.Decimal, Optional: true, Min: 0.01, Max: 50, Help: "sample until every interval is within so many percent of all bytes"},
			cache.ArgOn, argSlack, argDuty, cache.ArgBudget, cache.ArgAsync, cache.ArgFormat,
		},
		Guards: walkGuards, Needs: "4.0",
		Reply: []cache.Field{
			{Name: "prefix", Type: "string", Help: "with its separator; empty: keys without one"},
			{Name: "keys", Type: "int", Help: "how many, or about how many"},
			{Name: "bytes", Type: "int", Help: "their memory, as MEMORY USAGE says"},
			{Name: "share", Type: "double", Help: "of all bytes, in percent"},
			{Name: "keys_ci95", Type: "array", Help: "sampled: the interval of keys"},
			{Name: "bytes_ci95", Type: "array", Help: "sampled: the interval of bytes"},
			{Name: "no_ttl_pct", Type: "double", Help: "keys that never expire, in percent"},
			{Name: "ttl_p50_ms", Type: "int", Help: "half of the keys that expire do so within this, to a factor of 1.4"},
			{Name: "ttl_p90_ms", Type: "int", Help: "and nine in ten"},
		},
		Examples: []string{"CACHE.PREFIX", "CACHE.PREFIX DEPTH 2 TOP 50 ON cluster:main", "CACHE.PREFIX EPS 1", "CACHE.PREFIX SAMPLE 5"},
		Run:      s.runPrefix,
	}
}

// maxPrefixes is how many are told apart on one node; what comes after counts as others, which is said.
const maxPrefixes = 100_000

// othersName is the row of prefixes beyond maxPrefixes.
const othersName = "(others)"

func (s *set) runPrefix(ctx context.Context, c *cache.Call) (cache.Value, error) {
	if c.Given("sample") && c.Given("eps") {
		return cache.Value{}, cache.Errorf(cache.CodeErr, "give one of them", "SAMPLE and EPS do not go together")
	}
	if c.Text("sep") == "" {
		return cache.Value{}, cache.Errorf(cache.CodeErr, "give a separator, for example SEP :", "SEP is empty")
	}
	v, err := s.Fleet.Look(ctx, c.Select("on"))
	if err != nil {
		return cache.Value{}, err
	}
	var mu sync.Mutex
	var parts []*prefixes
	sampled := c.Given("sample") || c.Given("eps")
	w, err := s.walk(ctx, c, shards(v, c.Select("on"), false), func(ctx context.Context, n *upstream.Node, p *upstream.Pacer) (upstream.Scanned, error) {
		part, got, err := prefixesOf(ctx, c, n, p)
		if part != nil {
			mu.Lock()
			parts = append(parts, part)
			mu.Unlock()
		}
		return got, err
	})
	if err != nil {
		return cache.Value{}, err
	}
	e := w.put(reply(c, v))
	e.failed = append(e.failed, v.Lost...)
	s.prefixRows(c, e, parts, sampled || w.coverage < 1)
	return e.value()
}

// prefixesOf walks over one node, or over a sample of it.
func prefixesOf(ctx context.Context, c *cache.Call, n *upstream.Node, p *upstream.Pacer) (*prefixes, upstream.Scanned, error) {
	caps, err := n.Caps(ctx)
	if err != nil {
		return nil, upstream.Scanned{}, err
	}
	if !caps[upstream.CapMemoryUsage] {
		return nil, upstream.Scanned{}, &upstream.Failure{Node: n.Addr, Err: errors.New("it has no MEMORY USAGE")}
	}
	out := &prefixes{by: map[string]*tally{}, ttl: map[string]*ttlHist{}}
	pop, err := populationOf(ctx, n)
	if err != nil {
		return nil, upstream.Scanned{}, err
	}
	out.pop = pop
	sep, depth := c.Text("sep"), int(c.Int("depth"))
	limit, eps := int64(math.MaxInt64), 0.0
	if c.Given("sample") {
		limit = int64(math.Ceil(c.Float("sample") / 100 * float64(pop.keys)))
	}
	if c.Given("eps") {
		eps = c.Float("eps")
		out.pop.repeat = true
	}
	check := int64(1000) // the sample is judged when it has grown by half, not all the time
	scan := upstream.Scan{
		Pacer: p, Ask: [][]string{{"MEMORY", "USAGE"}, {"PTTL"}}, Tail: [][]string{{"SAMPLES", "5"}},
		Page: func(_ int, keys []string, a []cache.Value) bool {
			for i, k := range keys {
				if a[2*i].Kind == cache.Int { // else it is gone
					out.add(prefixOf(k, sep, depth), float64(a[2*i].Int), a[2*i+1].Int)
				}
			}
			out.pop.seen += int64(len(keys))
			if eps > 0 && out.pop.seen >= check {
				check = out.pop.seen * 3 / 2
				if out.good(eps) {
					return false
				}
			}
			return out.pop.seen < limit
		},
	}
	bySlot, err := n.BySlot(ctx)
	if err != nil {
		return nil, upstream.Scanned{}, err
	}
	var got upstream.Scanned
	switch {
	case limit == math.MaxInt64 && eps == 0:
		got, err = scan.Run(ctx, n)
	case bySlot && eps == 0:
		got, err = scan.Sample(ctx, n, c.Float("sample")/100, newRand())
	case bySlot:
		got, err = growSample(ctx, n, scan, out, eps)
	default:
		got, err = scan.Run(ctx, n)
	}
	out.pop.seen = got.Keys
	switch {
	case got.Whole:
		out.pop.keys = got.Keys
	case err != nil && bySlot: // what was seen are some slots' keys, not a sample
		out.pop.keys, out.cut = got.Keys, n.Addr
	default:
		out.pop.keys = max(out.pop.keys, got.Keys)
	}
	// A sample that was asked for is an answer for all keys: its rows say how sure they are.
	if err == nil && !got.Whole {
		got.Whole = true
	}
	return out, got, err
}

// growSample takes samples that double until one is good enough. Each one begins anew: the same slots are rounded anew.
func growSample(ctx context.Context, n *upstream.Node, scan upstream.Scan, out *prefixes, eps float64) (upstream.Scanned, error) {
	for part := max(0.01, 2000/float64(max(1, out.pop.keys))); ; part *= 2 {
		clear(out.by)
		clear(out.ttl)
		out.pop.seen = 0
		page := scan
		page.Page = func(db int, keys []string, a []cache.Value) bool {
			scan.Page(db, keys, a) // its opinion on the end is not asked: half a stratified sample is none
			return true
		}
		if part >= 1 {
			return page.Run(ctx, n)
		}
		got, err := page.Sample(ctx, n, part, newRand())
		out.pop.seen = got.Keys
		if err != nil || out.good(eps) {
			return got, err
		}
	}
}

func newRand() *rand.Rand { return rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())) }

// populationOf asks a node what it knows of all its keys.
func populationOf(ctx context.Context, n *upstream.Node) (population, error) {
	p := population{bytes: math.Inf(1)}
	dbs, err := n.Databases(ctx)
	if err != nil {
		return p, err
	}
	for _, size := range dbs {
		p.keys += size
	}
	p.learnLarge(ctx, n)
	v, err := n.Do(ctx, "MEMORY", "STATS")
	if err != nil {
		return p, nil //nolint:nilerr // a server that does not say bounds nothing
	}
	if data, ok := v.Get("dataset.bytes").Integer(); ok && data > 0 {
		extra, doubt := redisExtra, redisDoubt
		if n.Flavour == "valkey" {
			extra, doubt = valkeyExtra, valkeyDoubt
		}
		p.bytes, p.doubt = float64(data)+extra*float64(p.keys), doubt*float64(p.keys)
	}
	return p, nil
}

// prefixRows adds the nodes up and makes the rows.
func (s *set) prefixRows(c *cache.Call, e *envelope, parts []*prefixes, sampled bool) {
	type row struct {
		name string
		estimate
		ttl ttlHist
	}
	by := map[string]*row{}
	for _, p := range parts {
		if p.cut != "" {
			e.notes = append(e.notes, p.cut+" is walked over slot by slot, and the walk was cut: its keys are counted as far as they were seen, not scaled up")
		}
		names, es := p.estimates()
		for i, name := range names {
			r := by[name]
			if r == nil {
				r = &row{name: name}
				by[name] = r
			}
			// The ends of sums are wider than need be: samples of different nodes do not miss in the same direction.
			r.keys += es[i].keys
			r.bytes += es[i].bytes
			r.keysCI = interval{r.keysCI.lo + es[i].keysCI.lo, r.keysCI.hi + es[i].keysCI.hi}
			r.bytesCI = interval{r.bytesCI.lo + es[i].bytesCI.lo, r.bytesCI.hi + es[i].bytesCI.hi}
			r.loose = r.loose || es[i].loose
			r.ttl.merge(p.ttl[name])
		}
	}
	rows := make([]*row, 0, len(by))
	for _, r := range by {
		r.keys, r.bytes = math.Round(r.keys), math.Round(r.bytes) // whole numbers add up exactly
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b *row) int {
		if a.bytes != b.bytes {
			if a.bytes > b.bytes {
				return -1
			}
			return 1
		}
		return strings.Compare(a.name, b.name)
	})
	var keys, bytes int64
	for _, r := range rows {
		keys += int64(r.keys)
		bytes += int64(r.bytes)
	}
	most := min(len(rows), int(c.Int("top")))
	var restKeys, restBytes int64
	loose := false
	for i, r := range rows {
		if i >= most {
			restKeys += int64(r.keys)
			restBytes += int64(r.bytes)
			continue
		}
		all := r.ttl.none + r.ttl.some
		v := cache.Dict("prefix", cache.String(r.name), "keys", cache.Number(int64(r.keys)), "bytes", cache.Number(int64(r.bytes)),
			"share", cache.Real(round(100*r.bytes/max(1, float64(bytes)))))
		if sampled {
			v.Add("keys_ci95", cache.List(cache.Number(int64(math.Floor(r.keysCI.lo))), cache.Number(int64(math.Ceil(r.keysCI.hi)))))
			v.Add("bytes_ci95", cache.List(cache.Number(int64(math.Floor(r.bytesCI.lo))), cache.Number(int64(math.Ceil(r.bytesCI.hi)))))
			loose = loose || r.loose
		}
		v.Add("no_ttl_pct", cache.Real(round(100*float64(r.ttl.none)/float64(max(1, all)))))
		p50, p90 := r.ttl.quantile(0.5), r.ttl.quantile(0.9)
		v.Add("ttl_p50_ms", maybe(p50 >= 0, p50))
		v.Add("ttl_p90_ms", maybe(p90 >= 0, p90))
		e.rows = append(e.rows, v)
	}
	e.extra = append(e.extra, "sampled", cache.Truth(sampled),
		"total", cache.Dict("prefixes", cache.Number(len(rows)), "keys", cache.Number(keys), "bytes", cache.Number(bytes)),
		"rest", cache.Dict("prefixes", cache.Number(len(rows)-most), "keys", cache.Number(restKeys), "bytes", cache.Number(restBytes)))
	if by[othersName] != nil {
		e.notes = append(e.notes, fmt.Sprintf("there are more than %d prefixes on a node: what came later is counted under %s; a smaller DEPTH has fewer", maxPrefixes, othersName))
	}
	if loose {
		e.notes = append(e.notes, "some keys are so much larger than the others that the sample cannot tell how much they hold: where an interval is wide, it is what the server's whole memory leaves room for; without SAMPLE the figures are exact")
	}
}
