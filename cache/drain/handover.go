package drain

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/kernwave/kernwave/cache"
)

const (
	// handOverWithin is how long a hand-over is watched for by the call that began it.
	handOverWithin = 30 * time.Second
	// attempts of one hand-over; in a cluster one: the next election must wait for longer than anyone does.
	attempts = 2
)

// carryOut hands over every primary of a drain, one after another. The error says why one stayed.
func (k *Keeper) carryOut(ctx context.Context, d *Drain, tell func(cache.Value)) error {
	for i := range d.Parts {
		p := &d.Parts[i]
		var last error
		most := attempts
		if p.Mode == "cluster" {
			most = 1
		}
		for try := 0; moves(*p) && try < most; try++ {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			if last = k.one(ctx, d, p); p.State == Moving {
				return last // how it ends is looked at further
			}
			tell(d.value())
		}
		if p.State == Stayed || p.State == Waiting {
			if last == nil {
				last = fmt.Errorf("%s did not take over within its time", p.To)
			}
			return last
		}
	}
	return nil
}

// one hands one primary over.
func (k *Keeper) one(ctx context.Context, d *Drain, p *Part) error {
	switch t, busy, old, heir := k.look(ctx, p); {
	case t != stays || busy || !heir.linked || old.run != p.RunID:
		return cache.Errorf(cache.CodeStale, "look with CACHE.NODES, and drain it again", "%s and %s are not what they were when it was planned", p.Addr, p.To)
	case heir.unsaved:
		return cache.Errorf(cache.CodeGuard, "drain it again when it has", "%s has not written its data to its append-only file yet, and would come back with less if it died", p.To)
	}
	k.step("write the intent")
	if err := k.change(d, func() { p.State, p.Begun, p.Priority, p.Why = Moving, k.now().UTC(), "", "" }); err != nil {
		_ = k.change(d, func() { p.State = Waiting }) // it says the same, and this drain is over
		return err
	}
	k.step("begin")
	// From here on the servers are on their way, whoever is gone: what was begun is looked at to its end.
	on, cancel := context.WithTimeout(context.WithoutCancel(ctx), handOverWithin)
	defer cancel()
	var err error
	if p.Mode == "cluster" {
		err = k.write(on, p, p.To, "CLUSTER", "FAILOVER")
	} else {
		err = k.swap(on, d, p)
	}
	k.step("await")
	return errors.Join(err, k.await(on, d, p))
}

// tidy does what is left when the heir is the primary: what was imposed is lifted, and other replicas of a plain pair follow it. In a cluster, and
// under Sentinel, they do so by themselves.
func (k *Keeper) tidy(ctx context.Context, d *Drain, p *Part) error {
	k.step("tidy up")
	if err := k.lift(ctx, d, p); err != nil || p.Mode != "standalone" {
		return err
	}
	host, port, _ := net.SplitHostPort(p.To)
	for _, o := range p.Others {
		if s := k.see(ctx, p, o); s.up && !s.primary && s.follows != p.To {
			if err := k.write(ctx, p, o, "REPLICAOF", host, port); err != nil {
				return err
			}
		}
	}
	return nil
}

// save makes the roles survive a restart: both files say them. A cluster keeps roles by itself; a Sentinel writes those that it
// changes, and the old primary's was changed here.
func (k *Keeper) save(ctx context.Context, p *Part) (saved bool, note string) {
	if p.Mode == "cluster" {
		return true, ""
	}
	k.step("save the roles")
	for _, addr := range []string{p.To, p.Addr} {
		if err := k.write(ctx, p, addr, "CONFIG", "REWRITE"); err != nil {
			return false, fmt.Sprintf("its role is not in its file, and it would start as what it was: %v; start it with replicaof %s", err, strings.Replace(p.To, ":", " ", 1))
		}
	}
	return true, ""
}
