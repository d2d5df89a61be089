package upstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kernwave/kernwave/cache"
)

// Scan walks over the keys of one node, page by page, and asks the same questions about each key. The questions about one
// page and the next SCAN go out together, so a page costs one round trip, and many small commands let customers in
// between, which one big one would not.
type Scan struct {
	// Count is SCAN's COUNT. Zero means 50: beyond it one call is felt, below it the overhead of a page counts.
	Count int
	// Ask are commands to send for each key, whose name is appended: {"MEMORY", "USAGE"}, {"PTTL"}.
	Ask [][]string
	// Tail is appended after the key to the command of the same index; nil: nothing.
	Tail [][]string
	// Pacer throttles; nil: nothing does.
	Pacer *Pacer
	// Page gets the keys of one page and the answers, len(Ask) for each key. Returning false ends the scan.
	Page func(db int, keys []string, answers []cache.Value) bool
}

// Scanned is how far a scan came.
type Scanned struct {
	Keys  int64 // seen; a key may be seen twice while a table is resized
	Size  int64 // how many there were at the beginning
	Whole bool  // the scan came to its end
}

// Coverage is the part of the node's keys that was seen, in [0,1].
func (s Scanned) Coverage() float64 {
	switch {
	case s.Whole:
		return 1
	case s.Size == 0:
		return 0
	}
	return min(1, float64(s.Keys)/float64(s.Size))
}

// Databases returns the databases of the node that hold keys, and how many.
func (n *Node) Databases(ctx context.Context) (map[int]int64, error) {
	v, err := n.Do(ctx, "INFO", "keyspace")
	if err != nil {
		return nil, err
	}
	out := map[int]int64{}
	for k, line := range ParseInfo(v.Str) {
		if id, ok := strings.CutPrefix(k, "db"); ok {
			if db, err := strconv.Atoi(id); err == nil {
				out[db], _ = strconv.ParseInt(Fields(line)["keys"], 10, 64)
			}
		}
	}
	return out, nil
}

// Run walks over all databases of n. What it returns beside an error is how far it came.
func (s Scan) Run(ctx context.Context, n *Node) (Scanned, error) {
	var got Scanned
	dbs, err := n.Databases(ctx)
	if err != nil {
		return got, err
	}
	for _, size := range dbs {
		got.Size += size
	}
	c, err := n.Dial(ctx)
	if err != nil {
		return got, err
	}
	defer c.Close()
	for _, db := range slices.Sorted(mapKeys(dbs)) {
		if db != 0 {
			v, err := c.Do(ctx, "SELECT", strconv.Itoa(db))
			if err == nil && v.Kind == cache.Err {
				err = errors.New(v.Str)
			}
			if err != nil {
				return got, &Failure{Node: n.Addr, Err: err}
			}
		}
		more, err := s.database(ctx, n, c, db, &got)
		if err != nil || !more {
			return got, err
		}
	}
	got.Whole = true
	return got, nil
}

func mapKeys(m map[int]int64) func(func(int) bool) {
	return func(yield func(int) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// database walks over one database.
func (s Scan) database(ctx context.Context, n *Node, c *Conn, db int, got *Scanned) (more bool, err error) {
	count := s.Count
	if count == 0 {
		count = 50
	}
	cs := strconv.Itoa(count)
	cursor := "0"
	var keys []string
	first := true
	for first || cursor != "0" || len(keys) > 0 {
		began := time.Now()
		questions := 0
		for _, k := range keys {
			for i, ask := range s.Ask {
				words := append(slices.Clone(ask), k)
				if i < len(s.Tail) {
					words = append(words, s.Tail[i]...)
				}
				c.Queue(words...)
				questions++
			}
		}
		scan := first || cursor != "0"
		if scan {
			c.Queue("SCAN", cursor, "COUNT", cs)
			questions++
		}
		one, cancel := context.WithTimeoutCause(ctx, pageTimeout, fmt.Errorf("no answer within %s", pageTimeout))
		vs, err := c.Read(one, questions)
		cancel()
		if err != nil {
			return false, &Failure{Node: n.Addr, Err: err}
		}
		if len(keys) > 0 {
			got.Keys += int64(len(keys))
			if !s.Page(db, keys, vs[:len(keys)*len(s.Ask)]) {
				return false, nil
			}
		}
		keys = keys[:0]
		if scan {
			last := vs[len(vs)-1]
			if last.Kind == cache.Err || len(last.Items) != 2 {
				return false, &Failure{Node: n.Addr, Err: errors.New("SCAN: " + last.Str)}
			}
			cursor = last.Items[0].Str
			for _, k := range last.Items[1].Items {
				keys = append(keys, k.Str)
			}
		}
		first = false
		if s.Pacer != nil {
			if err := s.Pacer.Page(ctx, time.Since(began)); err != nil {
				return false, &Failure{Node: n.Addr, Err: err}
			}
		}
	}
	return true, nil
}

// pageTimeout is how long one page may take: a server that is this slow must be left alone.
const pageTimeout = 10 * time.Second
