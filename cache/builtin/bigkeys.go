package builtin

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

func (s *set) bigkeys() *cache.Command {
	return &cache.Command{
		Name: "CACHE.BIGKEYS", Summary: "find the largest keys of the fleet", Class: cache.LoadRead,
		Help: "Walks over all keys of the chosen nodes, one node for each shard, and keeps the largest. Sizes are the server's own (MEMORY USAGE, with 5 samples of large aggregates). " +
			"The keys are not touched: neither their idle times nor their access counters change where the server can promise that.\nBY items counts elements, and bytes of strings.",
		Args: []cache.Arg{
			cache.ArgTop,
			{Name: "by", Keyword: "BY", Optional: true, Default: "mem", Enum: []string{"mem", "items"}, Help: "what makes a key large"},
			{Name: "type", Keyword: "TYPE", Optional: true, Enum: []string{"string", "list", "set", "zset", "hash", "stream"}, Help: "only keys of this type"},
			{Name: "match", Keyword: "MATCH", Type: cache.Pattern, Optional: true, Help: "only keys that match; all are walked over all the same"},
			cache.ArgOn, argSlack, argDuty, cache.ArgBudget, cache.ArgAsync, cache.ArgFormat,
		},
		Guards: walkGuards, Needs: "4.0",
		Reply: []cache.Field{
			{Name: "key", Type: "string", Help: "its name"},
			{Name: "type", Type: "string", Help: "as TYPE says"},
			{Name: "bytes", Type: "int", Help: "memory, as MEMORY USAGE says"},
			{Name: "items", Type: "int", Help: "elements; of a string its length in bytes"},
			{Name: "ttl_ms", Type: "int", Help: "time to live; -1: none"},
			{Name: "encoding", Type: "string", Help: "as OBJECT ENCODING says"},
			{Name: "cluster", Type: "string", Help: "where it is"},
			{Name: "node", Type: "string", Help: "the node that was asked"},
			{Name: "db", Type: "int", Help: "the database it is in"},
		},
		Examples: []string{"CACHE.BIGKEYS", "CACHE.BIGKEYS TOP 5 BY items TYPE hash ON cluster:main BUDGET 60"},
		Run:      s.runBigkeys,
	}
}

// lengthOf is the command that counts a type's elements.
var lengthOf = map[string]string{"string": "STRLEN", "list": "LLEN", "set": "SCARD", "zset": "ZCARD", "hash": "HLEN", "stream": "XLEN"}

// big is a candidate.
type big struct {
	key, typ, enc    string
	bytes, items, pt int64
	node             *upstream.Node
	db               int
}

// top keeps the n largest by size, then by name so that equal runs give equal answers.
type top struct {
	mu   sync.Mutex
	n    int
	size func(big) int64
	list []big
}

func (t *top) less(a, b big) int {
	if d := t.size(b) - t.size(a); d != 0 {
		if d > 0 {
			return 1
		}
		return -1
	}
	return strings.Compare(a.key, b.key)
}

func (t *top) put(b big) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.list) == t.n && t.less(b, t.list[t.n-1]) >= 0 {
		return
	}
	i, _ := slices.BinarySearchFunc(t.list, b, t.less)
	// A key may be seen twice while its table is resized.
	for _, near := range []int{i - 1, i} {
		if near >= 0 && near < len(t.list) && t.list[near].key == b.key && t.list[near].db == b.db && t.list[near].node == b.node {
			return
		}
	}
	t.list = slices.Insert(t.list, i, b)
	if len(t.list) > t.n {
		t.list = t.list[:t.n]
	}
}

