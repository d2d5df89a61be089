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

	before [][]sum // by block, oldest first; by host
	after  [][]pair
	seen   []int     // samples of each host in the after
	base   *baseline // when the after has begun

	// moves are how much each host jumps from one sample to the next, against the controls, in log units.
	moves [2][]mover // before and after; by host
	last  []float64

	scratch []float64
}

// sum is some samples of one host.
type sum struct {
	x float32
	n uint32
}

// pair is some samples of one host and the common movement at the same times.
type pair struct{ x, c float32 }

type mover struct {
	sum float64
	n   int
}

func newCell(c *Comparison, s Signal) *cell {
	n := len(c.g.Hosts)
	return &cell{c: c, sig: s, seen: make([]int, n), last: slices.Repeat([]float64{nan}, n), moves: [2][]mover{make([]mover, n), make([]mover, n)}}
}

func (k *cell) observe(values []float64) {
	at := k.c.g.Start.Add(time.Duration(k.n) * k.c.g.Step)
	k.n++
	k.jump(values, at)
	if at.Before(k.c.g.T0) {
		b := int(at.Sub(k.c.g.Start) / block)
		for len(k.before) <= b {
			k.before = append(k.before, make([]sum, len(values)))
		}
		for i, v := range values {
			if v == v {
				k.before[b][i].x += float32(v)
				k.before[b][i].n++
			}
		}
		return
	}
	k.seal()
	common := k.common(values, at)
	if !(common >= 0) {
		return // no control was there: nothing can be compared
	}
	b := int(at.Sub(k.c.g.T0) / block)
	for len(k.after) <= b {
		k.after = append(k.after, make([]pair, len(values)))
	}
	for i, v := range values {
		if v == v && !at.Before(k.c.settled[i]) {
			k.after[b][i].x += float32(v)
			k.after[b][i].c += float32(common)
			k.seen[i]++
		}
	}
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

// jump follows how much hosts move from sample to sample. A level that is common to the controls does not count.
func (k *cell) jump(values []float64, at time.Time) {
	d := k.scratch[:0]
	for i, v := range values {
		if !k.c.g.Hosts[i].Treated && v > 0 && k.last[i] > 0 && !k.c.down[i].has(at) {
			d = append(d, math.Log(v/k.last[i]))
		}
	}
	k.scratch = d
	common := median(d)
	for i, v := range values {
		if v > 0 && k.last[i] > 0 && common == common {
			switch {
			case at.Before(k.c.g.T0):
				k.moves[0][i].add(math.Abs(math.Log(v/k.last[i]) - common))
			case !at.Before(k.c.settled[i]):
				k.moves[1][i].add(math.Abs(math.Log(v/k.last[i]) - common))
			}
		}
		k.last[i] = v
	}
}

func (m *mover) add(x float64) { m.sum += x; m.n++ }

// logMean is the logarithm of the mean, NaN where there is too little.
func (m mover) logMean() float64 {
	if m.n < 5 || !(m.sum > 0) {
		return nan
	}
	return math.Log(m.sum / float64(m.n))
}

// trimmed is the mean without the largest and the smallest tenth. It changes the order of u. NaN: u is empty.
func trimmed(u []float64) float64 {
	if len(u) == 0 {
		return nan
	}
	slices.Sort(u)
	cut := len(u) / 10
	return mean(u[cut : len(u)-cut])
}

func mean(u []float64) float64 {
	s := 0.0
	for _, v := range u {
		s += v
	}
	return s / float64(len(u))
}

// median changes the order of u. NaN: u is empty.
func median(u []float64) float64 {
	if len(u) == 0 {
		return nan
	}
	slices.Sort(u)
	m := len(u) / 2
	if len(u)%2 == 1 {
		return u[m]
	}
	return (u[m-1] + u[m]) / 2
}
