package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/store"
)

// A host says with each report which control plane it has obeyed. Where that is a newer one than this, and this one's
// store is still its own (it would be fenced otherwise), two control planes run on copies of one store, or this one's
// was put back to an older state without anybody saying so. Hosts refuse it from then on. It stops, and says so: what
// it believes of the fleet is not true any more.

// superseded is what a control plane knows of a newer one.
type superseded struct {
	seen fleet.Incarnation // the highest; zero: none
	host fleet.HostID      // that said so first
	// accepted is the highest that a person has seen and gone on in spite of.
	accepted fleet.Incarnation
}

const nextSuperseded = "find the other control plane. If it is the right one, end this one. If it is gone for good, start this one once with " +
	"kernwave server --restored: it then asks all hosts what they did. If the host lies, revoke it and lift the stop with --force"

// why is empty as long as nobody is newer, or a person has accepted it.
func (s superseded) why(from fleet.Incarnation) string {
	if s.seen == (fleet.Incarnation{}) || s.seen == s.accepted {
		return ""
	}
	return fmt.Sprintf("host %s has obeyed another control plane: incarnation %d, term %d, instance %s; this one is %d, %d, %s. "+
		"Two control planes run on copies of one store, or this store was put back to an older state",
		s.host, s.seen.Incarnation, s.seen.Term, s.seen.Instance, from.Incarnation, from.Term, from.Instance)
}

func higher(a, b fleet.Incarnation) bool {
	return a.Incarnation > b.Incarnation || a.Incarnation == b.Incarnation && (a.Term > b.Term || a.Term == b.Term && a.Instance != b.Instance)
}

// obeys takes note of which control plane a host obeys, and stops this one when that is a newer one. The store has
// just been read: this one is not fenced.
func (c *Control) obeys(ctx context.Context, rep fleet.Report, now time.Time) error {
	if rep.Seen.Refuses(c.cfg.From) == "" {
		c.mu.Lock()
		delete(c.others, rep.Host)
		c.mu.Unlock()
		return nil
	}
	return c.obeysAnother(ctx, rep, now)
}

func (c *Control) obeysAnother(ctx context.Context, rep fleet.Report, now time.Time) error {
	c.mu.Lock()
	c.others[rep.Host] = rep.Seen
	news := c.superseded.seen == (fleet.Incarnation{}) || higher(rep.Seen, c.superseded.seen)
	if news {
		c.superseded.seen, c.superseded.host = rep.Seen, rep.Host
	}
	why := c.superseded.why(c.cfg.From)
	c.mu.Unlock()
	if !news || why == "" {
		return nil
	}
	c.log.ErrorContext(ctx, "another control plane is obeyed; everything is stopped", "host", rep.Host,
		"seen_incarnation", rep.Seen.Incarnation, "seen_term", rep.Seen.Term, "seen_instance", rep.Seen.Instance, "next", nextSuperseded)
	defer c.Poke()
	var halted error
	if c.cfg.Halt != nil {
		halted = c.cfg.Halt("control plane", why, now)
	}
	return errors.Join(halted, c.store.Update(ctx, func(tx store.Tx) error {
		_, err := tx.AppendEvent(store.Event{
			At: now, Who: "host " + string(rep.Host), Kind: "control.superseded", Host: rep.Host,
			What: "everything is stopped: another control plane is obeyed", Why: why,
		})
		return errors.Join(err, tx.PutObeyed(rep.Seen))
	}))
}

// Superseded is why nothing may be decided any more, for another control plane is obeyed; empty: it may.
func (c *Control) Superseded() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.superseded.why(c.cfg.From)
}

// Accept goes on in spite of the newer control plane that is known now: a person said so.
func (c *Control) Accept() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.superseded.accepted = c.superseded.seen
}

// stopped is why nobody may leave service: a person's stop, or a newer control plane.
func (c *Control) stopped() (why string, yes bool) {
	if why, yes := c.stop.Stopped(); yes {
		return why, true
	}
	why = c.Superseded()
	return why, why != ""
}

// elsewhere says that h obeys another control plane, and so not this one; empty: it does not.
func (c *Control) elsewhere(h fleet.HostID) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen, ok := c.others[h]
	if !ok {
		return ""
	}
	return fmt.Sprintf("obeys another control plane (incarnation %d, term %d, instance %s)", seen.Incarnation, seen.Term, seen.Instance)
}
