package judge

import (
	"math"
	"slices"
	"time"
)

// cell is what is remembered of one signal of a group.
type cell struct {
	c   *Comparison
	sig Signal
	n   int // samples seen

	before [][]sum // by block, oldest first, and by host; dropped when the after begins
	base   *baseline
	after  []after // by host

	jumps   [3][]jump // in the first half of the before, in its second half, and after; by host
	last    []float64 // sample of each host
	scratch []float64
}

// sum is some samples of one host.
type sum struct {
	x float32
	n uint32
}

// after is what is remembered of a host's after: sums of its samples x, of the common movement c at the same times,
// and of both by the time t, in hours since the change of the type began.
type after struct {
	x, c, tx, tc, ttc float64
	n                 int
	last              int // index of the last sample
}

// jump is how much a host moves from one sample to the next: |x-y|/(x+y), which needs no logarithm and bears zeros.
type jump struct {
	sum float64
	n   int
}

func (j *jump) add(a, b float64) {
	if a+b > 0 {
		j.sum += math.Abs(a-b) / (a + b)
		j.n++
	}
}

// with is both together.
func (j jump) with(o jump) jump { return jump{j.sum + o.sum, j.n + o.n} }

// leastJumps is how many moves a host must show, and leastMove the smallest mean move that is told from none.
const (
	leastJumps = 10
	leastMove  = 1e-6
)

// logMean is the logarithm of the mean, NaN where there is too little.
func (j jump) logMean() float64 {
	if j.n < leastJumps {
		return nan
	}
	return ln(j.sum/float64(j.n) + leastMove)
}

func newCell(c *Comparison, s Signal) *cell {
	n := len(c.g.Hosts)
	return &cell{
		c: c, sig: s, after: make([]after, n), last: slices.Repeat([]float64{nan}, n),
		jumps: [3][]jump{make([]jump, n), make([]jump, n), make([]jump, n)}, scratch: make([]float64, 0, n),
	}
}

func (k *cell) observe(values []float64) {
	at := k.c.g.Start.Add(time.Duration(k.n) * k.c.g.Step)
	index := k.n
	k.n++
	if at.Before(k.c.g.T0) {
		b := int(at.Sub(k.c.g.Start) / block)
		half := k.jumps[0]
		if at.Sub(k.c.g.Start) >= k.c.g.T0.Sub(at) {
			half = k.jumps[1]
		}
		for len(k.before) <= b {
			k.before = append(k.before, make([]sum, len(values)))
		}
		for i, v := range values {
			if v != v {
				continue
			}
			k.before[b][i].x += float32(v)
			k.before[b][i].n++
			if p := k.last[i]; p == p {
				half[i].add(p, v)
			}
		}
		copy(k.last, values)
		return
	}
	k.seal()
	common := k.common(values, at)
	if common >= 0 { // else no control was there: nothing can be compared
		hours := at.Sub(k.c.g.T0).Hours()
		for i, v := range values {
			if v != v || at.Before(k.c.settled[i]) {
				continue
			}
			a := &k.after[i]
			a.x += v
			a.c += common
			a.tx += float64(hours * v)
			tc := float64(hours * common)
			a.tc += tc
			a.ttc += float64(hours * tc)
			a.last = index
			if p := k.last[i]; p == p && a.n > 0 {
				k.jumps[2][i].add(p, v)
			}
			a.n++
		}
	}
	copy(k.last, values)
}

// common is how much of its mean before the typical control shows at one time: a trimmed mean over those present.
func (k *cell) common(values []float64, at time.Time) float64 {
	u := k.scratch[:0]
	for i, v := range values {
		if v == v && !k.c.g.Hosts[i].Treated && k.base.mean[i] > 0 && !k.c.down[i].has(at) {
			u = append(u, v/k.base.mean[i])
		}
	}
	k.scratch = u
	return trimmed(u)
}