func (s *set) runBigkeys(ctx context.Context, c *cache.Call) (cache.Value, error) {
	v, err := s.Fleet.Look(ctx, c.Select("on"))
	if err != nil {
		return cache.Value{}, err
	}
	byItems := c.Text("by") == "items"
	want := c.Text("type")
	t := &top{n: int(c.Int("top")), size: func(b big) int64 { return b.bytes }}
	if byItems {
		t.size = func(b big) int64 { return b.items }
	}
	w, err := s.walk(ctx, c, shards(v, c.Select("on"), false), func(ctx context.Context, n *upstream.Node, p *upstream.Pacer) (upstream.Scanned, error) {
		caps, err := n.Caps(ctx)
		if err != nil {
			return upstream.Scanned{}, err
		}
		if !byItems && !caps[upstream.CapMemoryUsage] {
			return upstream.Scanned{}, &upstream.Failure{Node: n.Addr, Err: fmt.Errorf("it has no MEMORY USAGE; BY items works")}
		}
		local := &top{n: t.n, size: t.size}
		scan := upstream.Scan{Pacer: p, Ask: [][]string{{"MEMORY", "USAGE"}, {"TYPE"}}, Tail: [][]string{{"SAMPLES", "5"}}}
		if !byItems && want == "" {
			scan.Ask = scan.Ask[:1]
		} else if byItems {
			scan.Ask = [][]string{{"TYPE"}}
			scan.Tail = nil
		}
		var counter *upstream.Conn // lengths need the type first: a second round for each page
		if byItems {
			if counter, err = n.Dial(ctx); err != nil {
				return upstream.Scanned{}, err
			}
			defer counter.Close()
		}
		var cerr error
		at := 0
		scan.Page = func(db int, keys []string, answers []cache.Value) bool {
			per := len(scan.Ask)
			var cand []big
			for i, k := range keys {
				b := big{key: k, node: n, db: db, items: -1, bytes: -1, pt: -3}
				a := answers[i*per : (i+1)*per]
				if per == 2 || byItems {
					b.typ = a[per-1].Str
				}
				if b.typ == "none" || !byItems && a[0].IsNull() || want != "" && b.typ != want || c.Given("match") && !Match(c.Text("match"), k) {
					continue
				}
				if !byItems {
					b.bytes = a[0].Int
				}
				cand = append(cand, b)
			}
			if byItems && len(cand) > 0 {
				if at != db {
					if _, cerr = counter.Do(ctx, "SELECT", strconv.Itoa(db)); cerr != nil {
						return false
					}
					at = db
				}
				for _, b := range cand {
					counter.Queue(lengthWords(b)...)
				}
				var vs []cache.Value
				if vs, cerr = counter.Read(ctx, len(cand)); cerr != nil {
					return false
				}
				for i := range cand {
					cand[i].items = vs[i].Int
				}
			}
			for _, b := range cand {
				local.put(b)
			}
			return true
		}
		got, err := scan.Run(ctx, n)
		if err == nil {
			err = cerr
		}
		for _, b := range local.list {
			t.put(b)
		}
		return got, err
	})
	if err != nil {
		return cache.Value{}, err
	}
	e := w.put(reply(c, v))
	e.failed = append(e.failed, v.Lost...)
	e.rows = s.describe(ctx, t.list)
	return e.value()
}

// lengthWords asks for the number of elements; of a type that no command counts, for nothing.
func lengthWords(b big) []string {
	if cmd := lengthOf[b.typ]; cmd != "" {
		return []string{cmd, b.key}
	}
	return []string{"EXISTS", b.key}
}

// describe asks for what was not needed to rank the keys: a few dozen questions, after thousands.
func (s *set) describe(ctx context.Context, list []big) []cache.Value {
	byNode := map[*upstream.Node][]int{}
	for i, b := range list {
		byNode[b.node] = append(byNode[b.node], i)
	}
	nodes := make([]*upstream.Node, 0, len(byNode))
	for n := range byNode {
		nodes = append(nodes, n)
	}
	upstream.Ask(ctx, nodes, 0, func(ctx context.Context, n *upstream.Node) (struct{}, error) {
		c, err := n.Dial(ctx)
		if err != nil {
			return struct{}{}, err
		}
		defer c.Close()
		for _, i := range byNode[n] {
			b := &list[i]
			vs, err := c.Pipe(ctx, words("SELECT", strconv.Itoa(b.db)), words("TYPE", b.key), words("OBJECT", "ENCODING", b.key), words("PTTL", b.key), words("MEMORY", "USAGE", b.key, "SAMPLES", "5"))
			if err != nil {
				return struct{}{}, err
			}
			if vs[1].Str == "none" {
				continue // gone meanwhile: what was seen stays in the answer
			}
			b.typ, b.enc, b.pt = vs[1].Str, vs[2].Text(), vs[3].Int
			if b.bytes < 0 && vs[4].Kind == cache.Int {
				b.bytes = vs[4].Int
			}
			if b.items < 0 {
				if v, err := c.Do(ctx, lengthWords(*b)...); err == nil && v.Kind == cache.Int && lengthOf[b.typ] != "" {
					b.items = v.Int
				}
			}
		}
		return struct{}{}, nil
	})
	rows := make([]cache.Value, len(list))
	for i, b := range list {
		rows[i] = cache.Dict("key", cache.String(b.key), "type", cache.String(b.typ), "bytes", maybe(b.bytes >= 0, b.bytes),
			"items", maybe(b.items >= 0, b.items), "ttl_ms", maybe(b.pt >= -1, b.pt), "encoding", cache.String(b.enc),
			"cluster", cache.String(b.node.Cluster), "node", cache.String(b.node.Addr), "db", cache.Number(b.db))
	}
	return rows
}
