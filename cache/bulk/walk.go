package bulk

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/builtin"
	"github.com/kernwave/kernwave/cache/upstream"
)

// scanCount is SCAN's COUNT: beyond it one call is felt.
const scanCount = "50"

// walk goes over the keys of a shard from where it was, and changes those that match, a batch at a time.
func (x *node) walk(ctx context.Context) error {
	id, err := x.runID(ctx)
	if err != nil {
		return err
	}
	if id != x.p.RunID { // a restarted server has another table: what was changed is found changed
		x.p.RunID, x.p.DB, x.p.Cursor = id, 0, ""
	}
	dbs, err := x.n.Databases(ctx)
	if err != nil {
		return err
	}
	var list []int
	for db := range dbs {
		if db >= x.p.DB {
			list = append(list, db)
		}
	}
	slices.Sort(list)
	for _, db := range list {
		if db != x.p.DB {
			x.p.DB, x.p.Cursor = db, ""
		}
		if err := x.choose(ctx, db); err != nil {
			return err
		}
		if err := x.database(ctx, db); err != nil {
			return err
		}
	}
	x.p.Over = true
	return nil
}

func (x *node) database(ctx context.Context, db int) error {
	cursor := x.p.Cursor
	if cursor == "" {
		cursor = "0"
	}
	for first := true; first || cursor != "0"; {
		batch := map[string]bool{}
		pages := 0
		for (first || cursor != "0") && len(batch) < batchKeys && pages < 20 {
			first = false
			pages++
			vs, err := x.pipe(ctx, x.read, []string{"SCAN", cursor, "COUNT", scanCount})
			if err != nil {
				return err
			}
			if len(vs[0].Items) != 2 {
				return moved(x.n.Addr, vs[0])
			}
			cursor = vs[0].Items[0].Str
			for _, k := range vs[0].Items[1].Items {
				x.p.Seen++
				if builtin.Match(x.w.Plan.Match, k.Str) {
					batch[k.Str] = true
				}
			}
		}
		if err := x.batch(ctx, db, slices.Sorted(mapKeys(batch))); err != nil {
			return err
		}
		x.p.Cursor = cursor
		if err := x.w.note(x.i, x.p, false); err != nil {
			return err
		}
		x.tell(x.w.total())
	}
	return nil
}

func mapKeys(m map[string]bool) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// batch changes keys of one database.
func (x *node) batch(ctx context.Context, db int, keys []string) error {
	if x.w.Plan.Op == Expire {
		return x.expire(ctx, db, keys, 3)
	}
	sizes, err := x.fit(ctx, keys)
	if err != nil {
		return err
	}
	var some []string
	var bytes int64
	for i, k := range keys {
		if sizes[i] < 0 {
			continue
		}
		if bytes+sizes[i] > batchBytes && len(some) > 0 {
			if err := x.unlink(ctx, db, some, 3); err != nil {
				return err
			}
			some, bytes = nil, 0
		}
		some, bytes = append(some, k), bytes+sizes[i]
	}
	return x.unlink(ctx, db, some, 3)
}

// fit asks how large keys are; -1: this one is to be left alone.
func (x *node) fit(ctx context.Context, keys []string) ([]int64, error) {
	sizes := make([]int64, len(keys))
	var cmds [][]string
	for _, k := range keys {
		cmds = append(cmds, []string{"MEMORY", "USAGE", k, "SAMPLES", "5"})
		if x.w.Plan.Idle > 0 {
			cmds = append(cmds, []string{"OBJECT", "IDLETIME", k})
		}
	}
	if len(cmds) == 0 {
		return sizes, nil
	}
	vs, err := x.pipe(ctx, x.read, cmds...)
	if err != nil {
		return nil, err
	}
	per := len(cmds) / len(keys)
	for i := range keys {
		mem := vs[i*per]
		switch {
		case mem.IsNull():
			x.p.Gone++
			sizes[i] = -1
		case mem.Kind == cache.Err:
			return nil, moved(x.n.Addr, mem)
		case x.w.Plan.Idle > 0 && (vs[i*per+1].Kind != cache.Int || time.Duration(vs[i*per+1].Int)*time.Second < x.w.Plan.Idle):
			sizes[i] = -1
		case x.cap != nil && mem.Int > maxValue:
			x.p.Large++
			sizes[i] = -1
		default:
			sizes[i] = mem.Int
		}
	}
	return sizes, nil
}

// count takes the answer of one change into account. again collects keys that are not what was captured.
func (x *node) count(again *[]string) func(k Captured, v cache.Value) error {
	return func(k Captured, v cache.Value) error {
		switch {
		case v.Kind == cache.Err:
			return moved(x.n.Addr, v)
		case v.Int < 0:
			*again = append(*again, k.Key)
			x.changed.Add(-1)
		case v.Int == 0:
			x.p.Gone++
			x.changed.Add(-1)
		default:
			x.p.Changed++
		}
		return nil
	}
}

