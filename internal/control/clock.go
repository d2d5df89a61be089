package control

import (
	"context"
	"fmt"
	"time"

	"github.com/kernwave/kernwave/internal/store"
)

// The wall clock of a control plane may jump. What only the running process measures (who is silent) goes by the
// monotonic clock, and hosts count their grants on their own; but soaks, deadlines and approvals are times in rows. A
// jump that is too long for any of them to be right stops everything until a person has looked, and is said.

// maxClockStep is the longest jump that is only said. A virtual machine that was moved or paused makes such a one, and so
// does the first time from NTP; what waits for a time is then at most so much early or late.
const maxClockStep = 5 * time.Minute

// minClockStep is what is not worth a word.
const minClockStep = 5 * time.Second

// clockJump is how far the wall clock moved from one look to the next beyond what passed: backwards is negative. Times
// without a monotonic reading (a simulation's, a store's) can only show that it went backwards.
func clockJump(last, now time.Time) time.Duration {
	wall, passed := now.Round(0).Sub(last.Round(0)), now.Sub(last)
	if wall == passed { // no monotonic reading
		return min(wall, 0)
	}
	return wall - passed
}

// watchClock notices that the wall clock jumped since the last tick, or is behind the store's record at the first.
func (c *Control) watchClock(ctx context.Context, now time.Time) error {
	c.mu.Lock()
	last := c.clockAt
	c.clockAt = now
	c.mu.Unlock()
	since := "since the last look"
	if last.IsZero() {
		since = "since the newest event in the record"
		if err := c.store.View(ctx, func(r store.Reader) error {
			es, err := r.Events(store.EventQuery{Newest: true, Limit: 1})
			if len(es) > 0 {
				last = es[0].At
			}
			return err
		}); err != nil {
			c.mu.Lock()
			c.clockAt = time.Time{} // again at the next tick
			c.mu.Unlock()
			return err
		}
		now = now.Round(0)
	}
	jump := clockJump(last, now)
	if last.IsZero() || jump.Abs() < minClockStep {
		return nil
	}
	way := "forward"
	if jump < 0 {
		way = "backward"
		c.forgetHeard(now)
	}
	what := fmt.Sprintf("the control plane's clock jumped %s by %s %s, to %s", way, jump.Abs().Round(time.Second), since, now.UTC().Format(time.RFC3339))
	c.log.ErrorContext(ctx, "the clock jumped", "way", way, "by", jump.Abs(), "next", "see whether NTP runs on the control plane's machine; kernwave status")
	halted := error(nil)
	why := ""
	if jump.Abs() >= maxClockStep && c.cfg.Halt != nil {
		why = "soaks, deadlines and approvals are times: nothing goes on until a person has looked"
		halted = c.cfg.Halt("control plane", what, now)
	}
	err := c.store.Update(ctx, func(tx store.Tx) error {
		_, err := tx.AppendEvent(store.Event{At: now, Who: "control", Kind: "clock.jumped", What: what, Why: why})
		return err
	})
	if halted != nil {
		return fmt.Errorf("stop because %s: %w", what, halted)
	}
	return err
}

// forgetHeard makes every host silent until it is heard again: by a clock that went back, they would have been heard in
// the future, and could go silent unnoticed until then.
func (c *Control) forgetHeard(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.started = now
	for h, at := range c.seen {
		if at.Sub(now) > 0 { // the monotonic clock, where there is one, did not go back
			c.seen[h] = now.Add(-c.cfg.SilentAfter - time.Second)
		}
	}
	clear(c.gone)
	c.goneAt, c.goneUntil = time.Time{}, time.Time{}
}

// lives says whether a grant that ends at t is live at now. One that ends later than any that is given now would was
// given by a clock that has been set back: it is over, or it would last as long as that was wrong.
func (c *Control) lives(t, now time.Time) bool {
	return now.Before(t) && t.Sub(now) <= c.cfg.GrantLife
}
