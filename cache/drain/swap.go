package drain

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

const (
	// pauseFor is how long writes to the old primary are paused at most, should the gateway be killed before it has made it a replica.
	pauseFor = 30 * time.Second
	// catchUpWithin is how long the heir may take for the rest with writes paused.
	catchUpWithin = 5 * time.Second
)

// swap moves a primary of a plain pair, or one that Sentinels watch. Neither is left to do it. The server's FAILOVER promotes a replica that was restarted
// meanwhile from an older snapshot, because the history has the same name; a Sentinel promotes whatever answers at the heir's address. Here writes are
// paused, and when the heir has everything, the old primary is made a replica, then the heir the primary, on a connection that was opened
// before and so reaches no other process. In between there is no primary, never two. Should the gateway die there, Sentinels promote the heir only if it is the
// same process still (elect), and a plain pair waits for a gateway (settle). Last, Sentinels are told to fail over, which finds it done
// and makes them call the heir the primary; should nobody tell them, they come to that by themselves, because what they call the primary says that it is a replica.
func (k *Keeper) swap(ctx context.Context, d *Drain, p *Part) error {
	var group string
	var sentinel *upstream.Node
	if p.Mode == "sentinel" {
		err := k.standAside(ctx, d, p)
		if err == nil {
			group, sentinel, err = k.quorum(ctx, p)
		}
		if err != nil {
			return errors.Join(err, k.lift(ctx, d, p))
		}
	}
	heir, err := k.process(ctx, p, p.To, p.ToRun)
	if err != nil {
		return err
	}
	defer func() { _ = heir.Close() }()
	old, err := k.process(ctx, p, p.Addr, p.RunID)
	if err != nil {
		return err
	}
	defer func() { _ = old.Close() }()
	// Its new role must be in its file in the instant in which it takes over. That it can be written is tried before.
	if err := said(heir.Do(ctx, "CONFIG", "REWRITE")); err != nil {
		return cache.Errorf(cache.CodeGuard, "start it with a configuration file that it may write", "%s cannot write its role into its file, and would be a replica again after a restart: %v", p.To, err)
	}
	if sentinel != nil {
		is := k.see(ctx, p, p.To)
		if is.run != p.ToRun || is.priority == "" {
			return cache.Errorf(cache.CodeStale, "look with CACHE.NODES, and drain it again", "%s does not say its replica-priority", p.To)
		}
		aside, err := k.oldAside(ctx, p)
		if err != nil {
			return err
		}
		if err := k.change(d, func() { p.Priority, p.Aside = is.priority, aside }); err != nil {
			return err
		}
	}
	if err := said(old.Do(ctx, "CLIENT", "PAUSE", fmt.Sprint(pauseFor.Milliseconds()), "WRITE")); err != nil {
		return err
	}
	k.step("wait for the heir")
	if err := k.caughtUp(ctx, p); err != nil {
		return errors.Join(err, k.lift(ctx, d, p))
	}
	k.step("fail over")
	if sentinel != nil {
		err = elect(ctx, heir)
	} else {
		err = said(heir.Do(ctx, "PING"))
	}
	if err != nil { // nothing was done yet: writes go on at once
		return errors.Join(fmt.Errorf("%s was restarted: %w", p.To, err), k.lift(ctx, d, p))
	}
	host, port, _ := net.SplitHostPort(p.To)
	// A replica refuses writes by itself, and whatever else a pause holds up must not be: what Sentinels publish, and all that they ask behind it.
	with := [][]string{{"CLIENT", "UNPAUSE"}}
	if sentinel != nil {
		with = append(with, []string{"CONFIG", "SET", "replica-priority", "0"})
	}
	if err := become(ctx, old, host, port, with...); err != nil {
		return err // await looks whether it was done
	}
	k.step("promote")
	if !k.complete(ctx, p) {
		return cache.Errorf(cache.CodeGuard, "drain it again", "%s was written to when it was not to be, and %s has not got that", p.Addr, p.To) // await calls the old one back
	}
	if err := become(ctx, heir, "NO", "ONE"); err != nil {
		return fmt.Errorf("%s was restarted: %w", p.To, err) // await calls the old one back
	}
	if sentinel != nil {
		k.step("watch")
		_, _ = sentinel.Do(ctx, "SENTINEL", "FAILOVER", group) // await says whether they agree, and asks again
	}
	return nil
}

