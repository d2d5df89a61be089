package bulk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

const (
	// chunk is how many keys are changed in one go, between two looks at what a customer would feel.
	chunk = 16
	// pendingMost is how many values may wait to be freed in the background before the work waits.
	pendingMost = 100_000
	pendingTold = time.Second
)

// run is one plan being carried out.
type run struct {
	m       *Manager
	w       *Work
	cap     *capture         // nil: nothing is captured
	done    map[string]int64 // expire: what was set, by shard, database and key
	doneMu  sync.Mutex
	changed atomic.Int64
	tell    func(Progress)

	mu     sync.Mutex
	guards upstream.GuardReport
}

// node is one shard of a run.
type node struct {
	*run
	i     int // of the shard
	n     *upstream.Node
	read  *upstream.Conn
	write *upstream.Conn
	pace  *upstream.Pacer
	p     Progress
	began time.Time
	sent  int64 // since began
	asked time.Time
}

// primary finds who holds a shard of the plan now: the node it was named by, or where roles have moved, whom that follows.
func primary(v *upstream.View, s Shard) (*upstream.Node, error) {
	addr := s.Addr
	for range 2 {
		i := slices.IndexFunc(v.Nodes, func(n *upstream.Node) bool { return n.Cluster == s.Cluster && n.Addr == addr })
		if i < 0 || v.Nodes[i].Down != "" {
			break
		}
		if v.Nodes[i].Role == upstream.Primary {
			return v.Nodes[i], nil
		}
		addr = v.Nodes[i].Follows
	}
	return nil, cache.Errorf(cache.CodeStale, "CACHE.NODES shows who is there", "no primary that answers holds the shard of %s", s.Addr)
}

// each runs f for every shard that is not over, each on its primary, one at a time on each machine, watched by a pacer.
func (r *run) each(ctx context.Context, f func(ctx context.Context, x *node) error) error {
	v, err := r.m.fleet.Look(ctx, cache.Select{})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	errs := make([]error, len(r.w.Plan.Shards))
	var wg sync.WaitGroup
	for i, s := range r.w.Plan.Shards {
		p := r.w.progress[i]
		if p.Over {
			continue
		}
		n, err := primary(v, s)
		if err != nil {
			errs[i] = err
			continue
		}
		wg.Go(func() {
			x := &node{run: r, i: i, n: n, p: p}
			errs[i] = x.guarded(ctx, f)
			if errors.Is(errs[i], errTooMany) || errors.Is(errs[i], errFull) { // it is so for all
				stop(errs[i])
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if errors.Is(err, errTooMany) || errors.Is(err, errFull) {
			return err
		}
	}
	return cmpOr(errs)
}

func cmpOr(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// guarded takes the machine and the shard, connects and paces.
func (x *node) guarded(ctx context.Context, f func(ctx context.Context, x *node) error) (err error) {
	release, err := x.m.fleet.Heavy.Take(ctx, x.n, x.w.ID, nil)
	if err != nil {
		return err
	}
	defer release()
	if x.read, err = x.n.Dial(ctx); err != nil {
		return err
	}
	defer func() { _ = x.read.Close() }()
	if x.write, err = x.n.DialWrite(ctx); err != nil {
		return err
	}
	defer func() { _ = x.write.Close() }()
	if x.pace, err = x.n.Pace(ctx, x.w.Plan.Slack, 0); err != nil {
		return err
	}
	defer x.pace.Close()
	x.began = time.Now()
	err = f(ctx, x)
	x.mu.Lock()
	x.guards.Add(x.pace.Report())
	x.mu.Unlock()
	return errors.Join(err, x.w.note(x.i, x.p, true))
}

// pipe sends questions and says how long the node was busy with them.
func (x *node) pipe(ctx context.Context, c *upstream.Conn, cmds ...[]string) ([]cache.Value, error) {
	one, cancel := context.WithTimeoutCause(ctx, answerWithin, fmt.Errorf("no answer within %s", answerWithin))
	defer cancel()
	began := time.Now()
	vs, err := c.Pipe(one, cmds...)
	if err != nil {
		return nil, &upstream.Failure{Node: x.n.Addr, Err: err}
	}
	return vs, x.pace.Page(ctx, time.Since(began))
}

const answerWithin = 10 * time.Second

var errTooMany = errors.New("more keys match than were approved")

// change sends what changes keys, a chunk at a time at the plan's rate, and gives the answers to got.
func (x *node) change(ctx context.Context, ks []Captured, words func(Captured) []string, got func(k Captured, v cache.Value) error) error {
	for part := range slices.Chunk(ks, chunk) {
		if err := x.wait(ctx, int64(len(part))); err != nil {
			return err
		}
		cmds := make([][]string, len(part))
		for i, k := range part {
			cmds[i] = words(k)
		}
		if x.w.Plan.Op != Undo && x.changed.Add(int64(len(part))) > x.w.Plan.Most() {
			return errTooMany
		}
		vs, err := x.pipe(ctx, x.write, cmds...)
		if vs == nil {
			return err
		}
		for i, v := range vs { // counted also where the pacer ends the work now
			if gerr := got(part[i], v); gerr != nil {
				return gerr
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// wait holds the rate, and waits while the server has too much to free in the background.
func (x *node) wait(ctx context.Context, n int64) error {
	x.sent += n
	if d := time.Duration(x.sent)*time.Second/time.Duration(x.w.Plan.Rate) - time.Since(x.began); d > 0 {
		if err := sleep(ctx, d); err != nil {
			return err
		}
	} else if d < -time.Second { // what was not used is not caught up with in one rush
		x.began = x.began.Add(-d - time.Second)
	}
	if x.w.Plan.Op != Unlink || time.Since(x.asked) < pendingTold {
		return nil
	}
	for {
		x.asked = time.Now()
		v, err := x.n.Do(ctx, "INFO", "memory")
		if err != nil {
			return err
		}
		pending, _ := strconv.ParseInt(upstream.ParseInfo(v.Str)["lazyfree_pending_objects"], 10, 64)
		if pending < pendingMost {
			return nil
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// choose selects a database on both connections.
func (x *node) choose(ctx context.Context, db int) error {
	if db == 0 && x.n.Mode == "cluster" {
		return nil
	}
	for _, c := range []*upstream.Conn{x.read, x.write} {
		vs, err := x.pipe(ctx, c, []string{"SELECT", strconv.Itoa(db)})
		if err != nil {
			return err
		}
		if vs[0].Kind == cache.Err {
			return moved(x.n.Addr, vs[0])
		}
	}
	return nil
}

// runID is the server's, which changes when it is restarted.
func (x *node) runID(ctx context.Context) (string, error) {
	v, err := x.n.Do(ctx, "INFO", "server")
	return upstream.ParseInfo(v.Str)["run_id"], err
}

// clock reads the answer of TIME, in milliseconds.
func clock(v cache.Value) int64 {
	if len(v.Items) != 2 {
		return 0
	}
	s, _ := v.Items[0].Integer()
	us, _ := v.Items[1].Integer()
	return s*1000 + us/1000
}

// where names a key over all shards and databases.
func where(k Captured) string {
	return strconv.Itoa(k.Shard) + " " + strconv.Itoa(k.DB) + " " + k.Key
}

// why is an error for people: what ended the work, without how it is wrapped.
func why(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
