package judge

import (
	"math"
	"slices"
	"time"
)

// baseline is what the before says of each host, fixed when the after begins.
type baseline struct {
	mean   []float64 // of its samples; 0: none, or nothing but zeros
	level  []float64 // R over the whole before; NaN: none
	spread []float64 // logarithm of the variance of R between blocks, less that of a typical host; NaN: not known
	recent []float64 // R over the last hour less level: where the host was heading; NaN: not known
	vary   float64   // variance of R between blocks of a typical host
	hours  float64   // of samples, of a typical host

	// What hosts' changes from the first half of the before to the second differ by: a change that did not happen.
	// 0: not known.
	half, halfJumps float64
	placebo         Placebo
}

// expect is the scale of hosts' changes of level, jumps and trend that the before lets one expect after some hours. 0:
// it says nothing.
func (b *baseline) expect(after float64) (level, jumps, trend float64) {
	if !(b.vary > 0) || !(b.half > 0) || !(after > 0) || !(b.hours > 0) {
		return 0, 0, 0
	}
	by := 1/after + 1/b.hours
	blocks := float64(b.vary*by) / 6                // were ten minutes independent of the next
	halves := float64(b.half*b.half*by*b.hours) / 4 // as the halves were
	level = float64(reference.wander[0] * math.Sqrt(math.Sqrt(float64(blocks*halves))))
	trend = float64(reference.wander[2]/reference.wander[0]*level) / after * math.Sqrt(12/float64(after*by))
	if b.halfJumps > 0 {
		jumps = float64(reference.wander[1] * b.halfJumps * math.Sqrt(float64(by*b.hours)/4))
	}
	return level, jumps, trend
}

// seal closes the before.
func (k *cell) seal() {
	if k.base != nil {
		return
	}
	n := len(k.c.g.Hosts)
	b := &baseline{mean: make([]float64, n), level: make([]float64, n)}
	k.base = b
	seen := make([]float64, 0, n)
	for i := range n {
		var x, m float64
		for _, blk := range k.before {
			x += float64(blk[i].x)
			m += float64(blk[i].n)
		}
		if m > 0 {
			b.mean[i] = x / m
			seen = append(seen, m)
		}
	}
	if len(seen) > 0 {
		b.hours = median(seen) * k.c.g.Step.Hours()
	}
	common := make([]float64, len(k.before))
	for t, blk := range k.before {
		u := k.scratch[:0]
		for i, s := range blk {
			if !k.c.g.Hosts[i].Treated && s.n > 0 && b.mean[i] > 0 {
				u = append(u, float64(s.x)/float64(s.n)/b.mean[i])
			}
		}
		k.scratch = u
		common[t] = trimmed(u)
	}
	variance := make([]float64, n)
	var known []float64
	for i := range n {
		b.level[i] = k.ratioBefore(i, common, 0, len(k.before))
		variance[i] = k.varianceBefore(i, common)
		if variance[i] > 0 {
			known = append(known, variance[i])
		}
	}
	b.spread = spreadOf(variance)
	b.vary = median(known)
	middle := len(k.before) / 2
	b.recent = make([]float64, n)
	for i := range n {
		b.recent[i] = k.ratioBefore(i, common, max(0, len(k.before)-recentBlocks), len(k.before)) - b.level[i]
	}
	change, jumps := make([]float64, n), make([]float64, n)
	for i := range n {
		change[i] = k.ratioBefore(i, common, middle, len(k.before)) - k.ratioBefore(i, common, 0, middle)
		jumps[i] = k.jumps[1][i].logMean() - k.jumps[0][i].logMean()
	}
	b.half, b.halfJumps = scaleOf(change, b.spread, leastScale), scaleOf(jumps, nil, leastJumpScale)
	b.placebo = k.replay(change)
	k.before = nil
}

// ratioBefore is R of host i over blocks [from, to) of the before.
func (k *cell) ratioBefore(i int, common []float64, from, to int) float64 {
	var x, c float64
	for b := from; b < to; b++ {
		if s := k.before[b][i]; s.n > 0 && common[b] == common[b] {
			x += float64(s.x)
			c += float64(common[b] * float64(s.n))
		}
	}
	return logRatio(x, c, k.base.mean[i])
}

// logRatio is ln(x/c), where x is expected to be level times c and is taken for a thousandth of that at least.
func logRatio(x, c, level float64) float64 {
	if !(c > 0) || !(level > 0) {
		return nan
	}
	return ln(max(x, 0.001*level*c) / c)
}

// recentBlocks makes an hour of blocks.
const recentBlocks = int(time.Hour / block)

// spreadBlocks makes ten minutes of blocks.
const spreadBlocks = int(10 * time.Minute / block)

// varianceBefore is how much R of host i varies between ten minutes and the next: the variance, with the lots of each
// tenth of an hour counted alike. NaN: not known.
func (k *cell) varianceBefore(i int, common []float64) float64 {
	var s, n, q float64
	for to := len(k.before); to >= spreadBlocks; to -= spreadBlocks { // the newest first
		r := k.ratioBefore(i, common, to-spreadBlocks, to)
		if r != r {
			continue
		}
		d := r - k.base.level[i]
		s += d
		q += float64(d * d)
		n++
	}
	if n < 4 {
		return nan
	}
	return math.Max(0, q-float64(s*s)/n) / (n - 1)
}

// scaleOf is how much values of hosts differ: a scale of Student's t. 0: too few are known.
func scaleOf(y, spread []float64, least float64) float64 {
	y = append(slices.Clone(y), 0) // a fit wants a treated host
	treated := make([]bool, len(y))
	treated[len(y)-1] = true
	if spread != nil {
		spread = append(slices.Clone(spread), 0)
	}
	f, ok := newShift(lookFor{y: y, spread: spread, treated: treated}, least)
	if !ok || f.nc < 4 {
		return 0
	}
	return f.scale
}
