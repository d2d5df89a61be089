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

// pauseFor is how long writes to the old primary are paused at most, should the gateway be killed before it has made it a replica.
const pauseFor = 30 * time.Second

// bySentinel moves a primary that Sentinels watch. They are not left to do it: a Sentinel promotes whatever answers at the heir's address, also
// a server that was restarted meanwhile and has lost what it had. Here writes are paused, and when the heir has everything,
// the old primary is made a replica, then the heir the primary, on a connection that was opened before and so reaches no other process. In between there
// is no primary, never two. Last the Sentinels are told to fail over, which finds it done and makes them call the heir the primary; should nobody
// tell them, they come to that by themselves, because what they call the primary says that it is a replica.
func (k *Keeper) bySentinel(ctx context.Context, p *Part) error {
	group, sentinels, err := k.fleet.Sentinels(ctx, p.Cluster)
	if err != nil {
		return err
	}
	if err := quorum(ctx, group, sentinels); err != nil {
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
	if err := said(old.Do(ctx, "CLIENT", "PAUSE", fmt.Sprint(pauseFor.Milliseconds()), "WRITE")); err != nil {
		return err
	}
	k.step("wait for the heir")
	if err := k.caughtUp(ctx, p); err != nil {
		return errors.Join(err, k.unpause(ctx, p))
	}
	k.step("fail over")
	if err := said(heir.Do(ctx, "PING")); err != nil { // nothing was done yet: writes go on at once
		return errors.Join(fmt.Errorf("%s was restarted: %w", p.To, err), k.unpause(ctx, p))
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
	_, _ = sentinels[0].Do(ctx, "SENTINEL", "FAILOVER", group) // await says whether they agree, and asks again
	return nil
}

// process opens a connection for writes to the process with a run id. Whatever is said on it reaches that process or nobody.
func (k *Keeper) process(ctx context.Context, p *Part, addr, run string) (*upstream.Conn, error) {
	n, err := k.nodeAt(p.Cluster, addr)
	if err != nil {
		return nil, err
	}
	c, err := n.DialWrite(ctx)
	if err != nil {
		return nil, err
	}
	v, err := c.Do(ctx, "INFO", "server")
	if err == nil && upstream.ParseInfo(v.Str)["run_id"] != run {
		err = cache.Errorf(cache.CodeStale, "look with CACHE.NODES, and drain it again", "%s was restarted since it was planned", addr)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// become makes a server a replica of host and port, or with NO and ONE a primary, and writes that into its file, both or neither.
func become(ctx context.Context, c *upstream.Conn, host, port string) error {
	vs, err := c.Pipe(ctx, []string{"MULTI"}, []string{"REPLICAOF", host, port}, []string{"CONFIG", "REWRITE"}, []string{"EXEC"})
	if err != nil {
		return err
	}
	for _, v := range append(vs, vs[3].Items...) {
		if v.Kind == cache.Err {
			return errors.New(v.Str)
		}
	}
	return nil
}

// said is the error of an answer, or of getting none.
func said(v cache.Value, err error) error {
	if err == nil && v.Kind == cache.Err {
		err = errors.New(v.Str)
	}
	return err
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
	group, sentinels, err := k.fleet.Sentinels(ctx, p.Cluster)
	if err != nil || len(sentinels) == 0 {
		return false
	}
	agree, busy := true, false
	for _, s := range sentinels {
		v, err := s.Do(ctx, "SENTINEL", "MASTER", group)
		if err != nil {
			continue
		}
		agree = agree && net.JoinHostPort(v.Get("ip").Str, v.Get("port").Str) == p.To
		busy = busy || strings.Contains(v.Get("flags").Str, "failover_in_progress")
	}
	if !agree && !busy {
		_, _ = sentinels[0].Do(ctx, "SENTINEL", "FAILOVER", group)
	}
	return agree && !busy
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
