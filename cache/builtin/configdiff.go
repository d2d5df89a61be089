package builtin

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

func (s *set) configDiff() *cache.Command {
	return &cache.Command{
		Name: "CACHE.CONFIG DIFF", Summary: "find settings in which nodes differ", Class: cache.Read,
		Help: "Compares CONFIG GET * of all nodes with each other, or with one of them. What must differ (addresses, ports, files, whom a replica follows) is left out unless ALL is given. Passwords are shown as hashes. Sizes are compared as bytes.",
		Args: []cache.Arg{
			{Name: "against", Keyword: "AGAINST", Optional: true, Public: true, Help: "HOST:PORT of the node that is right; else the most frequent value is"},
			{Name: "match", Keyword: "MATCH", Type: cache.Pattern, Optional: true, Help: "only parameters that match"},
			{Name: "all", Keyword: "ALL", Type: cache.Flag, Optional: true, Help: "also what must differ"},
			cache.ArgOn, cache.ArgFormat,
		},
		Needs: "CONFIG GET",
		Reply: []cache.Field{
			{Name: "param", Type: "string", Help: "the parameter"},
			{Name: "value", Type: "string", Help: "the value that most have, or the one it is compared with"},
			{Name: "odd_value", Type: "string", Help: "another value; (none): the server does not have the parameter"},
			{Name: "odd_nodes", Type: "array", Help: "who has that one"},
			{Name: "of", Type: "int", Help: "how many nodes were compared"},
		},
		Examples: []string{"CACHE.CONFIG DIFF", "CACHE.CONFIG DIFF AGAINST 10.0.0.7:6379 ON cluster:main", "CACHE.CONFIG DIFF MATCH maxmemory*"},
		Run:      s.runConfigDiff,
	}
}

// ownSettings are different on every node by their nature.
var ownSettings = []string{
	"port", "tls-port", "bind", "bind-source-addr", "unixsocket", "dir", "logfile", "pidfile", "dbfilename", "aclfile", "replicaof", "slaveof",
	"cluster-port", "cluster-announce-*", "cluster-config-file", "replica-announce-*", "slave-announce-*", "syslog-ident", "server_cpulist", "proc-title-template",
	"availability-zone", "appenddirname", "appendfilename", "server-cpulist", "cluster-slot-stats-enabled-internal",
}

// secretSettings are shown as hashes.
var secretSettings = []string{"requirepass", "masterauth", "primaryauth", "tls-key-file-pass", "tls-client-key-file-pass", "masteruser", "primaryuser"}

func anyMatch(patterns []string, s string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return Match(p, s) })
}

const noSetting = "(none)"

func (s *set) runConfigDiff(ctx context.Context, c *cache.Call) (cache.Value, error) {
	v, err := s.Fleet.Look(ctx, c.Select("on"))
	if err != nil {
		return cache.Value{}, err
	}
	a := upstream.Ask(ctx, v.Nodes, 0, func(ctx context.Context, n *upstream.Node) (map[string]string, error) {
		if n.Down != "" {
			return nil, errors.New(n.Down)
		}
		r, err := n.Do(ctx, "CONFIG", "GET", "*")
		if err != nil {
			return nil, err
		}
		m := map[string]string{}
		for i := 0; i+1 < len(r.Items); i += 2 {
			m[r.Items[i].Str] = r.Items[i+1].Str
		}
		return m, nil
	})
	e := reply(c, v).covered(len(a.Got), append(a.Failed, v.Lost...))
	right := c.Text("against")
	if right != "" && !slices.ContainsFunc(a.Got, func(g upstream.Got[map[string]string]) bool { return g.Node.Addr == right }) {
		return cache.Value{}, cache.Errorf(cache.CodeErr, "CACHE.NODES lists the nodes", "AGAINST: no node %s answered", right)
	}
	names := map[string]bool{}
	for _, g := range a.Got {
		for name := range g.Val {
			if (c.Flag("all") || !anyMatch(ownSettings, name)) && (!c.Given("match") || Match(c.Text("match"), name)) {
				names[name] = true
			}
		}
	}
	for _, name := range sortedNames(names) {
		by := map[string][]string{}
		for _, g := range a.Got {
			val, ok := g.Val[name]
			switch {
			case !ok:
				val = noSetting
			case slices.Contains(secretSettings, name) && val != "":
				val = cache.HashArg(val)
			}
			by[val] = append(by[val], g.Node.Addr)
			if g.Node.Addr == right {
				by[val] = append([]string{right}, by[val][:len(by[val])-1]...)
			}
		}
		if len(by) < 2 {
			continue
		}
		values := make([]string, 0, len(by))
		for val := range by {
			values = append(values, val)
		}
		slices.SortFunc(values, func(a, b string) int {
			if ra, rb := slices.Contains(by[a], right), slices.Contains(by[b], right); ra != rb {
				if ra {
					return -1
				}
				return 1
			}
			if d := len(by[b]) - len(by[a]); d != 0 {
				return d
			}
			return strings.Compare(a, b)
		})
		for _, odd := range values[1:] {
			nodes := by[odd]
			slices.Sort(nodes)
			e.rows = append(e.rows, cache.Dict("param", cache.String(name), "value", cache.String(values[0]), "odd_value", cache.String(odd),
				"odd_nodes", cache.Strings(nodes...), "of", cache.Number(len(a.Got))))
		}
	}
	if len(a.Got) == 1 {
		e.notes = append(e.notes, "one node has nothing to differ from")
	}
	return e.value()
}

func sortedNames(m map[string]bool) []string {
	list := make([]string, 0, len(m))
	for k := range m {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}
