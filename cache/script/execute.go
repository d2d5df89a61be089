package script

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

const (
	// batch is how many writes go to a node in one go, between two looks at what a customer would feel.
	batch = 16
	// perSecond is how many writes a node is given a second at most: keys that expire or go at once come back to the
	// origin at once, too.
	perSecond = 2000
	// slow is how long a ping may take before writing pauses; slowFor times in a row, and it stops.
	slow    = 50 * time.Millisecond
	slowFor = 3
)

// Done is how far a plan has been carried out.
type Done struct {
	Changed int
	Gone    int // the key was not there any more
}

// Execute carries out a plan, node by node, paced by what a ping takes on a connection beside. It stops at the first thing
// that is not as the plan has it, and says how far it came. Carrying out the rest later is safe: a key that is gone stays
// gone, a TTL is set again.
func Execute(ctx context.Context, fleet *upstream.Fleet, p *Plan, progress func(Done)) (done Done, err error) {
	view, err := fleet.Look(ctx, cache.Select{})
	if err != nil {
		return done, err
	}
	stopped := func(code, next string, err error) error {
		return cache.Errorf(code, next, "stopped after %d of %d writes: %v", done.Changed+done.Gone, len(p.Writes), err)
	}
	for i := 0; i < len(p.Writes); {
		var n *upstream.Node
		for _, x := range view.Nodes {
			if x.Cluster == p.Writes[i].Cluster && x.Addr == p.Writes[i].Node {
				n = x
			}
		}
		if n == nil || n.Role != upstream.Primary || n.Down != "" {
			return done, stopped(cache.CodeStale, "make a new plan: roles have moved", fmt.Errorf("%s is no primary that answers", p.Writes[i].Node))
		}
		j := i
		for j < len(p.Writes) && p.Writes[j].Node == p.Writes[i].Node && p.Writes[j].Cluster == p.Writes[i].Cluster {
			j++
		}
		if err := onNode(ctx, n, p.Writes[i:j], &done, progress); err != nil {
			if ctx.Err() != nil {
				return done, stopped(cache.CodeCancelled, "", context.Cause(ctx))
			}
			code := cache.CodeErr
			if e, ok := errors.AsType[*cache.Error](err); ok {
				code = e.Code
			}
			return done, stopped(code, "make a new plan for the rest", err)
		}
		i = j
	}
	return done, nil
}

func onNode(ctx context.Context, n *upstream.Node, writes []Write, done *Done, progress func(Done)) error {
	c, err := n.DialWrite(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	late := 0
	began := time.Now()
	for at := 0; at < len(writes); {
		ping := time.Now()
		if _, err := n.Do(ctx, "PING"); err != nil {
			return err
		}
		if took := time.Since(ping); took > slow {
			if late++; late >= slowFor {
				return cache.Errorf(cache.CodeGuard, "", "the node is slow: a ping took %s, %d times in a row", took.Round(time.Millisecond), slowFor)
			}
			if err := sleep(ctx, 4*took); err != nil {
				return err
			}
			continue
		}
		late = 0
		some := writes[at:min(at+batch, len(writes))]
		cmds := make([][]string, len(some))
		for i, w := range some {
			cmds[i] = w.words()
		}
		vs, err := c.Pipe(ctx, cmds...)
		if err != nil {
			return err
		}
		for i, v := range vs {
			if v.Kind == cache.Err {
				code := cache.CodeErr
				if strings.HasPrefix(v.Str, "MOVED") || strings.HasPrefix(v.Str, "READONLY") || strings.HasPrefix(v.Str, "ASK") {
					code = cache.CodeStale
				}
				return cache.Errorf(code, "", "%s answered %s: %s", n.Addr, cmds[i][0], v.Str)
			}
			if v.Int > 0 {
				done.Changed++
			} else {
				done.Gone++
			}
		}
		at += len(some)
		if progress != nil {
			progress(*done)
		}
		if err := sleep(ctx, time.Duration(at)*time.Second/perSecond-time.Since(began)); err != nil {
			return err
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
