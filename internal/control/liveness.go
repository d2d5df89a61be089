package control

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/store"
)

// Liveness is not state: it lives in memory and is written in batches, for people. After a start every host is
// silent until it is heard, so nothing is granted on what was true before.

// saveSeenEvery is the time between two batches of last check-ins, seenAge how old the written one of a host must be
// before it is written again, saveSeenMost how many are written in one transaction, which others wait for. Losing that
// much of them costs nobody anything; writing 5,000 hosts' every 30 s would be most of what an idle control plane does.
const (
	saveSeenEvery = 10 * time.Second
	seenAge       = 5 * time.Minute
	saveSeenMost  = 1000
)

// heard notes a check-in.
func (c *Control) heard(h fleet.HostID, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[h] = now
	delete(c.gone, h)
	if until := now.Add(c.cfg.SilentAfter); until.Before(c.goneUntil) {
		c.goneUntil = until
	}
	if saved, ok := c.saved[h]; !ok || now.Sub(saved) >= seenAge {
		c.saved[h] = now
		c.unsaved = append(c.unsaved, h)
	}
}

// addAbsent adds the hosts that are silent at now, and those that obey another control plane. never are those that may not have been heard since the start: the
// ones that were are taken out of it.
func (c *Control) addAbsent(to, never map[fleet.HostID]bool, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for h := range never {
		if _, heard := c.seen[h]; heard {
			delete(never, h)
		} else {
			to[h] = true
		}
	}
	// Until goneUntil no other host goes silent, unless time goes backwards.
	if now.After(c.goneUntil) || now.Before(c.goneAt) {
		clear(c.gone)
		c.goneAt, c.goneUntil = now, now.Add(c.cfg.SilentAfter)
		for h, last := range c.seen {
			if now.Sub(last) > c.cfg.SilentAfter {
				c.gone[h] = true
			} else if until := last.Add(c.cfg.SilentAfter); until.Before(c.goneUntil) {
				c.goneUntil = until
			}
		}
	}
	maps.Copy(to, c.gone)
	for h := range c.others {
		to[h] = true
	}
}

// unheard is since when nothing was heard of h; zero: it is not silent.
func (c *Control) unheard(h fleet.HostID, now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	last, ok := c.seen[h]
	if !ok {
		return c.started
	}
	if now.Sub(last) > c.cfg.SilentAfter {
		return last
	}
	return time.Time{}
}

// lastSeen is when h was last heard since the start; zero: not yet.
func (c *Control) lastSeen(h fleet.HostID) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[h]
}

// heardAfter says whether the host of g was heard when g had certainly run out, so that what it says shows whether it left
// service under it. A report can be [LateMost] old. A grant that ends later than any that is given now is from before
// the clock was set back, which made everybody silent: it has run out one life after that.
func (c *Control) heardAfter(g store.Grant, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	end := g.ExpiresAt
	if end.Sub(now) > c.cfg.GrantLife {
		end = c.started.Add(c.cfg.GrantLife)
	}
	return c.seen[g.Host].After(end.Add(LateMost))
}

// saveSeen writes check-ins that have not been written for long, if it is time.
func (c *Control) saveSeen(ctx context.Context, now time.Time) error {
	c.mu.Lock()
	n := min(len(c.unsaved), saveSeenMost)
	if n == 0 || now.Sub(c.lastSaved) < saveSeenEvery && !now.Before(c.lastSaved) {
		c.mu.Unlock()
		return nil
	}
	hosts, batch := c.unsaved[:n:n], make(map[fleet.HostID]time.Time, n)
	for _, h := range hosts {
		batch[h] = c.seen[h]
	}
	c.unsaved, c.lastSaved = c.unsaved[n:], now
	c.mu.Unlock()
	if err := c.store.Update(ctx, func(tx store.Tx) error { return tx.PutLastSeen(batch) }); err != nil {
		c.mu.Lock()
		c.unsaved = append(hosts, c.unsaved...)
		c.mu.Unlock()
		return fmt.Errorf("save last check-ins: %w", err)
	}
	return nil
}
