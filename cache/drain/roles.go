package drain

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

// seen is what one server says of itself.
type seen struct {
	up       bool
	run      string
	primary  bool
	linked   bool   // a replica whose link is up
	follows  string // host:port
	failover string // master_failover_state
	unsaved  bool   // what a full synchronisation brought is not in its append-only file yet, so that a restart would bring back what was before
	offset   int64  // of what it has written to its replicas, or was when it became one
	has      int64  // a replica: of what it has got
	priority string // replica-priority: whom Sentinels promote first; 0: never
	slots    bool   // of a cluster's primary: its own table says that it has slots
}

// askWithin is how long one server may take to say what it is.
const askWithin = 2 * time.Second

func (k *Keeper) see(ctx context.Context, p *Part, addr string) seen {
	one, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	v, err := k.ask(one, p, addr, "INFO")
	if err != nil {
		return seen{}
	}
	in := upstream.ParseInfo(v.Str)
	s := seen{
		up: in["loading"] != "1", run: in["run_id"], primary: in["role"] == "master", linked: in["master_link_status"] == "up",
		follows: in["master_host"] + ":" + in["master_port"], failover: in["master_failover_state"], priority: in["slave_priority"],
	}
	s.offset, _ = strconv.ParseInt(in["master_repl_offset"], 10, 64)
	s.has, _ = strconv.ParseInt(in["slave_repl_offset"], 10, 64)
	s.unsaved = in["aof_enabled"] == "1" && (in["aof_rewrite_in_progress"] == "1" || in["aof_rewrite_scheduled"] == "1")
	if p.Mode == "cluster" && s.primary {
		t, err := k.ask(one, p, addr, "CLUSTER", "NODES")
		if err != nil {
			return seen{}
		}
		for line := range strings.SplitSeq(t.Str, "\n") {
			if f := strings.Fields(line); len(f) > 8 && strings.Contains(f[2], "myself") {
				s.slots = true
			}
		}
	}
	return s
}

// truth is where a hand-over stands by the roles of both servers.
type truth uint8

// The truths. The zero value is the safe answer.
const (
	unclear truth = iota // one does not answer, or both or none is a primary
	stays                // the old primary is one, the heir follows
	moved                // the heir is one, the old primary follows it
)

// look says where a hand-over stands. busy: something of it still goes on in a server.
func (k *Keeper) look(ctx context.Context, p *Part) (t truth, busy bool, old, heir seen) {
	old, heir = k.see(ctx, p, p.Addr), k.see(ctx, p, p.To)
	busy = old.failover != "" && old.failover != "no-failover"
	switch {
	case !old.up || !heir.up:
	case !old.primary && heir.primary && (p.Mode != "cluster" || heir.slots) && old.linked:
		t = moved
	case old.primary && !heir.primary && (p.Mode != "cluster" || old.slots) && !busy:
		t = stays
	}
	return t, busy, old, heir
}

// quiet is how long after a hand-over began, or its gateway was killed, nothing of it can go on unseen any more. In a cluster an
// attempt lasts 5 s, and writes are paused for up to twice that. Elsewhere a command may still be on its way; a Sentinel shows what it does until it is over.
func quiet(mode string) time.Duration {
	if mode == "cluster" {
		return 12 * time.Second
	}
	return 3 * time.Second
}

// await looks until a hand-over is over and writes down how it ended. It returns an error when ctx ends before.
func (k *Keeper) await(ctx context.Context, d *Drain, p *Part) error {
	why := "nobody could be asked yet"
	for {
		t, _, old, heir := k.look(ctx, p)
		switch {
		case t == moved && p.Mode == "sentinel" && !k.agreed(ctx, p):
			why = "the Sentinels do not call " + p.To + " the primary yet"
		case t == moved:
			if err := k.tidy(ctx, d, p); err != nil {
				why = err.Error()
				break
			}
			saved, note := k.save(ctx, p)
			return k.change(d, func() { p.State, p.Saved, p.Why = Moved, saved, note })
		case t == stays && k.now().Sub(p.Begun) > quiet(p.Mode) && !k.underWay(ctx, p):
			if err := k.lift(ctx, d, p); err != nil {
				why = err.Error()
				break
			}
			return k.change(d, func() { p.State = Stayed })
		case old.up && heir.up && !old.primary && !heir.primary && p.Mode != "cluster" && old.follows == p.To && heir.follows == p.Addr:
			why = "neither " + p.Addr + " nor " + p.To + " is the primary yet"
			k.settle(ctx, p, old, heir)
		case !old.up:
			why = p.Addr + " does not answer"
		case !heir.up:
			why = p.To + " does not answer"
		case old.primary && heir.primary:
			why = p.Addr + " and " + p.To + " are both primaries"
		case !old.primary && heir.primary && !old.linked:
			why = p.To + " is the primary, and " + p.Addr + " is not linked to it yet (it follows " + old.follows + ")"
		default:
			why = "the roles of " + p.Addr + " and " + p.To + " are changing"
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return cache.Errorf(cache.CodeErr, "CACHE.DRAINS shows how it ends; it is looked at until it has", "how the hand-over of %s ends is not known yet: %s", p.Addr, why)
		}
	}
}
