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

// Scan walks over the keys of one node, page by page, and asks the same questions about each key. While the server answers
// about one page, the next SCAN is under way on a connection of its own, so a page costs at most one round trip; and many small commands let
// customers in between, which one big one would not.
type Scan struct {
	// Ask are commands to send for each key, whose name is appended: {"MEMORY", "USAGE"}, {"PTTL"}.
	Ask [][]string
	// Tail is appended after the key to the command of the same index; nil: nothing.
	Tail [][]string
	// Pacer throttles, by the size of pages and by pauses; nil: nothing does.
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
	walk, err := n.Dial(ctx)
	if err != nil {
		return got, err
	}
	defer walk.Close()
	ask, err := n.Dial(ctx)
	if err != nil {
		return got, err
	}
	defer ask.Close()
	for _, db := range slices.Sorted(mapKeys(dbs)) {
		for _, c := range []*Conn{walk, ask} {
			if db == 0 {
				continue
			}
			v, err := c.Do(ctx, "SELECT", strconv.Itoa(db))
			if err == nil && v.Kind == cache.Err {
				err = errors.New(v.Str)
			}
			if err != nil {
				return got, &Failure{Node: n.Addr, Err: err}
			}
		}
		more, err := s.database(ctx, n, walk, ask, db, &got)
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

// database walks over one database. SCAN has a connection of its own, and the questions about a page are sent before the
// answers about the page before are read: the server does not wait for the gateway, nor the gateway for the server.
func (s Scan) database(ctx context.Context, n *Node, walk, ask *Conn, db int, got *Scanned) (more bool, err error) {
	count := pageMost
	cursor, first := "0", true
	var keys, asked []string // of this page, and of the one whose answers are on their way
	for first || cursor != "0" || len(keys) > 0 || len(asked) > 0 {
		began := time.Now()
		scan := first || cursor != "0"
		if s.Pacer != nil {
			count = s.Pacer.Keys()
		}
		if scan {
			walk.Queue("SCAN", cursor, "COUNT", strconv.Itoa(count))
			err = walk.Send()
		}
		s.queue(ask, keys)
		if err = errors.Join(err, ask.Send()); err != nil {
			return false, &Failure{Node: n.Addr, Err: reason(ctx, err)}
		}
		first = false
		if more, err := s.page(ctx, n, ask, db, asked, got); err != nil || !more {
			return false, err
		}
		asked, keys = keys, asked[:0]
		if scan {
			if cursor, keys, err = s.next(ctx, n, walk, keys); err != nil {
				return false, err
			}
		}
		if s.Pacer != nil {
			if err := s.Pacer.Walked(ctx, count, time.Since(began)); err != nil {
				return false, &Failure{Node: n.Addr, Err: err}
			}
		}
	}
	return true, nil
}

// queue puts the questions about keys.
func (s Scan) queue(c *Conn, keys []string) {
	var words []string
	for _, k := range keys {
		for i, ask := range s.Ask {
			words = append(append(words[:0], ask...), k)
			if i < len(s.Tail) {
				words = append(words, s.Tail[i]...)
			}
			c.Queue(words...)
		}
	}
}

// page reads the answers about keys and hands them over.
func (s Scan) page(ctx context.Context, n *Node, ask *Conn, db int, keys []string, got *Scanned) (more bool, err error) {
	if len(keys) == 0 {
		return true, nil
	}
	vs, err := timed(ctx, ask, len(keys)*len(s.Ask))
	if err != nil {
		return false, &Failure{Node: n.Addr, Err: err}
	}
	got.Keys += int64(len(keys))
	return s.Page(db, keys, vs), nil
}

// next reads what SCAN says, into keys.
func (s Scan) next(ctx context.Context, n *Node, walk *Conn, keys []string) (string, []string, error) {
	vs, err := timed(ctx, walk, 1)
	if err != nil {
		return "", nil, &Failure{Node: n.Addr, Err: err}
	}
	if len(vs[0].Items) != 2 {
		return "", nil, &Failure{Node: n.Addr, Err: errors.New("SCAN: " + vs[0].Str)}
	}
	for _, k := range vs[0].Items[1].Items {
		keys = append(keys, k.Str)
	}
	return vs[0].Items[0].Str, keys, nil
}

var errPage = fmt.Errorf("no answer within %s", pageTimeout)

func timed(ctx context.Context, c *Conn, n int) ([]cache.Value, error) {
	one, cancel := context.WithTimeoutCause(ctx, pageTimeout, errPage)
	defer cancel()
	return c.Read(one, n)
}

// pageTimeout is how long one page may take: a server that is this slow must be left alone.
const pageTimeout = 10 * time.Second
