package builtin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

func (s *set) keyExplain() *cache.Command {
	return &cache.Command{
		Name: "CACHE.KEY EXPLAIN", Summary: "say all about one key but its value", Class: cache.Read,
		Help: "Asks the primary that holds the key. Nothing about the key changes by being asked. How likely it is to be evicted is estimated against 200 random keys of the same node: rank 0 goes first, 100 last.",
		Args: []cache.Arg{
			{Name: "key", Help: "the key"},
			{Name: "db", Keyword: "DB", Type: cache.Integer, Optional: true, Default: "0", Min: 0, Max: 65535, Help: "the database, outside a cluster"},
			cache.ArgOn, cache.ArgFormat,
		},
		Needs: "4.0",
		Reply: []cache.Field{
			{Name: "cluster", Type: "string", Help: "where it is"},
			{Name: "node", Type: "string", Help: "the primary that holds it"},
			{Name: "replicas", Type: "array", Help: "and its replicas"},
			{Name: "slot", Type: "int", Help: "in a cluster"},
			{Name: "type", Type: "string", Help: "as TYPE says"},
			{Name: "encoding", Type: "string", Help: "as OBJECT ENCODING says"},
			{Name: "bytes", Type: "int", Help: "memory, as MEMORY USAGE says"},
			{Name: "items", Type: "int", Help: "elements; of a string its length"},
			{Name: "ttl_ms", Type: "int", Help: "time to live; -1: none"},
			{Name: "idle_s", Type: "int", Help: "seconds since it was used; null under an LFU policy"},
			{Name: "freq", Type: "int", Help: "the LFU policy's counter, logarithmic; null under others"},
			{Name: "eviction", Type: "string", Help: "whether and when it would be evicted"},
			{Name: "eviction_rank", Type: "double", Help: "percent of the node's keys that would be evicted before it; null: it would not be"},
		},
		Examples: []string{"CACHE.KEY EXPLAIN user:17", "CACHE.KEY EXPLAIN user:17 DB 3 ON cluster:main"},
		Run:      s.runKeyExplain,
	}
}

func (s *set) runKeyExplain(ctx context.Context, c *cache.Call) (cache.Value, error) {
	v, err := s.Fleet.Look(ctx, c.Select("on"))
	if err != nil {
		return cache.Value{}, err
	}
	key := c.Text("key")
	slot := upstream.Slot(key)
	holders, failed := askable(slices.DeleteFunc(shards(v, c.Select("on"), true), func(sh shard) bool { return !sh.owns(slot) }))
	a := upstream.Ask(ctx, holders, 0, func(ctx context.Context, n *upstream.Node) (*cache.Value, error) {
		return explainKey(ctx, v, n, key, slot, int(c.Int("db")))
	})
	e := reply(c, v).covered(len(a.Got), slices.Concat(failed, a.Failed, v.Lost))
	for _, g := range a.Got {
		if g.Val != nil {
			e.rows = append(e.rows, *g.Val)
		}
	}
	if len(e.rows) == 0 && len(a.Got) > 0 {
		e.notes = append(e.notes, "no node that was asked holds the key: it may have expired, been evicted, or be in another database (DB)")
	}
	return e.value()
}

