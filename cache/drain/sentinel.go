package drain

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

// elect makes Sentinels promote this process before any other, and pass it over as soon as it is restarted: it has the first replica-priority, and its
// file says 0. When it becomes the primary, by whomever, its file says what the process has; lift puts back what it was.
func elect(ctx context.Context, c *upstream.Conn) error {
	return together(ctx, c, []string{"CONFIG", "SET", "replica-priority", "0"}, []string{"CONFIG", "REWRITE"}, []string{"CONFIG", "SET", "replica-priority", "1"})
}

// agreed says whether every Sentinel that answers calls the heir the primary, and tells one to fail over while none does and none is at it. It may
// have learned of the heir just then, and would look for another one: the old primary stands aside (oldAside), as all others do.
func (k *Keeper) agreed(ctx context.Context, p *Part) bool {
	group, words, err := k.words(ctx, p)
	if err != nil {
		return false
	}
	var behind *upstream.Node
	known, busy := false, false
	for _, w := range words {
		switch {
		case w.err != nil:
		case w.primary == p.To:
			known = true
		default:
			behind = w.from
		}
		busy = busy || w.failingOver()
	}
	if behind != nil && !known && !busy {
		_, _ = behind.Do(ctx, "SENTINEL", "FAILOVER", group)
	}
	return behind == nil && !busy
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
		if w.primary != p.Addr {
			return "", nil, cache.Errorf(cache.CodeStale, "look with CACHE.NODES, and drain it again", "Sentinel %s calls %s the primary of %s", w.from.Addr, w.primary, group)
		}
		if w.flags != "master" {
			return "", nil, cache.Errorf(cache.CodeGuard, "wait until it is over", "Sentinel %s says of %s: %s", w.from.Addr, group, w.flags)
		}
		// What it has heard last, up to 10 s ago; of a primary it would not hear it, and so never agree.
		heard, err := priorities(ctx, w.from, group)
		if err != nil {
			return "", nil, err
		}
		if heard[p.To] == "0" {
			return "", nil, cache.Errorf(cache.CodeGuard, "drain it again in 10 s, when it has looked again", "Sentinel %s would not promote %s: it has heard of replica-priority 0", w.from.Addr, p.To)
		}
	}
	one = words[0].from
	if v, err := one.Do(ctx, "SENTINEL", "CKQUORUM", group); err != nil || !strings.HasPrefix(v.Str, "OK") {
		return "", nil, errors.Join(cache.Errorf(cache.CodeGuard, "see that the Sentinels run", "the Sentinels of %s have no quorum: %s", group, v.Str), err)
	}
	return group, one, nil
}
