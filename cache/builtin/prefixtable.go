package builtin

import (
	"math"
	"math/bits"
	"slices"
	"strings"
)

// prefixOf is what a key counts under.
func prefixOf(key, sep string, depth int) string {
	end := 0
	for range depth {
		i := strings.Index(key[end:], sep)
		if i < 0 {
			break
		}
		end += i + len(sep)
	}
	return key[:end]
}

// ttlHist counts times to live by half powers of two of milliseconds.
type ttlHist struct {
	none, some int64
	at         [84]int64
}

func (h *ttlHist) add(ms int64) {
	if ms < 0 {
		h.none++
		return
	}
	h.some++
	h.at[halfLog(ms)]++
}

// halfLog is the class of ms: two for each power of two.
func halfLog(ms int64) int {
	if ms < 1 {
		return 0
	}
	b := bits.Len64(uint64(ms)) - 1
	i := 2 * b
	if float64(ms) >= math.Ldexp(math.Sqrt2, b) {
		i++
	}
	return min(i, 83)
}

// quantile is the upper end of the class in which the q-th part lies; -1 where nothing expires.
func (h *ttlHist) quantile(q float64) int64 {
	want := int64(math.Ceil(q * float64(h.some)))
	for i, n := range h.at {
		if want -= n; want <= 0 && h.some > 0 {
			return int64(math.Exp2(float64(i+1) / 2))
		}
	}
	return -1
}

func (h *ttlHist) merge(o *ttlHist) {
	h.none += o.none
	h.some += o.some
	for i := range h.at {
		h.at[i] += o.at[i]
	}
}

// prefixes is what one node's walk saw.
type prefixes struct {
	by  map[string]*tally
	ttl map[string]*ttlHist
	pop population
	cut string // the node, where the walk ended early and what it saw stands for itself only
}

func (p *prefixes) add(name string, bytes float64, ttl int64) {
	t := p.by[name]
	if t == nil {
		if len(p.by) >= maxPrefixes {
			name = othersName
		}
		if t = p.by[name]; t == nil {
			t = &tally{}
			p.by[name], p.ttl[name] = t, &ttlHist{}
		}
	}
	t.add(bytes)
	p.ttl[name].add(ttl)
}

// estimates scales the node's tallies up; names are in the order of the estimates.
func (p *prefixes) estimates() (names []string, es []estimate) {
	for name := range p.by {
		names = append(names, name)
	}
	slices.Sort(names)
	all := make([]tally, len(names))
	for i, name := range names {
		all[i] = *p.by[name]
	}
	return names, estimates(p.pop, all)
}

// good says whether no interval is wider than eps percent of all bytes to either side.
func (p *prefixes) good(eps float64) bool {
	if p.pop.seen < 1000 {
		return false
	}
	_, es := p.estimates()
	total := 0.0
	for _, e := range es {
		total += e.bytes
	}
	for _, e := range es {
		if e.bytesCI.hi-e.bytes > total*eps/100 || e.bytes-e.bytesCI.lo > total*eps/100 {
			return false
		}
	}
	return true
}
