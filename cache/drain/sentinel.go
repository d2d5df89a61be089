package drain

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

// pauseFor is how long writes to the old primary are paused at most. Sentinel makes the replica a primary and only some 10 s
// later tells the old one to follow it: until then both would accept writes. The gateway tells it at once; the pause is for
// one that was killed in between.
const pauseFor = 30 * time.Second

// bySentinel pauses writes, waits until the heir has everything, lets a Sentinel fail over, and makes the old primary follow
// as soon as the heir is a primary.
func (k *Keeper) bySentinel(ctx context.Context, p *Part) error {
	group, sentinels, err := k.fleet.Sentinels(ctx, p.Cluster)
	if err != nil {
		return err
	}
	if err := quorum(ctx, group, sentinels); err != nil {
		return err
	}
	if _, err := k.write(ctx, p.Cluster, p.Addr, "CLIENT", "PAUSE", fmt.Sprint(pauseFor.Milliseconds()), "WRITE"); err != nil {
		return err
	}
	k.step("wait for the heir")
	if err := k.caughtUp(ctx, p); err != nil {
		return errors.Join(err, k.unpause(ctx, p))
	}
	k.step("fail over")
	if _, err := sentinels[0].Do(ctx, "SENTINEL", "FAILOVER", group); err != nil {
		return errors.Join(err, k.unpause(ctx, p))
	}
	k.step("watch")
	end := time.Now().Add(pauseFor / 2)
	for time.Now().Before(end) && ctx.Err() == nil {
		if heir := k.see(ctx, p, p.To); heir.primary {
			k.step("make the old one follow")
			k.demote(ctx, p, heir)
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil // await says how it ended
}

// quorum says why the Sentinels cannot fail over now.
func quorum(ctx context.Context, group string, sentinels []*upstream.Node) error {
	if len(sentinels) == 0 {
		return cache.Errorf(cache.CodeGuard, "see that they run", "no Sentinel answers")
	}
	for _, s := range sentinels {
		v, err := s.Do(ctx, "SENTINEL", "MASTER", group)
		if err != nil {
			return err
		}
		if f := v.Get("flags").Str; f != "master" {
			return cache.Errorf(cache.CodeGuard, "wait until it is over", "Sentinel %s says of %s: %s", s.Addr, group, f)
		}
	}
	if v, err := sentinels[0].Do(ctx, "SENTINEL", "CKQUORUM", group); err != nil || !strings.HasPrefix(v.Str, "OK") {
		return errors.Join(cache.Errorf(cache.CodeGuard, "see that the Sentinels run", "the Sentinels of %s have no quorum: %s", group, v.Str), err)
	}
	return nil
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
	n, err := k.nodeAt(p.Cluster, addr)
	if err != nil {
		return 0, err
	}
	v, err := n.Do(ctx, "INFO", "replication")
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

// demote makes the old primary follow the heir under Sentinel, where writes to it are paused and the heir has everything. Should the
// Sentinels not agree that the heir is the primary, it is left alone.
func (k *Keeper) demote(ctx context.Context, p *Part, heir seen) {
	if p.Mode != "sentinel" || !heir.primary || heir.run != p.ToRun {
		return
	}
	host, port, _ := net.SplitHostPort(p.To)
	_, _ = k.write(ctx, p.Cluster, p.Addr, "REPLICAOF", host, port)
}

// underWay says whether a Sentinel is still failing over, or cannot be asked.
func (k *Keeper) underWay(ctx context.Context, p *Part) bool {
	if p.Mode != "sentinel" {
		return false
	}
	group, sentinels, err := k.fleet.Sentinels(ctx, p.Cluster)
	if err != nil {
		return true
	}
	for _, s := range sentinels {
		v, err := s.Do(ctx, "SENTINEL", "MASTER", group)
		if err != nil || strings.Contains(v.Get("flags").Str, "failover_in_progress") {
			return true
		}
		if net.JoinHostPort(v.Get("ip").Str, v.Get("port").Str) != p.Addr { // the roles will follow
			return true
		}
	}
	return false
}
