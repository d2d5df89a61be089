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

// clientsMost is beyond how many connections CLIENT LIST is not asked for: it is one long call in the server.
const clientsMost = 20_000

func (s *set) clients() *cache.Command {
	return &cache.Command{
		Name: "CACHE.CLIENTS", Summary: "who is connected, by host, library, user or name", Class: cache.Read,
		Help: "Reads CLIENT LIST of every node twice, FOR apart where servers count what each connection sends (Redis 8.6, Valkey 8.1), and adds the connections up. Replication and the gateway's own connections are left out.",
		Args: []cache.Arg{
			{Name: "by", Keyword: "BY", Optional: true, Default: "host", Enum: []string{"host", "lib", "user", "name"}, Help: "what to add up by"},
			{Name: "for", Keyword: "FOR", Type: cache.Duration, Optional: true, Default: "1", Min: 0.1, Max: 60, Help: "between the two looks"},
			cache.ArgTop, cache.ArgOn, cache.ArgFormat,
		},
		Guards: []string{fmt.Sprintf("a node with more than %d connections is left alone: its list would be one long call", clientsMost)},
		Needs:  "rates: Redis 8.6, Valkey 8.1",
		Reply: []cache.Field{
			{Name: "group", Type: "string", Help: "the host, library, user or name"},
			{Name: "conns", Type: "int", Help: "open connections"},
			{Name: "nodes", Type: "int", Help: "to how many nodes"},
			{Name: "cmds_per_s", Type: "double", Help: "commands a second; null: servers do not count"},
			{Name: "in_bytes", Type: "int", Help: "bytes a second to the servers; null: not counted"},
			{Name: "out_bytes", Type: "int", Help: "and from them"},
			{Name: "omem_bytes", Type: "int", Help: "memory of replies that wait to be read"},
			{Name: "qbuf_bytes", Type: "int", Help: "memory of requests that are not whole yet"},
			{Name: "idle_s", Type: "int", Help: "the least time since one of them sent something"},
		},
		Examples: []string{"CACHE.CLIENTS", "CACHE.CLIENTS BY lib TOP 5 ON role:primary"},
		Run:      s.runClients,
	}
}

// clientLine is one line of CLIENT LIST.
type clientLine map[string]string

func (l clientLine) num(k string) int64 {
	n, _ := strconv.ParseInt(l[k], 10, 64)
	return n
}

func clientList(ctx context.Context, n *upstream.Node) (map[string]clientLine, error) {
	v, err := n.Do(ctx, "INFO", "clients")
	if err != nil {
		return nil, err
	}
	if many, _ := strconv.Atoi(upstream.ParseInfo(v.Str)["connected_clients"]); many > clientsMost {
		return nil, fmt.Errorf("it has %d connections, and a list of more than %d is one long call", many, clientsMost)
	}
	if v, err = n.Do(ctx, "CLIENT", "LIST"); err != nil {
		return nil, err
	}
	out := map[string]clientLine{}
	for line := range strings.SplitSeq(v.Str, "\n") {
		l := clientLine{}
		for f := range strings.SplitSeq(line, " ") {
			if k, x, ok := strings.Cut(f, "="); ok {
				l[k] = x
			}
		}
		if l["id"] == "" || strings.ContainsAny(l["flags"], "SM") || l["name"] == "kernwave-cache" {
			continue
		}
		out[l["id"]] = l
	}
	return out, nil
}

func (s *set) runClients(ctx context.Context, c *cache.Call) (cache.Value, error) {
	v, err := s.Fleet.Look(ctx, c.Select("on"))
	if err != nil {
		return cache.Value{}, err
	}
	type seen struct {
		before, now map[string]clientLine
		took        float64
		rates       bool
	}
	d := c.Duration("for")
	a := upstream.AskLong(ctx, v.Nodes, d, func(ctx context.Context, n *upstream.Node) (seen, error) {
		if n.Down != "" {
			return seen{}, errors.New(n.Down)
		}
		caps, err := n.Caps(ctx)
		if err != nil {
			return seen{}, err
		}
		x := seen{rates: caps[upstream.CapClientNet]}
		from := time.Now()
		if x.rates {
			if x.before, err = clientList(ctx, n); err != nil {
				return seen{}, err
			}
			t := time.NewTimer(d)
			defer t.Stop()
			select {
			case <-t.C:
			case <-ctx.Done():
				return seen{}, context.Cause(ctx)
			}
		}
		x.now, err = clientList(ctx, n)
		x.took = time.Since(from).Seconds()
		return x, err
	})
	type group struct {
		name             string
		conns            int
		nodes            map[string]bool
		cmds, in, out    float64
		omem, qbuf, idle int64
		counted          bool
	}
	groups := map[string]*group{}
	for _, g := range a.Got {
		for id, l := range g.Val.now {
			name := map[string]string{"host": hostOf(l["addr"]), "user": l["user"], "name": l["name"], "lib": strings.TrimSpace(l["lib-name"] + " " + l["lib-ver"])}[c.Text("by")]
			if name == "" {
				name = "(none)"
			}
			x := groups[name]
			if x == nil {
				x = &group{name: name, nodes: map[string]bool{}, counted: true, idle: l.num("idle")}
				groups[name] = x
			}
			x.conns++
			x.nodes[g.Node.Addr] = true
			x.omem += l.num("omem")
			x.qbuf += l.num("qbuf")
			x.idle = min(x.idle, l.num("idle"))
			x.counted = x.counted && g.Val.rates
			if g.Val.rates { // a connection that was opened meanwhile sent all it sent in that time
				b := g.Val.before[id]
				x.cmds += float64(l.num("tot-cmds")-b.num("tot-cmds")) / g.Val.took
				x.in += float64(l.num("tot-net-in")-b.num("tot-net-in")) / g.Val.took
				x.out += float64(l.num("tot-net-out")-b.num("tot-net-out")) / g.Val.took
			}
		}
	}
	list := make([]*group, 0, len(groups))
	for _, g := range groups {
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b *group) int {
		if a.cmds != b.cmds {
			if a.cmds > b.cmds {
				return -1
			}
			return 1
		}
		if a.conns != b.conns {
			return b.conns - a.conns
		}
		return strings.Compare(a.name, b.name)
	})
	e := reply(c, v).covered(len(a.Got), append(a.Failed, v.Lost...))
	for _, g := range list[:min(len(list), int(c.Int("top")))] {
		cmds := cache.Value{}
		if g.counted {
			cmds = cache.Real(round(g.cmds))
		}
		e.rows = append(e.rows, cache.Dict("group", cache.String(g.name), "conns", cache.Number(g.conns), "nodes", cache.Number(len(g.nodes)),
			"cmds_per_s", cmds, "in_bytes", maybe(g.counted, int64(g.in)), "out_bytes", maybe(g.counted, int64(g.out)),
			"omem_bytes", cache.Number(g.omem), "qbuf_bytes", cache.Number(g.qbuf), "idle_s", cache.Number(g.idle)))
	}
	return e.value()
}
