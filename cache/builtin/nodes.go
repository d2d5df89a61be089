package builtin

import (
	"context"
	"fmt"
	"strings"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

func (s *set) nodes() *cache.Command {
	return &cache.Command{
		Name: "CACHE.NODES", Summary: "list the nodes: topology, roles, lag and versions", Class: cache.Read,
		Help:  "Looks at every cluster anew, from its seeds and from every node that is known. A node that does not answer is listed as down, with the reason.",
		Args:  []cache.Arg{cache.ArgOn, cache.ArgFormat},
		Needs: "2.8",
		Reply: []cache.Field{
			{Name: "cluster", Type: "string", Help: "the name of its cluster"},
			{Name: "node", Type: "string", Help: "HOST:PORT"},
			{Name: "host", Type: "string", Help: "the machine"},
			{Name: "mode", Type: "string", Help: "standalone, sentinel or cluster"},
			{Name: "role", Type: "string", Help: "primary or replica; empty: not known"},
			{Name: "of", Type: "string", Help: "a replica's primary"},
			{Name: "slots", Type: "int", Help: "how many slots it serves; null outside a cluster"},
			{Name: "lag_bytes", Type: "int", Help: "how far a replica is behind in the stream; null: not known"},
			{Name: "server", Type: "string", Help: "redis or valkey, and the version"},
			{Name: "state", Type: "string", Help: "up, loading, link down, or down and why"},
		},
		Examples: []string{"CACHE.NODES", "CACHE.NODES ON cluster:main,role:replica"},
		Run: func(ctx context.Context, c *cache.Call) (cache.Value, error) {
			v, err := s.Fleet.Look(ctx, c.Select("on"))
			if err != nil {
				return cache.Value{}, err
			}
			e := reply(c, v).covered(len(v.Up()), v.Failed())
			for _, n := range v.Nodes {
				e.rows = append(e.rows, nodeRow(n))
			}
			return e.value()
		},
	}
}

func nodeRow(n *upstream.Node) cache.Value {
	slots := 0
	for _, r := range n.Slots {
		slots += r[1] - r[0] + 1
	}
	state := "up"
	switch {
	case n.Down != "":
		state = "down: " + n.Down
	case n.Loading:
		state = "loading"
	case n.Role == upstream.Replica && !n.LinkUp:
		state = "link down"
	}
	return cache.Dict(
		"cluster", cache.String(n.Cluster), "node", cache.String(n.Addr), "host", cache.String(n.Host),
		"mode", cache.String(n.Mode), "role", cache.String(n.Role), "of", cache.String(n.Follows),
		"slots", maybe(n.Mode == "cluster", int64(slots)), "lag_bytes", maybe(n.LagBytes >= 0, n.LagBytes),
		"server", cache.String(strings.TrimSpace(n.Flavour+" "+n.Version)), "state", cache.String(state))
}

func (s *set) caps() *cache.Command {
	return &cache.Command{
		Name: "CACHE.CAPS", Summary: "say what each server can do, asked of the servers themselves", Class: cache.Read,
		Help: "What a server can do decides how the other commands work on it. It is asked with COMMAND INFO and harmless questions, never guessed from the version, and kept until the server restarts.",
		Args: []cache.Arg{cache.ArgOn, cache.ArgFormat}, Needs: "2.8.13",
		Reply: []cache.Field{
			{Name: "cluster", Type: "string", Help: "the name of its cluster"},
			{Name: "node", Type: "string", Help: "HOST:PORT"},
			{Name: "server", Type: "string", Help: "redis or valkey, and the version"},
			{Name: "caps", Type: "array", Help: "the capabilities it has"},
			{Name: "lacks", Type: "array", Help: "those it does not have"},
		},
		Examples: []string{"CACHE.CAPS", "CACHE.CAPS ON node:10.0.0.7:6379"},
		Run: func(ctx context.Context, c *cache.Call) (cache.Value, error) {
			v, err := s.Fleet.Look(ctx, c.Select("on"))
			if err != nil {
				return cache.Value{}, err
			}
			a := upstream.Ask(ctx, v.Nodes, 0, func(ctx context.Context, n *upstream.Node) (upstream.Caps, error) {
				if n.Down != "" {
					return nil, fmt.Errorf("%s", n.Down)
				}
				return n.Caps(ctx)
			})
			e := reply(c, v).covered(len(a.Got), append(a.Failed, v.Lost...))
			for _, g := range a.Got {
				var lacks []string
				for _, name := range upstream.AllCaps() {
					if !g.Val[name] {
						lacks = append(lacks, name)
					}
				}
				e.rows = append(e.rows, cache.Dict("cluster", cache.String(g.Node.Cluster), "node", cache.String(g.Node.Addr),
					"server", cache.String(g.Node.Flavour+" "+g.Node.Version),
					"caps", cache.Strings(g.Val.Names()...), "lacks", cache.Strings(lacks...)))
			}
			return e.value()
		},
	}
}
