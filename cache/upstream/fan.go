package upstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Got is what one node answered.
type Got[T any] struct {
	Node *Node
	Val  T
	Took time.Duration
}

// Answers is what a fan-out brought: the answers in the order of the nodes, and who did not answer.
type Answers[T any] struct {
	Got    []Got[T]
	Failed []*Failure
	Asked  int
}

// Coverage is the part of the nodes that answered, in [0,1]; 0 where nobody was asked.
func (a Answers[T]) Coverage() float64 {
	if a.Asked == 0 {
		return 0
	}
	return float64(len(a.Got)) / float64(a.Asked)
}

// Ask runs fn for all nodes at once, at most 256 at a time, each within timeout (zero: the cluster's own). A node that is
// known to be down is asked again: it may be back. It returns when the last one has answered, failed, or run out of
// time; when ctx ends that is at once. Nothing is left running.
func Ask[T any](ctx context.Context, nodes []*Node, timeout time.Duration, fn func(ctx context.Context, n *Node) (T, error)) Answers[T] {
	type slot struct {
		val  T
		err  error
		took time.Duration
	}
	slots := make([]slot, len(nodes))
	var wg sync.WaitGroup
	free := make(chan struct{}, 256)
	for i, n := range nodes {
		wg.Go(func() {
			select {
			case free <- struct{}{}:
				defer func() { <-free }()
			case <-ctx.Done():
				slots[i].err = context.Cause(ctx)
				return
			}
			d := timeout
			switch {
			case d == 0:
				d = n.cluster.cfg.Timeout
			case d < 0: // see AskLong
				d = -d + 2*n.cluster.cfg.Timeout
			}
			one, cancel := context.WithTimeoutCause(ctx, d, fmt.Errorf("no answer within %s", d))
			defer cancel()
			began := time.Now()
			v, err := fn(one, n)
			slots[i] = slot{v, err, time.Since(began)}
		})
	}
	wg.Wait()
	a := Answers[T]{Asked: len(nodes)}
	for i, s := range slots {
		switch {
		case s.err == nil:
			a.Got = append(a.Got, Got[T]{nodes[i], s.val, s.took})
		default:
			f, ok := errors.AsType[*Failure](s.err)
			if !ok {
				f = &Failure{Node: nodes[i].Addr, Err: s.err}
			}
			a.Failed = append(a.Failed, f)
		}
	}
	return a
}

// AskLong is Ask for questions that take work by themselves, such as looking for a while: each node has that long and
// twice its own timeout.
func AskLong[T any](ctx context.Context, nodes []*Node, work time.Duration, fn func(ctx context.Context, n *Node) (T, error)) Answers[T] {
	return Ask(ctx, nodes, -max(work, 1), fn)
}
