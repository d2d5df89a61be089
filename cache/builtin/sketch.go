package builtin

import (
	"container/heap"
	"slices"
	"strings"
)

// spaceSaving counts the heaviest of many in little memory. Every one with more than total/k is in it, and its count is
// at most err too high.
//
// Source: A. Metwally, D. Agrawal, A. El Abbadi, Efficient Computation of Frequent and Top-k Elements in Data Streams,
// ICDT 2005.
type spaceSaving struct {
	k     int
	byKey map[string]*counter
	heap  counterHeap
	total int64
}

type counter struct {
	key    string
	n, err int64
	at     int // in the heap

	writes  int64
	sq      float64 // sum of the squares of its count in each burst
	clients map[string]struct{}
	node    string
}

func newSpaceSaving(k int) *spaceSaving { return &spaceSaving{k: k, byKey: map[string]*counter{}} }

// add counts n of key and returns its counter.
func (s *spaceSaving) add(key string, n int64) *counter {
	s.total += n
	c := s.byKey[key]
	switch {
	case c != nil:
	case len(s.heap) < s.k:
		c = &counter{key: key}
		s.byKey[key] = c
		heap.Push(&s.heap, c)
	default: // the lightest makes room, and its count is what the new one may have had
		c = s.heap[0]
		delete(s.byKey, c.key)
		*c = counter{key: key, n: c.n, err: c.n, at: c.at}
		s.byKey[key] = c
	}
	c.n += n
	heap.Fix(&s.heap, c.at)
	return c
}

// top returns the n heaviest, heaviest first.
func (s *spaceSaving) top(n int) []*counter {
	list := slices.Clone(s.heap)
	slices.SortFunc(list, func(a, b *counter) int {
		if a.n != b.n {
			if a.n > b.n {
				return -1
			}
			return 1
		}
		return strings.Compare(a.key, b.key)
	})
	return list[:min(n, len(list))]
}

type counterHeap []*counter

func (h counterHeap) Len() int           { return len(h) }
func (h counterHeap) Less(i, j int) bool { return h[i].n < h[j].n }
func (h counterHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

func (h *counterHeap) Push(x any) {
	c := x.(*counter)
	c.at = len(*h)
	*h = append(*h, c)
}

func (h *counterHeap) Pop() any {
	old := *h
	c := old[len(old)-1]
	*h = old[:len(old)-1]
	return c
}
