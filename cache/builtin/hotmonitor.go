package builtin

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

// monitorHot looks through MONITOR in bursts.
func monitorHot(ctx context.Context, c *cache.Call, n *upstream.Node) (rows []hot, note string, g upstream.GuardReport, err error) {
	d, duty, most := c.Duration("for"), c.Float("duty"), c.Int("maxbytes")
	table, err := n.Commands(ctx)
	if err != nil {
		return nil, "", g, err
	}
	calls := func() (ops, total int64, err error) {
		v, err := n.Do(ctx, "INFO", "stats")
		if err != nil {
			return 0, 0, err
		}
		in := upstream.ParseInfo(v.Str)
		ops, _ = strconv.ParseInt(in["instantaneous_ops_per_sec"], 10, 64)
		total, _ = strconv.ParseInt(in["total_commands_processed"], 10, 64)
		return ops, total, nil
	}
	ops, before, err := calls()
	if err != nil {
		return nil, "", g, err
	}
	if want := int64(float64(ops) * d.Seconds() * duty * lineBytes); want > most {
		return nil, "", g, &upstream.Failure{Node: n.Addr, Err: &upstream.ErrGuard{Why: fmt.Sprintf(
			"MONITOR would send about %d MB (%d operations a second, %.0f %% of %s), more than MAXBYTES %d MB; lower FOR or DUTY, or raise MAXBYTES", want>>20, ops, 100*duty, d, most>>20)}}
	}
	p, err := n.Pace(ctx, c.Float("slack"), upstream.DutyMost)
	if err != nil {
		return nil, "", g, err
	}
	defer func() { g = p.Report(); p.Close() }()
	counts := newSpaceSaving(hotCounters)
	began := time.Now()
	end := began.Add(d)
	var lines, sent int64
	bursts := 0
	period := min(time.Second, d)
	for time.Now().Before(end) && sent < most {
		from := time.Now()
		seen := map[string]*hotBurst{}
		read, _, err := n.Burst(ctx, upstream.Burst{
			For: time.Duration(duty * float64(period)), Bytes: most - sent,
			Line: func(l upstream.Line) {
				lines++
				keys, write := table.Keys(l.Words)
				host := hostOf(l.Client)
				for _, k := range keys {
					b := seen[k]
					if b == nil {
						b = &hotBurst{}
						seen[k] = b
					}
					b.n++
					if write {
						b.writes++
					}
					if !slices.Contains(b.hosts, host) && len(b.hosts) < maxHosts {
						b.hosts = append(b.hosts, host)
					}
				}
			},
		})
		sent += read
		bursts++
		for k, b := range seen {
			ctr := counts.add(k, b.n)
			ctr.sq += float64(b.n) * float64(b.n)
			ctr.writes += b.writes
			for _, h := range b.hosts {
				if ctr.clients == nil {
					ctr.clients = map[string]struct{}{}
				}
				if len(ctr.clients) < maxHosts {
					ctr.clients[h] = struct{}{}
				}
			}
		}
		if err != nil {
			return nil, "", g, err
		}
		if err := p.Page(ctx, 0); err != nil {
			if _, is := errors.AsType[*upstream.ErrGuard](err); is {
				note = "it was ended early: " + err.Error()
				break
			}
			return nil, "", g, err
		}
		rest := time.Until(from.Add(period))
		if until := time.Until(end); rest > until {
			rest = until
		}
		if rest > 0 {
			t := time.NewTimer(rest)
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
				return nil, "", g, context.Cause(ctx)
			}
		}
	}
	_, after, err := calls()
	if err != nil {
		return nil, "", g, err
	}
	took := time.Since(began).Seconds()
	rows = scaleHot(counts, n, lines, max(lines, after-before), took, bursts, int(c.Int("top")))
	if note == "" {
		note = fmt.Sprintf("%d of about %d operations were looked at", lines, max(lines, after-before))
	}
	return rows, note, g, nil
}

type hotBurst struct {
	n, writes int64
	hosts     []string
}

// hostOf is a client's address without its port: clients that reconnect are one host.
func hostOf(client string) string {
	if i := strings.LastIndexByte(client, ':'); i > 0 {
		return client[:i]
	}
	return client
}

// scaleHot makes rates with intervals of what bursts saw: lines of all operations, over so many seconds.
func scaleHot(counts *spaceSaving, n *upstream.Node, lines, all int64, seconds float64, bursts, most int) []hot {
	if lines == 0 {
		return nil
	}
	part := float64(lines) / float64(all)
	scale := 1 / part / seconds
	var rows []hot
	for _, c := range counts.top(most) {
		x, m := float64(c.n-c.err), float64(bursts)
		// What a sample of that size varies by, or what the bursts differ by, whichever is more.
		variance := x * (1 - part)
		if bursts > 2 {
			if mean := x / m; c.err == 0 {
				variance = math.Max(variance, (c.sq-m*mean*mean)*m/(m-1)*(1-part))
			}
		}
		z := zOnce
		if bursts > 2 && bursts < 30 { // Student's t with few bursts
			z *= 1 + 1.2/float64(bursts-1)
		}
		half := z * math.Sqrt(variance)
		lo := math.Max(x, 0) - half
		hi := float64(c.n) + half + z*z // rule of three and a bit: a few that were seen may be many that were not
		if part >= 1 {
			lo, hi = x, float64(c.n)
		}
		lo = math.Max(lo, x*part) // what was seen was there
		rows = append(rows, hot{
			key: c.key, by: "ops", via: "monitor", value: x * scale, lo: math.Min(lo*scale, x*scale), hi: hi * scale,
			share: 100 * x / float64(lines), writes: 100 * float64(c.writes) / math.Max(1, x), clients: len(c.clients), node: n,
		})
	}
	return rows
}