// become makes a server a replica of host and port, or with NO and ONE a primary, does what goes with that, and writes it into its file, at one instant.
func become(ctx context.Context, c *upstream.Conn, host, port string, with ...[]string) error {
	return together(ctx, c, slices.Concat([][]string{{"REPLICAOF", host, port}}, with, [][]string{{"CONFIG", "REWRITE"}})...)
}

// together carries out commands at one instant. An error of one does not keep the others from being carried out.
func together(ctx context.Context, c *upstream.Conn, cmds ...[]string) error {
	vs, err := c.Pipe(ctx, slices.Concat([][]string{{"MULTI"}}, cmds, [][]string{{"EXEC"}})...)
	if err != nil {
		return err
	}
	for _, v := range append(vs, vs[len(vs)-1].Items...) {
		if err := said(v, nil); err != nil {
			return err
		}
	}
	return nil
}

// caughtUp waits until the heir has everything that the paused primary has.
func (k *Keeper) caughtUp(ctx context.Context, p *Part) error {
	end := time.Now().Add(catchUpWithin)
	for time.Now().Before(end) {
		// The primary first: what it had then, the heir must have.
		old, err := k.offset(ctx, p, p.Addr, "master_repl_offset")
		if err != nil {
			return err
		}
		heir, err := k.offset(ctx, p, p.To, "slave_repl_offset")
		if err != nil {
			return err
		}
		if heir >= old {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return cache.Errorf(cache.CodeGuard, "look at its link", "%s did not catch up within %s with writes paused", p.To, catchUpWithin)
}

func (k *Keeper) offset(ctx context.Context, p *Part, addr, field string) (int, error) {
	v, err := k.ask(ctx, p, addr, "INFO", "replication")
	if err != nil {
		return 0, err
	}
	in := upstream.ParseInfo(v.Str)
	if field == "slave_repl_offset" && in["master_link_status"] != "up" {
		return 0, fmt.Errorf("%s does not follow", addr)
	}
	off := 0
	_, err = fmt.Sscan(in[field], &off)
	return off, err
}

// complete waits a second at most until the heir has what the old primary had when it became a replica. The pause may have ended before, if the
// gateway was held up for long, or someone else has ended it: then customers have written.
func (k *Keeper) complete(ctx context.Context, p *Part) bool {
	for end := time.Now().Add(time.Second); ; time.Sleep(10 * time.Millisecond) {
		old, heir := k.see(ctx, p, p.Addr), k.see(ctx, p, p.To)
		if old.up && !old.primary && heir.run == p.ToRun && heir.has >= old.offset {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// lift lets customers write to the old primary again where writes were paused, if it still is one, and lets Sentinels promote the heir again. In a cluster nothing was imposed.
func (k *Keeper) lift(ctx context.Context, d *Drain, p *Part) error {
	if p.Mode == "cluster" {
		return nil
	}
	err := k.write(ctx, p, p.Addr, "CLIENT", "UNPAUSE")
	if err != nil || p.Mode != "sentinel" {
		return err
	}
	if p.Priority != "" {
		if err := k.keep(ctx, p, p.To, p.Priority); err != nil {
			return &upstream.Failure{Node: p.To, Err: fmt.Errorf("give it replica-priority %s back: %w", p.Priority, err)}
		}
		if err := k.change(d, func() { p.Priority = "" }); err != nil {
			return err
		}
	}
	return k.comeBack(ctx, d, p)
}

// settle ends a hand-over that stopped where both are replicas of each other. The heir takes over if it is the process that
// was looked at, and has everything; else, as when it was restarted before it was promoted, the old primary is called back.
func (k *Keeper) settle(ctx context.Context, p *Part, old, heir seen) {
	addr, run := p.To, p.ToRun
	if heir.run != p.ToRun || heir.has < old.offset {
		addr, run = p.Addr, old.run
	}
	c, err := k.process(ctx, p, addr, run)
	if err != nil {
		return
	}
	_ = become(ctx, c, "NO", "ONE")
	_ = c.Close()
}
