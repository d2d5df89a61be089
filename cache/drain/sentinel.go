package drain

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

// pauseFor is how long writes to the old primary are paused at most, should the gateway be killed before it has made it a replica.
const pauseFor = 30 * time.Second

// bySentinel moves a primary that Sentinels watch. They are not left to do it: a Sentinel promotes whatever answers at the heir's address, also
// a server that was restarted meanwhile and has lost what it had. Here writes are paused, and when the heir has everything,
// the old primary is made a replica, then the heir the primary, on a connection that was opened before and so reaches no other process. In between there
// is no primary, never two, and should the gateway die there, Sentinels promote the heir only if it is the same process still (unelectable). Last the Sentinels are told to fail over, which finds it done and makes them call the heir the primary; should nobody
// tell them, they come to that by themselves, because what they call the primary says that it is a replica.
func (k *Keeper) bySentinel(ctx context.Context, d *Drain, p *Part) error {
	group, sentinel, err := k.quorum(ctx, p)
	if err != nil {
		return err
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
	is := k.see(ctx, p, p.To)
	if is.run != p.ToRun || is.priority == "" {
		return cache.Errorf(cache.CodeStale, "look with CACHE.NODES, and drain it again", "%s does not say its replica-priority", p.To)
	}
	if err := k.change(d, func() { p.Priority = is.priority }); err != nil {
		return err
	}
	if err := said(old.Do(ctx, "CLIENT", "PAUSE", fmt.Sprint(pauseFor.Milliseconds()), "WRITE")); err != nil {
		return err
	}
	k.step("wait for the heir")
	if err := k.caughtUp(ctx, p); err != nil {
		return errors.Join(err, k.lift(ctx, d, p))
	}
	k.step("fail over")
	if err := unelectable(ctx, heir, p.Priority); err != nil { // nothing was done yet: writes go on at once
		return errors.Join(fmt.Errorf("%s was restarted: %w", p.To, err), k.lift(ctx, d, p))
	}
	host, port, _ := net.SplitHostPort(p.To)
	if err := become(ctx, old, host, port); err != nil {
		return err // await looks whether it was done
	}
	k.step("promote")
	if err := become(ctx, heir, "NO", "ONE"); err != nil {
		return fmt.Errorf("%s was restarted: %w", p.To, err) // await calls the old one back
	}
	k.step("watch")
	_, _ = sentinel.Do(ctx, "SENTINEL", "FAILOVER", group) // await says whether they agree, and asks again
	return nil
}

// become makes a server a replica of host and port, or with NO and ONE a primary, and writes that into its file, both or neither.
func become(ctx context.Context, c *upstream.Conn, host, port string) error {
	return together(ctx, c, []string{"REPLICAOF", host, port}, []string{"CONFIG", "REWRITE"})
}

// unelectable makes Sentinels pass a replica over as soon as it is restarted: its file says replica-priority 0, while the process itself has what it had, so
// that they may promote that one. When it becomes the primary, by whomever, its file says again what the process has; lift writes that down otherwise.
func unelectable(ctx context.Context, c *upstream.Conn, priority string) error {
	return together(ctx, c, []string{"CONFIG", "SET", "replica-priority", "0"}, []string{"CONFIG", "REWRITE"}, []string{"CONFIG", "SET", "replica-priority", priority})
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

// lift lets customers write to the old primary again where writes were paused, if it still is one, and lets Sentinels promote the heir again.
func (k *Keeper) lift(ctx context.Context, d *Drain, p *Part) error {
	if p.Mode != "sentinel" {
		return nil
	}
	err := k.write(ctx, p, p.Addr, "CLIENT", "UNPAUSE")
	if err != nil || p.Priority == "" {
		return err
	}
	c, err := k.dial(ctx, p, p.To)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := together(ctx, c, []string{"CONFIG", "SET", "replica-priority", p.Priority}, []string{"CONFIG", "REWRITE"}); err != nil {
		return &upstream.Failure{Node: p.To, Err: fmt.Errorf("give it replica-priority %s back: %w", p.Priority, err)}
	}
	return k.change(d, func() { p.Priority = "" })
}

// settle ends a hand-over under Sentinel that stopped where both are replicas of each other. The heir takes over if it is the process that
// had everything; if it was restarted before it was promoted, the old primary is called back.
func (k *Keeper) settle(ctx context.Context, p *Part, old, heir seen) {
	addr, run := p.To, p.ToRun
	if heir.run != p.ToRun {
		addr, run = p.Addr, old.run
	}
	c, err := k.process(ctx, p, addr, run)
	if err != nil {
		return
	}
	_ = become(ctx, c, "NO", "ONE")
	_ = c.Close()
}

// agreed says whether every Sentinel that answers calls the heir the primary, and tells one to fail over where none is at it.
func (k *Keeper) agreed(ctx context.Context, p *Part) bool {
	group, words, err := k.words(ctx, p)
	if err != nil {
		return false
	}
	agree, busy := true, false
	for _, w := range words {
		agree = agree && (w.err != nil || w.primary == p.To)
		busy = busy || w.failingOver()
	}
	if !agree && !busy {
		_, _ = words[0].from.Do(ctx, "SENTINEL", "FAILOVER", group)
	}
	return agree && !busy
}

// underWay says whether a Sentinel is still failing over, or cannot be asked.
func (k *Keeper) underWay(ctx context.Context, p *Part) bool {
	if p.Mode != "sentinel" {
		return false
	}
	_, words, err := k.words(ctx, p)
	return err != nil || slices.ContainsFunc(words, func(w word) bool {
		return w.err != nil || w.failingOver() || w.primary != p.Addr // the roles will follow
	})
}

// quorum returns the Sentinels' group and one of them, or says why they cannot fail over now.
func (k *Keeper) quorum(ctx context.Context, p *Part) (group string, one *upstream.Node, err error) {
	group, words, err := k.words(ctx, p)
	if err != nil {
		return "", nil, err
	}
	for _, w := range words {
		if w.err != nil {
			return "", nil, w.err
		}
		if w.flags != "master" {
			return "", nil, cache.Errorf(cache.CodeGuard, "wait until it is over", "Sentinel %s says of %s: %s", w.from.Addr, group, w.flags)
		}
		// What it has heard last, up to 10 s ago; of a primary it would not hear it, and so never agree.
		rs, err := w.from.Do(ctx, "SENTINEL", "REPLICAS", group)
		if err != nil {
			return "", nil, err
		}
		for _, r := range rs.Items {
			if net.JoinHostPort(r.Get("ip").Str, r.Get("port").Str) == p.To && r.Get("slave-priority").Str == "0" {
				return "", nil, cache.Errorf(cache.CodeGuard, "drain it again in 10 s, when it has looked again", "Sentinel %s would not promote %s: it has heard of replica-priority 0", w.from.Addr, p.To)
			}
		}
	}
	one = words[0].from
	if v, err := one.Do(ctx, "SENTINEL", "CKQUORUM", group); err != nil || !strings.HasPrefix(v.Str, "OK") {
		return "", nil, errors.Join(cache.Errorf(cache.CodeGuard, "see that the Sentinels run", "the Sentinels of %s have no quorum: %s", group, v.Str), err)
	}
	return group, one, nil
}

// caughtUp waits until the heir has everything that the paused primary has.
func (k *Keeper) caughtUp(ctx context.Context, p *Part) error {
	end := time.Now().Add(5 * time.Second)
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
	return cache.Errorf(cache.CodeGuard, "look at its link", "%s did not catch up within 5 s with writes paused", p.To)
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