// unlink captures, if that is wanted, and unlinks. Keys that customers write meanwhile are tried a few times.
func (x *node) unlink(ctx context.Context, db int, keys []string, tries int) error {
	var again []string
	if len(keys) == 0 {
		return nil
	}
	ks := make([]Captured, len(keys))
	for i, k := range keys {
		ks[i] = Captured{Shard: x.i, DB: db, Key: k}
	}
	if x.cap == nil {
		return x.change(ctx, ks, func(k Captured) []string { return []string{"UNLINK", k.Key} }, x.count(&again))
	}
	if tries == 0 {
		x.p.Busy += int64(len(keys))
		return nil
	}
	var cmds [][]string
	for _, k := range keys {
		cmds = append(cmds, []string{"DUMP", k}, []string{"PEXPIRETIME", k})
	}
	vs, err := x.pipe(ctx, x.read, cmds...)
	if err != nil {
		return err
	}
	there := ks[:0]
	for i, k := range ks {
		d, until := vs[2*i], vs[2*i+1]
		switch {
		case d.Kind == cache.Err:
			return moved(x.n.Addr, d)
		case until.Kind == cache.Err:
			return moved(x.n.Addr, until)
		case d.IsNull() || until.Int == -2:
			x.p.Gone++
		default:
			k.Dump, k.Until = d.Str, until.Int
			there = append(there, k)
		}
	}
	if err := x.cap.keep(x.w.Plan.Capture, there); err != nil {
		return err
	}
	if err := x.change(ctx, there, unlinkWords, x.count(&again)); err != nil {
		return err
	}
	return x.unlink(ctx, db, again, tries-1)
}

// expire writes down when keys were to expire and lets them expire at an instant of their own.
func (x *node) expire(ctx context.Context, db int, keys []string, tries int) error {
	if len(keys) == 0 {
		return nil
	}
	if tries == 0 {
		x.p.Busy += int64(len(keys))
		return nil
	}
	cmds := [][]string{{"TIME"}}
	for _, k := range keys {
		cmds = append(cmds, []string{"PEXPIRETIME", k})
	}
	vs, err := x.pipe(ctx, x.read, cmds...)
	if err != nil {
		return err
	}
	now := clock(vs[0])
	if now == 0 {
		return moved(x.n.Addr, vs[0])
	}
	var ks []Captured
	p := &x.w.Plan
	for i, key := range keys {
		v := vs[1+i]
		k := Captured{Shard: x.i, DB: db, Key: key, Until: v.Int}
		switch {
		case v.Kind == cache.Err:
			return moved(x.n.Addr, v)
		case v.Int == -2:
			x.p.Gone++
			continue
		case p.NoTTL && v.Int != -1, x.is(k): // seen twice, or before the gateway was killed
			continue
		}
		k.Set = now + int64(float64(p.TTL.Milliseconds())*(1+p.Jitter*(2*rand.Float64()-1)))
		ks = append(ks, k)
	}
	if err := x.cap.keep(0, ks); err != nil {
		return err
	}
	x.set(ks)
	var again []string
	if err := x.change(ctx, ks, expireWords, x.count(&again)); err != nil {
		return err
	}
	return x.expire(ctx, db, again, tries-1)
}

// is says whether a key expires as this work has set it.
func (x *node) is(k Captured) bool {
	x.doneMu.Lock()
	defer x.doneMu.Unlock()
	t, ok := x.done[where(k)]
	return ok && t == k.Until
}

func (x *node) set(ks []Captured) {
	x.doneMu.Lock()
	defer x.doneMu.Unlock()
	for _, k := range ks {
		x.done[where(k)] = k.Set
	}
}

// countMatches is the dry run: how many keys match on one node, and how much memory they take.
func countMatches(ctx context.Context, n *upstream.Node, p *Plan, pace *upstream.Pacer) (s Shard, err error) {
	s = Shard{Cluster: n.Cluster, Addr: n.Shard}
	asks := [][]string{{"MEMORY", "USAGE"}}
	switch {
	case p.Op == Expire && p.NoTTL:
		asks = append(asks, []string{"PTTL"})
	case p.Idle > 0:
		asks = append(asks, []string{"OBJECT", "IDLETIME"})
	}
	// The walk asks about every key: only a page costs a round trip, and a key a few microseconds.
	scan := upstream.Scan{Ask: asks, Tail: [][]string{{"SAMPLES", "5"}}, Pacer: pace}
	var refused error
	scan.Page = func(_ int, keys []string, vs []cache.Value) bool {
		for i, k := range keys {
			a := vs[i*len(asks) : (i+1)*len(asks)]
			switch {
			case !builtin.Match(p.Match, k) || a[0].IsNull():
			case p.Idle > 0 && a[1].Kind == cache.Err: // of an LFU policy, which keeps no idle times
				refused = moved(n.Addr, a[1])
				return false
			case p.Op == Expire && p.NoTTL && a[1].Int != -1:
			case p.Idle > 0 && time.Duration(a[1].Int)*time.Second < p.Idle:
			default:
				s.Keys++
				s.Bytes += a[0].Int
			}
		}
		return true
	}
	got, err := scan.Run(ctx, n)
	if refused != nil {
		return s, refused
	}
	if err == nil && !got.Whole {
		err = errors.New("the walk did not come to its end")
	}
	s.Walked = got.Keys
	return s, err
}
