package bulk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

// index finds for each key of a capture the entry that counts, by the byte it begins at.
type index struct {
	last map[string]int64 // by where
	old  map[string]int64 // expire: the instant to go back to
	keys []int64          // by shard
}

// indexOf reads a capture. A key may be in it more than once: unlinked, made again and unlinked again, where the last value
// counts; or it was set to expire twice, once before and once after the gateway was killed, where the first instant counts.
func indexOf(f *os.File, op string, shards int) (*index, error) {
	x := &index{last: map[string]int64{}, old: map[string]int64{}, keys: make([]int64, shards)}
	set := map[string]int64{}
	_, err := readCapture(f, func(k Captured, at int64) error {
		if k.Shard >= shards {
			return fmt.Errorf("the capture is of another plan: it has a shard %d", k.Shard)
		}
		w := where(k)
		if _, seen := x.last[w]; !seen {
			x.keys[k.Shard]++
		}
		if op == Expire {
			if was, seen := set[w]; !seen || was != k.Until {
				x.old[w] = k.Until
			}
			set[w] = k.Set
		}
		x.last[w] = at
		return nil
	})
	return x, err
}

// planUndo is a plan that undoes w. It counts what was captured; what of it can be put back shows when it is tried.
func planUndo(w *Work) (*Plan, error) {
	f, err := os.Open(w.capturePath())
	if err != nil {
		return nil, cache.Errorf(cache.CodeErr, "", "%s captured nothing, so it cannot be undone", w.ID)
	}
	defer f.Close()
	x, err := indexOf(f, w.Plan.Op, len(w.Plan.Shards))
	if err != nil {
		return nil, fmt.Errorf("the capture of %s: %w", w.ID, err)
	}
	p := &Plan{Op: Undo, Of: w.ID, Rate: w.Plan.Rate}
	for i, s := range w.Plan.Shards {
		p.Shards = append(p.Shards, Shard{Cluster: s.Cluster, Addr: s.Addr, Keys: x.keys[i]})
	}
	return p, nil
}

// undo puts back what a work has changed.
func (r *run) undo(ctx context.Context) error {
	of := r.m.find(r.w.Plan.Of)
	if of == nil {
		return cache.Errorf(cache.CodeErr, "", "%s is not kept any more", r.w.Plan.Of)
	}
	f, err := os.Open(of.capturePath())
	if err != nil {
		return err
	}
	defer f.Close()
	idx, err := indexOf(f, of.Plan.Op, len(of.Plan.Shards))
	if err != nil {
		return err
	}
	return r.each(ctx, func(ctx context.Context, x *node) error {
		x.p = Progress{} // from the beginning: what is back already is found there
		return x.putBack(ctx, of.Plan.Op, f, idx)
	})
}

// putBack goes through the capture and puts back what belongs to the shard.
func (x *node) putBack(ctx context.Context, op string, f *os.File, idx *index) error {
	db := -1
	var some []Captured
	var bytes int64
	flush := func() error {
		if len(some) == 0 {
			return nil
		}
		if some[0].DB != db {
			db = some[0].DB
			if err := x.choose(ctx, db); err != nil {
				return err
			}
		}
		err := x.back(ctx, op, some)
		some, bytes = nil, 0
		if err == nil {
			x.p.DB = db
			err = x.w.note(x.i, x.p, false)
			x.tell(x.w.total())
		}
		return err
	}
	_, err := readCapture(f, func(k Captured, at int64) error {
		if k.Shard != x.i || idx.last[where(k)] != at {
			return nil
		}
		if op == Expire {
			k.Until = idx.old[where(k)]
		}
		if len(some) > 0 && (some[0].DB != k.DB || len(some) >= batchKeys || bytes+int64(len(k.Dump)) > batchBytes) {
			if err := flush(); err != nil {
				return err
			}
		}
		some, bytes = append(some, k), bytes+int64(len(k.Dump))
		x.p.Seen++
		return nil
	})
	if err == nil {
		err = flush()
	}
	x.p.Over = err == nil
	return err
}

// back puts some keys of one database back.
func (x *node) back(ctx context.Context, op string, ks []Captured) error {
	vs, err := x.pipe(ctx, x.write, []string{"TIME"})
	if err != nil {
		return err
	}
	now := clock(vs[0])
	live := ks[:0]
	for _, k := range ks {
		if k.Until != -1 && k.Until <= now {
			x.p.Expired++ // it would not be there any more anyway
			continue
		}
		live = append(live, k)
	}
	if op == Expire {
		return x.change(ctx, live, unexpireWords, func(_ Captured, v cache.Value) error {
			switch {
			case v.Kind == cache.Err:
				return moved(x.n.Addr, v)
			case v.Int == 0:
				x.p.Gone++
			case v.Int == 2:
				x.p.There++
			case v.Int < 0:
				x.p.Kept++
			default:
				x.p.Changed++
			}
			return nil
		})
	}
	var taken []Captured
	err = x.change(ctx, live, restoreWords, func(k Captured, v cache.Value) error {
		switch {
		case v.Kind != cache.Err:
			x.p.Changed++
		case upstream.Refused(v, "BUSYKEY"):
			taken = append(taken, k)
		case strings.HasPrefix(v.Str, "OOM"):
			return cache.Errorf(cache.CodeGuard, "", "%s has no memory left: %s", x.n.Addr, v.Str)
		default:
			return moved(x.n.Addr, v)
		}
		return nil
	})
	return errors.Join(err, x.compare(ctx, taken))
}

// compare tells keys that are as they were from those that someone has written since, which stay as they are.
func (x *node) compare(ctx context.Context, ks []Captured) error {
	if len(ks) == 0 {
		return nil
	}
	cmds := make([][]string, len(ks))
	for i, k := range ks {
		cmds[i] = []string{"DUMP", k.Key}
	}
	vs, err := x.pipe(ctx, x.read, cmds...)
	if err != nil {
		return err
	}
	for i, v := range vs {
		if alike(v.Str, ks[i].Dump) {
			x.p.There++
		} else {
			x.p.Kept++
		}
	}
	return nil
}

// alike says whether two dumps are of the same value, for the count only: of hashes and sets, whose elements have no order,
// a server may write the same ones in another.
func alike(a, b string) bool {
	const tail = 10 // version and checksum
	if a == b || len(a) != len(b) || len(a) < tail || a[0] != b[0] {
		return a == b
	}
	var n [256]int
	for i := range len(a) - tail {
		n[a[i]]++
		n[b[i]]--
	}
	return n == [256]int{}
}
