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

func (s *set) slow() *cache.Command {
	return &cache.Command{
		Name: "CACHE.SLOW", Summary: "add the fleet's slow logs up, by what commands have in common", Class: cache.Read,
		Help: "Reads the slow log of every node (or, in Valkey, the logs of large requests and replies) and adds up what looks alike: the command and the prefixes of its keys. It never resets a log. " +
			"Values are not shown, and keys only by their prefix and a hash.",
		Args: []cache.Arg{
			{Name: "since", Keyword: "SINCE", Type: cache.Duration, Optional: true, Min: 1, Max: 31_536_000, Help: "only what is not older"},
			{Name: "kind", Keyword: "KIND", Optional: true, Default: "slow", Enum: []string{"slow", "large-request", "large-reply"}, Help: "which log"},
			cache.ArgTop, cache.ArgOn, cache.ArgFormat,
		},
		Guards: []string{"at most 5,000 entries of a node, 500 at a time"},
		Needs:  "2.2.12; large-request and large-reply: COMMANDLOG (Valkey 8.1)",
		Reply: []cache.Field{
			{Name: "fingerprint", Type: "string", Help: "the command and the prefixes of its keys"},
			{Name: "n", Type: "int", Help: "how many entries"},
			{Name: "p50", Type: "int", Help: "half of them took this or less: microseconds, or bytes of the large ones"},
			{Name: "p99", Type: "int", Help: "and 99 in 100"},
			{Name: "max", Type: "int", Help: "and all"},
			{Name: "unit", Type: "string", Help: "us or bytes"},
			{Name: "nodes", Type: "int", Help: "on how many nodes"},
			{Name: "clients", Type: "array", Help: "hosts and names of clients, at most 5"},
			{Name: "last", Type: "string", Help: "when the newest was"},
			{Name: "example", Type: "string", Help: "one call, with hashes for keys and ? for values"},
		},
		Examples: []string{"CACHE.SLOW", "CACHE.SLOW SINCE 1h TOP 5", "CACHE.SLOW KIND large-reply"},
		Run:      s.runSlow,
	}
}

// slowEntry is one entry of a log.
type slowEntry struct {
	at     time.Time
	figure int64
	words  []string
	client string // host and name
	node   string
}

const (
	slowPage = 500
	slowMost = 5000
)

func (s *set) runSlow(ctx context.Context, c *cache.Call) (cache.Value, error) {
	v, err := s.Fleet.Look(ctx, c.Select("on"))
	if err != nil {
		return cache.Value{}, err
	}
	var since time.Time
	if d := c.Duration("since"); d > 0 {
		since = time.Now().Add(-d)
	}
	kind := c.Text("kind")
	type log struct {
		entries []slowEntry
		table   upstream.CommandTable
		cut     bool
	}
	a := upstream.Ask(ctx, v.Nodes, 0, func(ctx context.Context, n *upstream.Node) (log, error) {
		if n.Down != "" {
			return log{}, errors.New(n.Down)
		}
		caps, err := n.Caps(ctx)
		if err != nil {
			return log{}, err
		}
		if kind != "slow" && !caps[upstream.CapCommandLog] {
			return log{}, errors.New("it has no COMMANDLOG; KIND slow works")
		}
		table, err := n.Commands(ctx)
		if err != nil {
			return log{}, err
		}
		l := log{table: table}
		for want := slowPage; ; want *= 2 {
			cmd := words("SLOWLOG", "GET", strconv.Itoa(min(want, slowMost)))
			if caps[upstream.CapCommandLog] {
				cmd = words("COMMANDLOG", "GET", strconv.Itoa(min(want, slowMost)), kind)
			}
			v, err := n.Do(ctx, cmd...)
			if err != nil {
				return log{}, err
			}
			l.entries = readSlow(v, n.Addr)
			whole := len(l.entries) < want
			if whole || want >= slowMost || !since.IsZero() && l.entries[len(l.entries)-1].at.Before(since) {
				l.cut = !whole && want >= slowMost
				return l, nil
			}
		}
	})
	e := reply(c, v).covered(len(a.Got), append(a.Failed, v.Lost...))
	groups := map[string]*slowGroup{}
	for _, g := range a.Got {
		if g.Val.cut {
			e.notes = append(e.notes, fmt.Sprintf("%s has more than %d entries: older ones were left out", g.Node, slowMost))
		}
		for _, x := range g.Val.entries {
			if x.at.Before(since) {
				continue
			}
			print, example := fingerprint(g.Val.table, x.words)
			grp := groups[print]
			if grp == nil {
				grp = &slowGroup{print: print, nodes: map[string]bool{}, clients: map[string]bool{}}
				groups[print] = grp
			}
			grp.figures = append(grp.figures, x.figure)
			grp.total += x.figure
			grp.nodes[x.node] = true
			grp.clients[x.client] = true
			if x.at.After(grp.last) {
				grp.last, grp.example = x.at, example
			}
		}
	}
	list := make([]*slowGroup, 0, len(groups))
	for _, g := range groups {
		slices.Sort(g.figures)
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b *slowGroup) int {
		if a.total != b.total {
			return int(min(1, max(-1, b.total-a.total)))
		}
		return strings.Compare(a.print, b.print)
	})
	unit := "us"
	if kind != "slow" {
		unit = "bytes"
	}
	for _, g := range list[:min(len(list), int(c.Int("top")))] {
		e.rows = append(e.rows, cache.Dict("fingerprint", cache.String(g.print), "n", cache.Number(len(g.figures)),
			"p50", cache.Number(at(g.figures, 0.5)), "p99", cache.Number(at(g.figures, 0.99)), "max", cache.Number(g.figures[len(g.figures)-1]),
			"unit", cache.String(unit), "nodes", cache.Number(len(g.nodes)), "clients", cache.Strings(some(g.clients, 5)...),
			"last", cache.String(g.last.UTC().Format(time.RFC3339)), "example", cache.String(g.example)))
	}
	return e.value()
}