// explainKey asks one node about a key; nil: it is not there.
func explainKey(ctx context.Context, v *upstream.View, n *upstream.Node, key string, slot, db int) (*cache.Value, error) {
	conn, err := n.Dial(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if db != 0 {
		r, err := conn.Do(ctx, "SELECT", strconv.Itoa(db))
		if err == nil && r.Kind == cache.Err {
			err = errors.New(r.Str)
		}
		if err != nil {
			return nil, err
		}
	}
	// The idle time first: no question after it can change it any more.
	vs, err := conn.Pipe(ctx, words("OBJECT", "IDLETIME", key), words("OBJECT", "FREQ", key), words("TYPE", key), words("OBJECT", "ENCODING", key),
		words("MEMORY", "USAGE", key, "SAMPLES", "5"), words("PTTL", key), words("INFO"))
	if err != nil {
		return nil, err
	}
	idle, freq, typ, enc, mem, ttl, info := vs[0], vs[1], vs[2], vs[3], vs[4], vs[5], upstream.ParseInfo(vs[6].Str)
	if typ.Str == "none" {
		return nil, nil
	}
	items, err := conn.Do(ctx, lengthWords(big{key: key, typ: typ.Str})...)
	if err != nil {
		return nil, err
	}
	var replicas []string
	for _, r := range v.Nodes {
		if r.Role == upstream.Replica && r.Shard == n.Addr {
			replicas = append(replicas, r.Addr)
		}
	}
	row := cache.Dict("cluster", cache.String(n.Cluster), "node", cache.String(n.Addr), "replicas", cache.Strings(replicas...),
		"slot", maybe(n.Mode == "cluster", int64(slot)), "type", cache.String(typ.Str), "encoding", cache.String(enc.Text()),
		"bytes", maybe(mem.Kind == cache.Int, mem.Int), "items", maybe(items.Kind == cache.Int && lengthOf[typ.Str] != "", items.Int), "ttl_ms", cache.Number(ttl.Int),
		"idle_s", maybe(idle.Kind == cache.Int, idle.Int), "freq", maybe(freq.Kind == cache.Int, freq.Int))
	why, rank, err := evictionOf(ctx, conn, info, sampledKey{ttl: ttl.Int, idle: idle.Int, freq: freq.Int})
	if err != nil {
		return nil, err
	}
	row.Add("eviction", cache.String(why))
	if rank >= 0 {
		row.Add("eviction_rank", cache.Real(round(rank)))
	} else {
		row.Add("eviction_rank", cache.Value{})
	}
	return &row, nil
}

// sampledKey is what policies look at.
type sampledKey struct {
	key             string
	ttl, idle, freq int64
	bytes           int64
}

// sampleKeys takes n random keys of the connection's database, and what a policy would look at. Keys that are chosen
// twice count twice, as they do in the server.
func sampleKeys(ctx context.Context, c *upstream.Conn, n int, memory bool) ([]sampledKey, error) {
	for range n {
		c.Queue("RANDOMKEY")
	}
	vs, err := c.Read(ctx, n)
	if err != nil {
		return nil, err
	}
	var keys []sampledKey
	per := 3
	for _, v := range vs {
		if v.IsNull() {
			continue
		}
		keys = append(keys, sampledKey{key: v.Str})
		c.Queue("OBJECT", "IDLETIME", v.Str)
		c.Queue("OBJECT", "FREQ", v.Str)
		c.Queue("PTTL", v.Str)
		if memory {
			c.Queue("MEMORY", "USAGE", v.Str, "SAMPLES", "5")
		}
	}
	if memory {
		per = 4
	}
	if vs, err = c.Read(ctx, per*len(keys)); err != nil {
		return nil, err
	}
	for i := range keys {
		a := vs[per*i:]
		keys[i].idle, keys[i].freq, keys[i].ttl = a[0].Int, a[1].Int, a[2].Int
		if memory {
			keys[i].bytes = a[3].Int
		}
	}
	return keys, nil
}

// sooner says whether the policy would rather evict a than b.
func sooner(policy string, a, b sampledKey) bool {
	switch {
	case strings.HasSuffix(policy, "lru"):
		return a.idle > b.idle
	case strings.HasSuffix(policy, "lfu"):
		return a.freq < b.freq
	case strings.HasSuffix(policy, "ttl"):
		return a.ttl < b.ttl
	}
	return false
}

// candidate says whether a policy may evict k at all.
func candidate(policy string, k sampledKey) bool {
	return strings.HasPrefix(policy, "allkeys-") || strings.HasPrefix(policy, "volatile-") && k.ttl >= 0
}

// evictionOf says when a key would be evicted, and how many percent of the keys before it; -1: it would not be.
func evictionOf(ctx context.Context, c *upstream.Conn, info map[string]string, k sampledKey) (string, float64, error) {
	policy := info["maxmemory_policy"]
	switch {
	case info["maxmemory"] == "0" || info["maxmemory"] == "":
		return "never: the node has no maxmemory", -1, nil
	case policy == "noeviction":
		return "never: the policy is noeviction, and writes fail when memory is full", -1, nil
	case !candidate(policy, k):
		return "never: the policy " + policy + " evicts keys with a time to live only", -1, nil
	case strings.HasSuffix(policy, "random"):
		return "at random, as every other key: the policy is " + policy, 50, nil
	}
	others, err := sampleKeys(ctx, c, 200, false)
	if err != nil {
		return "", -1, err
	}
	before, all := 0, 0
	for _, o := range others {
		if candidate(policy, o) {
			all++
			if sooner(policy, o, k) {
				before++
			}
		}
	}
	if all == 0 {
		return "first: no other key may be evicted under " + policy, 0, nil
	}
	return fmt.Sprintf("by %s, after about %d in 100 keys", policy, 100*before/all), 100 * float64(before) / float64(all), nil
}

func (s *set) evictionExplain() *cache.Command {
	return &cache.Command{
		Name: "CACHE.EVICTION EXPLAIN", Summary: "what is evicted, why, and what other policies would evict", Class: cache.LoadRead,
		Help: "Looks at each primary's memory and counts its evictions for a second. Then it takes random keys and plays the server's own algorithm on them, under the policy that is set and under the others for which the server keeps what they need. The policy is not changed.",
		Args: []cache.Arg{
			{Name: "samples", Keyword: "SAMPLES", Type: cache.Integer, Optional: true, Default: "500", Min: 50, Max: 10_000, Help: "how many random keys of each node"},
			{Name: "sep", Keyword: "SEP", Optional: true, Default: ":", Public: true, Help: "what ends a key's prefix"},
			cache.ArgOn, cache.ArgFormat,
		},
		Guards: []string{"a few questions for each of SAMPLES keys, in pages of 50"}, Needs: "4.0",
		Reply: []cache.Field{
			{Name: "node", Type: "string", Help: "the primary"},
			{Name: "policy", Type: "string", Help: "the policy that is played"},
			{Name: "set", Type: "bool", Help: "whether it is the one that is set"},
			{Name: "pressure_pct", Type: "double", Help: "memory in percent of maxmemory; null: there is none"},
			{Name: "headroom_bytes", Type: "int", Help: "until eviction begins; null: it never does"},
			{Name: "evictions_per_s", Type: "double", Help: "just now"},
			{Name: "evictable_pct", Type: "double", Help: "keys that the policy may evict, in percent"},
			{Name: "victims", Type: "array", Help: "the prefixes it would take its victims from, in percent, at most 5"},
			{Name: "victim_idle_s", Type: "int", Help: "half of the victims were not used for longer; null: the server does not know"},
			{Name: "cluster", Type: "string", Help: "where it is"},
		},
		Examples: []string{"CACHE.EVICTION EXPLAIN", "CACHE.EVICTION EXPLAIN SAMPLES 2000 ON cluster:main"},
		Run:      s.runEvictionExplain,
	}
}

func (s *set) runEvictionExplain(ctx context.Context, c *cache.Call) (cache.Value, error) {
	v, err := s.Fleet.Look(ctx, c.Select("on"))
	if err != nil {
		return cache.Value{}, err
	}
	nodes, failed := askable(shards(v, c.Select("on"), true))
	a := upstream.AskLong(ctx, nodes, time.Minute, func(ctx context.Context, n *upstream.Node) ([]cache.Value, error) {
		release, err := s.Fleet.Heavy.Take(ctx, n, c.Job, nil)
		if err != nil {
			return nil, err
		}
		defer release()
		return explainEviction(ctx, n, int(c.Int("samples")), c.Text("sep"))
	})
	e := reply(c, v).covered(len(a.Got), slices.Concat(failed, a.Failed, v.Lost))
	for _, g := range a.Got {
		e.rows = append(e.rows, g.Val...)
	}
	return e.value()
}

func explainEviction(ctx context.Context, n *upstream.Node, samples int, sep string) ([]cache.Value, error) {
	conn, err := n.Dial(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	look := func() (map[string]string, float64, error) {
		r, err := conn.Do(ctx, "INFO")
		if err != nil {
			return nil, 0, err
		}
		in := upstream.ParseInfo(r.Str)
		ev, _ := strconv.ParseFloat(in["evicted_keys"], 64)
		return in, ev, nil
	}
	_, before, err := look()
	if err != nil {
		return nil, err
	}
	from := time.Now()
	var keys []sampledKey
	for len(keys) < samples {
		some, err := sampleKeys(ctx, conn, min(50, samples-len(keys)), false)
		if err != nil {
			return nil, err
		}
		if len(some) == 0 {
			break
		}
		keys = append(keys, some...)
	}
	t := time.NewTimer(max(0, time.Second-time.Since(from)))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	in, after, err := look()
	if err != nil {
		return nil, err
	}
	rate := (after - before) / time.Since(from).Seconds()
	used, _ := strconv.ParseInt(in["used_memory"], 10, 64)
	limit, _ := strconv.ParseInt(in["maxmemory"], 10, 64)
	r, err := conn.Do(ctx, "CONFIG", "GET", "maxmemory-samples")
	if err != nil {
		return nil, err
	}
	draw, _ := strconv.Atoi(r.Get("maxmemory-samples").Str)
	set := in["maxmemory_policy"]
	policies := []string{set}
	for _, p := range []string{"allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-lfu", "volatile-ttl", "volatile-random"} {
		// A server keeps idle times or counters, as its policy needs them.
		if p == set || strings.HasSuffix(p, "lru") && strings.HasSuffix(set, "lfu") || strings.HasSuffix(p, "lfu") && !strings.HasSuffix(set, "lfu") {
			continue
		}
		policies = append(policies, p)
	}
	var rows []cache.Value
	for _, p := range policies {
		victims, idle, able := playEviction(p, keys, max(1, draw), sep)
		pressure, room := cache.Value{}, cache.Value{}
		if limit > 0 {
			pressure, room = cache.Real(round(100*float64(used)/float64(limit))), cache.Number(max(0, limit-used))
		}
		rows = append(rows, cache.Dict("node", cache.String(n.Addr), "policy", cache.String(p), "set", cache.Truth(p == set),
			"pressure_pct", pressure, "headroom_bytes", room, "evictions_per_s", cache.Real(round(rate)), "evictable_pct", cache.Real(round(able)),
			"victims", cache.Strings(victims...), "victim_idle_s", maybe(idle >= 0 && !strings.HasSuffix(set, "lfu"), idle), "cluster", cache.String(n.Cluster)))
	}
	return rows, nil
}

// playEviction plays a policy: as the server does, it takes so many random keys at a time and evicts the best of them. It
// returns the prefixes of the victims with their part, half of the victims' idle time, and how many keys may be evicted.
func playEviction(policy string, keys []sampledKey, draw int, sep string) (victims []string, idle int64, evictable float64) {
	var may []sampledKey
	for _, k := range keys {
		if candidate(policy, k) {
			may = append(may, k)
		}
	}
	if len(keys) == 0 || len(may) == 0 {
		return nil, -1, 0
	}
	rnd := newRand()
	const rounds = 1000
	by := map[string]int{}
	idles := make([]int64, 0, rounds)
	for range rounds {
		best := may[rnd.IntN(len(may))]
		for range draw - 1 {
			if k := may[rnd.IntN(len(may))]; sooner(policy, k, best) {
				best = k
			}
		}
		by[prefixOf(best.key, sep, 1)]++
		idles = append(idles, best.idle)
	}
	slices.Sort(idles)
	names := make([]string, 0, len(by))
	for n := range by {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b string) int {
		if by[a] != by[b] {
			return by[b] - by[a]
		}
		return strings.Compare(a, b)
	})
	for _, n := range names[:min(5, len(names))] {
		victims = append(victims, fmt.Sprintf("%s* %.0f %%", n, 100*float64(by[n])/rounds))
	}
	return victims, idles[rounds/2], 100 * float64(len(may)) / float64(len(keys))
}
