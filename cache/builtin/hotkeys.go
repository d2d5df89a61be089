package builtin

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

func (s *set) hotkeys() *cache.Command {
	return &cache.Command{
		Name: "CACHE.HOTKEYS", Summary: "find the keys that are used most", Class: cache.LoadRead,
		Help: "Asks the primaries, which alone know how customers use the keys. Where a server counts by itself (HOTKEYS START, Redis 8.6) it is asked to for so long; it weighs keys by processor time or network bytes. " +
			"Its processor time is the clock's time between the begin and the end of a command: where the whole server is kept waiting for some milliseconds, the key that it was at is charged them. Over a longer time they weigh less; BY net does not know them. " +
			"Elsewhere MONITOR is looked through in bursts: DUTY of each second, on a connection of its own that a second one kills. Its lines are counted and dropped; nothing of the values is kept.\n" +
			"Counts are scaled from what was seen to the whole time and come with an interval that holds the truth in 95 of 100 cases, as long as the traffic is about as it was: few lines make wide intervals.",
		Args: []cache.Arg{
			{Name: "top", Keyword: "TOP", Type: cache.Integer, Optional: true, Default: "16", Min: 1, Max: 1000, Help: "how many rows"},
			{Name: "for", Keyword: "FOR", Type: cache.Duration, Optional: true, Default: "10", Min: 0.2, Max: 300, Help: "how long to look"},
			{Name: "by", Keyword: "BY", Optional: true, Default: "auto", Enum: []string{"auto", "ops", "cpu", "net"}, Help: "what makes a key hot; auto: cpu where a server counts it, else ops"},
			{Name: "via", Keyword: "VIA", Optional: true, Default: "auto", Enum: []string{"auto", "native", "monitor"}, Help: "how to look"},
			{Name: "duty", Keyword: "DUTY", Type: cache.Decimal, Optional: true, Default: "0.2", Min: 0.01, Max: 0.5, Help: "the part of each second that MONITOR runs"},
			{Name: "maxbytes", Keyword: "MAXBYTES", Type: cache.Size, Optional: true, Default: "64mb", Min: 1024, Max: 1 << 30, Help: "the most that MONITOR may send from one node; when more is expected it is not begun"},
			cache.ArgOn, argSlack, cache.ArgAsync, cache.ArgFormat,
		},
		Guards: []string{
			"MONITOR costs in proportion to the operations, whatever becomes of its lines: expected bytes beyond MAXBYTES are refused before it begins",
			"a canary pings between bursts; the breaker ends the bursts, and what was seen until then is the answer",
			"one at a time on one machine; a server's own counting is stopped by its own clock, even when the gateway dies",
		},
		Needs: "any; HOTKEYS START for cpu and net",
		Reply: []cache.Field{
			{Name: "key", Type: "string", Help: "its name"},
			{Name: "by", Type: "string", Help: "ops: a second; cpu: microseconds in all; net: bytes in all"},
			{Name: "value", Type: "double", Help: "the estimate"},
			{Name: "lo", Type: "double", Help: "the truth is not below"},
			{Name: "hi", Type: "double", Help: "nor above; null: the server does not say"},
			{Name: "share", Type: "double", Help: "of everything on its node, in percent"},
			{Name: "writes_pct", Type: "double", Help: "of its operations, in percent; null: not known"},
			{Name: "clients", Type: "int", Help: "different client hosts that were seen, at most 100; null: not known"},
			{Name: "via", Type: "string", Help: "native or monitor"},
			{Name: "cluster", Type: "string", Help: "where it is"},
			{Name: "node", Type: "string", Help: "the node that was asked"},
		},
		Examples: []string{"CACHE.HOTKEYS", "CACHE.HOTKEYS TOP 32 FOR 30s ON cluster:main", "CACHE.HOTKEYS BY net VIA native"},
		Run:      s.runHotkeys,
	}
}

// hot is one row, before it is one.
type hot struct {
	key, by, via   string
	value, lo, hi  float64
	share, writes  float64 // percent; writes below 0: not known
	clients, known int
	node           *upstream.Node
}

const (
	// hotCounters is how many keys are counted at a time on one node: 32 times a top of 16 rank it at Zipf 0.99.
	hotCounters = 4096
	// lineBytes is about what a line of MONITOR takes, to know before it begins what it will send.
	lineBytes = 120
	maxHosts  = 100
)

