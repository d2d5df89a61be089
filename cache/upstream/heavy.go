package upstream

import (
	"context"
	"sync"
)

// Heavy sees to it that at most one heavy job at a time works on a machine and on a shard: a primary and its replica are
// never both under load, nor two servers that share one machine.
type Heavy struct {
	mu   sync.Mutex
	busy map[string]string // host:… or shard:… → job
	free chan struct{}     // closed and replaced when something becomes free
}

// NewHeavy returns one that nobody holds.
func NewHeavy() *Heavy { return &Heavy{busy: map[string]string{}, free: make(chan struct{})} }

// Take waits until n's machine and shard are free and takes both. Waiting calls wait once with the job that holds them.
func (h *Heavy) Take(ctx context.Context, n *Node, job string, wait func(holder string)) (release func(), err error) {
	keys := []string{"host:" + n.Host, "shard:" + n.Cluster + "/" + n.Shard}
	said := false
	for {
		h.mu.Lock()
		holder := ""
		for _, k := range keys {
			if j, ok := h.busy[k]; ok {
				holder = j
			}
		}
		if holder == "" {
			for _, k := range keys {
				h.busy[k] = job
			}
			h.mu.Unlock()
			return sync.OnceFunc(func() {
				h.mu.Lock()
				defer h.mu.Unlock()
				for _, k := range keys {
					delete(h.busy, k)
				}
				close(h.free)
				h.free = make(chan struct{})
			}), nil
		}
		free := h.free
		h.mu.Unlock()
		if !said && holder != job && wait != nil {
			said = true
			wait(holder)
		}
		select {
		case <-free:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
