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
	recent []float64 // R over its last hour, less level; NaN: none
	weight []float64 // how much a host tells, against a typical one
}

// seal closes the before.
func (k *cell) seal() {
	if k.base != nil {
		return
	}
	n := len(k.c.g.Hosts)
	b := &baseline{mean: make([]float64, n), level: make([]float64, n), recent: make([]float64, n), weight: make([]float64, n)}
	k.base = b
	for i := range n {
		var x, m float64
		for _, blk := range k.before {
			x += float64(blk[i].x)
			m += float64(blk[i].n)
		}
		if m > 0 {
			b.mean[i] = x / m
		}
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
	hour := max(0, len(k.before)-int(time.Hour/block))
	scale := make([]float64, n)
	var scales []float64
	for i := range n {
		b.level[i] = k.ratioBefore(i, common, 0, len(k.before))
		b.recent[i] = k.ratioBefore(i, common, hour, len(k.before)) - b.level[i]
		scale[i] = k.spread(i, common)
		if scale[i] > 0 {
			scales = append(scales, scale[i]*scale[i])
		}
	}
	typical := median(slices.Clone(scales))
	for i := range n {
		b.weight[i] = 1
		if blocks := float64(len(k.before) / spreadBlocks); typical > 0 && scale[i] == scale[i] && blocks > 1 {
			d := blocks - 1
			b.weight[i] = min(2, max(0.05, typical*(4+d)/(4*typical+d*scale[i]*scale[i])))
		}
	}
}

// ratioBefore is R of host i over blocks [from, to) of the before.
func (k *cell) ratioBefore(i int, common []float64, from, to int) float64 {
	var x, c float64
	for b := from; b < to; b++ {
		if s := k.before[b][i]; s.n > 0 && common[b] == common[b] {
			x += float64(s.x)
			c += common[b] * float64(s.n)
		}
	}
	return logRatio(x, c, k.base.mean[i])
}

// logRatio is ln(x/c), where x is expected to be level times c and is taken for a thousandth of that at least.
func logRatio(x, c, level float64) float64 {
	if !(c > 0) || !(level > 0) {
		return nan
	}
	return math.Log(max(x, 0.001*level*c) / c)
}

// spreadBlocks makes half an hour of blocks.
const spreadBlocks = int(30 * time.Minute / block)

// spread is how much R of host i varies between half hours: a robust standard deviation. NaN: not known.
func (k *cell) spread(i int, common []float64) float64 {
	var rs []float64
	for from := 0; from+spreadBlocks <= len(k.before); from += spreadBlocks {
		if r := k.ratioBefore(i, common, from, from+spreadBlocks); r == r {
			rs = append(rs, r)
		}
	}
	if len(rs) < 3 {
		return nan
	}
	m := median(slices.Clone(rs))
	for j, r := range rs {
		rs[j] = math.Abs(r - m)
	}
	return 1.4826 * median(rs)
}
