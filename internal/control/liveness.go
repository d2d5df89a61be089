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

// saveSeenEvery is how often the last check-ins are written. Losing that much of them costs nobody anything.
const saveSeenEvery = 10 * time.Second

// heard notes a check-in.
func (c *Control) heard(h fleet.HostID, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[h] = now
	c.unsaved[h] = now
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

// saveSeen writes the check-ins that have not been written, if it is time.
func (c *Control) saveSeen(ctx context.Context, now time.Time) error {
	c.mu.Lock()
	if len(c.unsaved) == 0 || now.Sub(c.lastSaved) < saveSeenEvery {
		c.mu.Unlock()
		return nil
	}
	batch := c.unsaved
	c.unsaved = map[fleet.HostID]time.Time{}
	c.lastSaved = now
	c.mu.Unlock()
	if err := c.store.Update(ctx, func(tx store.Tx) error { return tx.PutLastSeen(batch) }); err != nil {
		c.mu.Lock()
		maps.Copy(batch, c.unsaved) // newer ones win
		c.unsaved = batch
		c.mu.Unlock()
		return fmt.Errorf("save last check-ins: %w", err)
	}
	return nil
}
