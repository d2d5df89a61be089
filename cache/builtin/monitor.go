package builtin

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

func (s *set) monitor() *cache.Command {
	return &cache.Command{
		Name: "CACHE.MONITOR", Summary: "watch what is sent to primaries, bounded, without the values", Class: cache.LoadRead,
		Help: "Runs MONITOR on one node of each shard for a short time, on a connection that a second one kills, and shows the calls. Keys are shown as their prefix and a hash, all other words as hashes: the same word has the same hash, so calls can be told apart and compared, and no value can be read.",
		Args: []cache.Arg{
			{Name: "for", Keyword: "FOR", Type: cache.Duration, Default: "", Min: 0.01, Max: 10, Help: "how long to look"},
			{Name: "maxlines", Keyword: "MAXLINES", Type: cache.Integer, Optional: true, Default: "100", Min: 1, Max: 10_000, Help: "the most rows"},
			{Name: "match", Keyword: "MATCH", Type: cache.Pattern, Optional: true, Help: "only calls with a key that matches"},
			{Name: "cmd", Keyword: "CMD", Optional: true, Public: true, Help: "only this command"},
			{Name: "maxbytes", Keyword: "MAXBYTES", Type: cache.Size, Optional: true, Default: "16mb", Min: 1024, Max: 1 << 30, Help: "the most that one node may send; when more is expected it is not begun"},
			cache.ArgOn, argSlack, cache.ArgFormat,
		},
		Guards: []string{
			"expected bytes beyond MAXBYTES are refused before it begins",
			"the connection is killed by a second one at its end, so that none is forgotten",
			"one at a time on one machine and on one shard",
		},
		Needs: "any",
		Reply: []cache.Field{
			{Name: "at", Type: "string", Help: "seconds since 1970, as the server says"},
			{Name: "node", Type: "string", Help: "who was asked"},
			{Name: "client", Type: "string", Help: "address, or lua"},
			{Name: "db", Type: "int", Help: "the database"},
			{Name: "call", Type: "string", Help: "the command, keys as prefix and hash, the rest as hashes"},
		},
		Examples: []string{"CACHE.MONITOR FOR 0.5", "CACHE.MONITOR FOR 2s MATCH cart:* CMD set MAXLINES 20 ON role:primary"},
		Run:      s.runMonitor,
	}
}

func (s *set) runMonitor(ctx context.Context, c *cache.Call) (cache.Value, error) {
	v, err := s.Fleet.Look(ctx, c.Select("on"))
	if err != nil {
		return cache.Value{}, err
	}
	nodes, failed := askable(shards(v, c.Select("on"), true))
	d, most, lines := c.Duration("for"), c.Int("maxbytes"), int(c.Int("maxlines"))
	var mu sync.Mutex
	var rows []cache.Value
	dropped := 0
	a := upstream.AskLong(ctx, nodes, time.Duration(1+len(nodes))*2*d+10*upstream.DefaultTimeout, func(ctx context.Context, n *upstream.Node) (int64, error) {
		release, err := s.Fleet.Heavy.Take(ctx, n, c.Job, nil)
		if err != nil {
			return 0, err
		}
		defer release()
		table, err := n.Commands(ctx)
		if err != nil {
			return 0, err
		}
		r, err := n.Do(ctx, "INFO", "stats")
		if err != nil {
			return 0, err
		}
		ops, _ := strconv.ParseFloat(upstream.ParseInfo(r.Str)["instantaneous_ops_per_sec"], 64)
		if want := int64(ops * d.Seconds() * lineBytes); want > most {
			return 0, &upstream.ErrGuard{Why: fmt.Sprintf("about %d kB are expected (%.0f operations a second), more than MAXBYTES; lower FOR or raise MAXBYTES", want>>10, ops)}
		}
		read, _, err := n.Burst(ctx, upstream.Burst{For: d, Bytes: most, Line: func(l upstream.Line) {
			keys, _ := table.Keys(l.Words)
			if len(l.Words) == 0 || c.Given("cmd") && !strings.EqualFold(c.Text("cmd"), l.Words[0]) ||
				c.Given("match") && !slices.ContainsFunc(keys, func(k string) bool { return Match(c.Text("match"), k) }) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if len(rows) >= lines {
				dropped++
				return
			}
			db, _ := strconv.ParseInt(l.DB, 10, 64)
			rows = append(rows, cache.Dict("at", cache.String(l.At), "node", cache.String(n.Addr), "client", cache.String(l.Client), "db", cache.Number(db), "call", cache.String(hashed(l.Words, keys))))
		}})
		return read, err
	})
	if ctx.Err() != nil {
		return cache.Value{}, context.Cause(ctx)
	}
	e := reply(c, v).covered(len(a.Got), slices.Concat(failed, a.Failed, v.Lost))
	slices.SortStableFunc(rows, func(a, b cache.Value) int { return strings.Compare(a.Get("at").Str, b.Get("at").Str) })
	e.rows = rows
	if dropped > 0 {
		e.notes = append(e.notes, fmt.Sprintf("%d more calls were seen: MAXLINES is %d", dropped, lines))
	}
	return e.value()
}

// hashed is a call without what customers put into it: the same word has the same hash.
func hashed(call, keys []string) string {
	out := []string{strings.ToUpper(call[0])}
	const most = 12
	for i, w := range call[1:] {
		if i == most {
			out = append(out, fmt.Sprintf("… %d more", len(call)-1-most))
			break
		}
		h := cache.HashArg(w)
		if slices.Contains(keys, w) {
			h = prefixOf(w, ":", strings.Count(w, ":")) + h
			if p := prefixOf(w, ":", 2); len(p) > 64 || strings.ContainsAny(p, "0123456789") {
				h = prefixOf(w, ":", 1) + cache.HashArg(w)
			}
		}
		out = append(out, h)
	}
	return strings.Join(out, " ")
}