func (s *set) runHotkeys(ctx context.Context, c *cache.Call) (cache.Value, error) {
	v, err := s.Fleet.Look(ctx, c.Select("on"))
	if err != nil {
		return cache.Value{}, err
	}
	var mu sync.Mutex
	var rows []hot
	var notes []string
	var guards upstream.GuardReport
	nodes, failed := askable(shards(v, c.Select("on"), true))
	tell := progress(c, len(nodes))
	limit := time.Duration(len(nodes)+1)*c.Duration("for") + time.Minute // they may share one machine
	a := upstream.AskLong(ctx, nodes, limit, func(ctx context.Context, n *upstream.Node) (int, error) {
		release, err := s.Fleet.Heavy.Take(ctx, n, c.Job, func(holder string) {
			tell.note(fmt.Sprintf("%s waits for job %s, which works on the same machine or shard", n, holder))
		})
		if err != nil {
			return 0, err
		}
		defer release()
		got, note, g, err := hotOf(ctx, c, n)
		tell.shard(n, upstream.Scanned{}, err)
		mu.Lock()
		defer mu.Unlock()
		guards.Add(g)
		rows = append(rows, got...)
		if note != "" {
			notes = append(notes, n.Addr+": "+note)
		}
		return len(got), err
	})
	if ctx.Err() != nil {
		return cache.Value{}, context.Cause(ctx)
	}
	slices.SortFunc(rows, func(a, b hot) int {
		// Different measures are not compared: they stand one after the other.
		if a.by != b.by {
			return strings.Compare(b.by, a.by)
		}
		if a.value != b.value {
			if a.value > b.value {
				return -1
			}
			return 1
		}
		return strings.Compare(a.key, b.key)
	})
	e := reply(c, v).covered(len(a.Got), slices.Concat(failed, a.Failed, v.Lost))
	slices.Sort(notes)
	e.notes, e.guards = notes, guards.Value()
	for _, h := range rows[:min(len(rows), int(c.Int("top")))] {
		row := cache.Dict("key", cache.String(h.key), "by", cache.String(h.by), "value", cache.Real(round(h.value)),
			"lo", cache.Real(round(h.lo)), "hi", cache.Real(round(h.hi)), "share", cache.Real(round(h.share)))
		if math.IsInf(h.hi, 1) {
			row.Items[9] = cache.Value{}
		}
		w := cache.Value{}
		if h.writes >= 0 {
			w = cache.Real(round(h.writes))
		}
		row.Add("writes_pct", w)
		row.Add("clients", maybe(h.clients > 0, int64(h.clients)))
		row.Add("via", cache.String(h.via))
		row.Add("cluster", cache.String(h.node.Cluster))
		row.Add("node", cache.String(h.node.Addr))
		e.rows = append(e.rows, row)
	}
	return e.value()
}

// hotOf looks at one node in the way that the call and the node allow.
func hotOf(ctx context.Context, c *cache.Call, n *upstream.Node) ([]hot, string, upstream.GuardReport, error) {
	var none upstream.GuardReport
	caps, err := n.Caps(ctx)
	if err != nil {
		return nil, "", none, err
	}
	by, via := c.Text("by"), c.Text("via")
	native := caps[upstream.CapHotkeysStart]
	if via == "native" && !native {
		return nil, "", none, &upstream.Failure{Node: n.Addr, Err: errors.New("it does not count hot keys by itself (HOTKEYS START); VIA monitor works")}
	}
	if (by == "cpu" || by == "net") && (!native || via == "monitor") {
		return nil, "", none, &upstream.Failure{Node: n.Addr, Err: fmt.Errorf("BY %s needs a server that counts by itself (HOTKEYS START); BY ops works", by)}
	}
	if by == "ops" && via == "native" {
		return nil, "", none, &upstream.Failure{Node: n.Addr, Err: errors.New("servers do not count operations by key; BY cpu and BY net work, or VIA monitor")}
	}
	if native && by != "ops" && via != "monitor" {
		if by == "auto" {
			by = "cpu"
		}
		rows, err := nativeHot(ctx, c, n, by)
		if err == nil || via == "native" {
			return rows, "", none, err
		}
		if ctx.Err() != nil || c.Text("by") != "auto" {
			return nil, "", none, err
		}
		rows, note, g, merr := monitorHot(ctx, c, n)
		return rows, strings.TrimPrefix(note+"; its own counting is not free: "+err.Error(), "; "), g, merr
	}
	if !caps[upstream.CapMonitor] {
		return nil, "", none, &upstream.Failure{Node: n.Addr, Err: errors.New("it has no MONITOR")}
	}
	return monitorHot(ctx, c, n)
}

// nativeHot has the server count. The session ends by the server's own clock a second after ours, should we die.
func nativeHot(ctx context.Context, c *cache.Call, n *upstream.Node, by string) ([]hot, error) {
	d := c.Duration("for")
	metric := strings.ToUpper(by)
	count := min(64, max(10, 4*int(c.Int("top"))))
	if _, err := n.Do(ctx, "HOTKEYS", "START", "METRICS", "1", metric, "COUNT", strconv.Itoa(count),
		"DURATION", strconv.Itoa(int(math.Ceil(d.Seconds()))+1)); err != nil {
		return nil, err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), upstream.DefaultTimeout)
		defer cancel()
		_, _ = n.Pipe(end, words("HOTKEYS", "STOP"), words("HOTKEYS", "RESET"))
	}()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	v, err := n.Do(ctx, "HOTKEYS", "GET")
	if err != nil {
		return nil, err
	}
	return readNative(v, n, by)
}

// readNative reads the answer of HOTKEYS GET.
func readNative(v cache.Value, n *upstream.Node, by string) ([]hot, error) {
	if v.Kind == cache.Array && len(v.Items) == 1 { // one answer for each range of slots
		v = v.Items[0]
	}
	field, totals := "by-cpu-time-us", []string{"all-commands-all-slots-us", "all-commands-selected-slots-us"}
	if by == "net" {
		field, totals = "by-net-bytes", []string{"net-bytes-all-commands-all-slots", "net-bytes-all-commands-selected-slots"}
	}
	pairs := v.Get(field)
	if pairs.IsNull() {
		return nil, &upstream.Failure{Node: n.Addr, Err: fmt.Errorf("HOTKEYS GET holds no %s", field)}
	}
	total := 0.0
	for _, name := range totals {
		if x, ok := v.Get(name).Integer(); ok && total == 0 {
			total = float64(x)
		}
	}
	var rows []hot
	for i := 0; i+1 < len(pairs.Items); i += 2 {
		x, _ := pairs.Items[i+1].Integer()
		// The server's sketch never counts too much, and does not say by how much it may count too little.
		rows = append(rows, hot{
			key: pairs.Items[i].Text(), by: by, via: "native", value: float64(x), lo: float64(x), hi: math.Inf(1),
			share: 100 * float64(x) / max(1, total), writes: -1, node: n,
		})
	}
	return rows, nil
}