type slowGroup struct {
	print, example string
	figures        []int64
	total          int64
	nodes, clients map[string]bool
	last           time.Time
}

// at is the q-th part of sorted figures.
func at(sorted []int64, q float64) int64 {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func some(m map[string]bool, n int) []string {
	list := make([]string, 0, len(m))
	for k := range m {
		if k != "" {
			list = append(list, k)
		}
	}
	slices.Sort(list)
	return list[:min(n, len(list))]
}

// readSlow reads SLOWLOG GET and COMMANDLOG GET: id, time, figure, words, client, client's name.
func readSlow(v cache.Value, node string) []slowEntry {
	var out []slowEntry
	for _, x := range v.Items {
		if len(x.Items) < 4 {
			continue
		}
		e := slowEntry{at: time.Unix(x.Items[1].Int, 0), figure: x.Items[2].Int, node: node}
		for _, w := range x.Items[3].Items {
			e.words = append(e.words, w.Str)
		}
		if len(x.Items) >= 6 {
			e.client = strings.TrimSpace(hostOf(x.Items[4].Str) + " " + x.Items[5].Str)
		}
		out = append(out, e)
	}
	return out
}

// fingerprint is what calls that look alike have in common, and the call itself without what customers put into it.
func fingerprint(t upstream.CommandTable, call []string) (print, example string) {
	if len(call) == 0 {
		return "(empty)", ""
	}
	keys, _ := t.Keys(call)
	name := strings.ToUpper(call[0])
	p, e := []string{name}, []string{name}
	first := 1
	if _, container := t[strings.ToLower(call[0])+"|"+strings.ToLower(at1(call))]; container {
		p, e, first = append(p, strings.ToUpper(call[1])), append(e, strings.ToUpper(call[1])), 2
	}
	shapes := map[string]bool{}
	for _, w := range call[first:] {
		if slices.Contains(keys, w) {
			shape := shapeOf(w)
			if !shapes[shape] && len(shapes) < 3 {
				shapes[shape] = true
				p = append(p, shape)
			}
			e = append(e, cache.HashArg(w))
			continue
		}
		e = append(e, "?")
	}
	if len(e) > 8 {
		e = append(e[:8], fmt.Sprintf("… %d more", len(call)-8))
	}
	return strings.Join(p, " "), strings.Join(e, " ")
}

func at1(call []string) string {
	if len(call) > 1 {
		return call[1]
	}
	return ""
}

// shapeOf is a key's prefixes without what tells it from others: user:17:cart → user:*:cart.
func shapeOf(key string) string {
	parts := strings.Split(key, ":")
	if len(parts) > 6 {
		parts = append(parts[:6], "*")
	}
	for i, p := range parts {
		if len(parts) == 1 || strings.ContainsAny(p, "0123456789{}") || len(p) > 32 {
			parts[i] = "*"
		}
	}
	return strings.Join(parts, ":")
}
