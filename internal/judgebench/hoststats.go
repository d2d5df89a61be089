package judgebench

import "math"

// This file is the reference method of the project's measurements up to its tests: for each host how much it changed
// against the common movement of the controls, and what a fit over hosts makes of it. The host is the unit.

// settleS is how long after a reboot a host does not count.
const settleS = 900

// Estimate is what a fit shows at one look. SE is 0 where there is none.
type Estimate struct{ D, SE, DF float64 }

// hostStats follows a cell. It is used again for the next one.
type hostStats struct {
	n, nt, steps, k0 int
	stepS            int

	mean, level, recent, weight []float64
	from                        []int // first sample of the after that counts, by host
	common                      []float64
	jumpBefore                  []float64
	// Sums of the after up to a step, by step and host: of samples, of what is common at the same times, of jumps and
	// of their number.
	sx, sc, sj []float64
	nj         []int32
	nx         []int32

	q, jumps, trend []float64
	unit            float64 // of the last fit of the level: the variance that one host adds to a weighted mean
	scratch, blocks []float64
}

// load takes the samples of a cell.
func (h *hostStats) load(t *Type, x []float64) {
	n := t.Hosts()
	h.n, h.nt, h.steps, h.stepS = n, t.Treated, t.Steps(), t.StepS
	h.k0 = int(t.T0-t.Start) / t.StepS
	for _, s := range []*[]float64{&h.mean, &h.level, &h.recent, &h.weight, &h.jumpBefore, &h.q, &h.jumps, &h.trend} {
		*s = fill(*s, n, 0)
	}
	h.from = fill(h.from, n, 0)
	last := t.T0
	for _, c := range t.Changed {
		last = max(last, c)
	}
	for i := range n {
		begin := last
		switch {
		case i < t.Treated:
			begin = t.Changed[i]
		case t.Rebooted[i] > last:
			begin = t.Rebooted[i]
		}
		h.from[i] = int(begin+settleS-t.Start+int64(t.StepS)-1) / t.StepS
	}
	for i := range n {
		var sum, m float64
		for k := range h.k0 {
			if v := x[k*n+i]; v == v {
				sum += v
				m++
			}
		}
		if m > 0 {
			h.mean[i] = sum / m
		}
	}
	h.common = fill(h.common, h.steps, math.NaN())
	for k := range h.steps {
		u := h.scratch[:0]
		for i := h.nt; i < n; i++ {
			if v := x[k*n+i]; v == v && h.mean[i] > 0 {
				u = append(u, v/h.mean[i])
			}
		}
		h.scratch = u
		h.common[k] = trimmedMean(u)
	}
	h.before(x)
	h.after(x)
}

// before makes levels, the last hour and weights.
func (h *hostStats) before(x []float64) {
	n := h.n
	hour := max(0, h.k0-3600/h.stepS)
	per := 1800 / h.stepS
	var variances []float64
	own := fill(h.scratch, n, 0)
	h.scratch = own
	count := h.k0 / per
	for i := range n {
		rs := h.blocks[:0]
		var x1, c1, xb, cb, xh, ch float64
		for k := range h.k0 {
			if v, c := x[k*n+i], h.common[k]; v == v && c == c {
				x1 += v
				c1 += c
				xb += v
				cb += c
				if k >= hour {
					xh += v
					ch += c
				}
			}
			if (k+1)%per == 0 {
				if r := h.ratio(xb, cb, i); r == r {
					rs = append(rs, r)
				}
				xb, cb = 0, 0
			}
		}
		h.blocks = rs
		h.level[i] = h.ratio(x1, c1, i)
		h.recent[i] = h.ratio(xh, ch, i) - h.level[i]
		own[i] = math.NaN()
		if len(rs) >= 3 {
			m := medianOf(rs)
			for j := range rs {
				rs[j] = math.Abs(rs[j] - m)
			}
			s := 1.4826 * medianOf(rs)
			own[i] = s * s
			variances = append(variances, own[i])
		}
		var j float64
		var nj int
		for k := 1; k < h.k0; k++ {
			if d := h.jump(x, k, i); d == d {
				j += d
				nj++
			}
		}
		h.jumpBefore[i] = math.NaN()
		if nj > 0 && j > 0 {
			h.jumpBefore[i] = math.Log(j / float64(nj))
		}
	}
	typical := 0.0
	if len(variances) > 0 {
		typical = medianOf(variances)
	}
	for i := range n {
		h.weight[i] = 1
		if d := float64(count - 1); typical > 0 && own[i] == own[i] && d >= 1 {
			h.weight[i] = min(2, max(0.05, typical*(4+d)/(4*typical+d*own[i])))
		}
	}
}

// after makes the running sums.
func (h *hostStats) after(x []float64) {
	n, m := h.n, h.steps-h.k0
	for _, s := range []*[]float64{&h.sx, &h.sc, &h.sj} {
		*s = fill(*s, (m+1)*n, 0)
	}
	h.nj, h.nx = fill(h.nj, (m+1)*n, 0), fill(h.nx, (m+1)*n, 0)
	for k := range m {
		c := h.common[h.k0+k]
		for i := range n {
			at, next := k*n+i, (k+1)*n+i
			h.sx[next], h.sc[next], h.sj[next], h.nj[next], h.nx[next] = h.sx[at], h.sc[at], h.sj[at], h.nj[at], h.nx[at]
			v := x[(h.k0+k)*n+i]
			if h.k0+k < h.from[i] || v != v || c != c {
				continue
			}
			h.sx[next] += v
			h.sc[next] += c
			h.nx[next]++
			if h.k0+k > h.from[i] {
				if d := h.jump(x, h.k0+k, i); d == d {
					h.sj[next] += d
					h.nj[next]++
				}
			}
		}
	}
}

// jump is by how much host i moved against the controls from sample k-1 to k, in log units.
func (h *hostStats) jump(x []float64, k, i int) float64 {
	a, b := x[(k-1)*h.n+i], x[k*h.n+i]
	ca, cb := h.common[k-1], h.common[k]
	if !(a > 0 && b > 0 && ca > 0 && cb > 0) {
		return math.NaN()
	}
	return math.Abs(fastLog(b * ca / (a * cb)))
}

// ratio is ln(x/c), with a floor at a thousandth of what the host's mean says.
func (h *hostStats) ratio(x, c float64, i int) float64 {
	if !(c > 0) || !(h.mean[i] > 0) {
		return math.NaN()
	}
	return math.Log(max(x, 0.001*h.mean[i]*c) / c)
}

// look is what a look shows that sees samples before step k.
func (h *hostStats) look(k int, all bool) (level, jumps, trend Estimate) {
	n := h.n
	m := min(max(0, k-h.k0), h.steps-h.k0)
	row := m * n
	least := int32(max(1, 300/h.stepS))
	controls := 0
	for i := range n {
		h.q[i], h.jumps[i], h.trend[i] = math.NaN(), math.NaN(), math.NaN()
		if h.nx[row+i] < least {
			continue
		}
		r := h.ratio(h.sx[row+i], h.sc[row+i], i)
		h.q[i] = r - h.level[i]
		if i >= h.nt && h.q[i] == h.q[i] {
			controls++
		}
		if !all {
			continue
		}
		if nj := h.nj[row+i]; nj > 0 && h.sj[row+i] > 0 {
			h.jumps[i] = math.Log(h.sj[row+i]/float64(nj)) - h.jumpBefore[i]
		}
		mid := (max(h.from[i]-h.k0, 0) + m) / 2 * n
		h.trend[i] = h.ratio(h.sx[row+i]-h.sx[mid+i], h.sc[row+i]-h.sc[mid+i], i) - h.ratio(h.sx[mid+i], h.sc[mid+i], i)
	}
	level = h.fitLevel(controls >= 15)
	if all {
		jumps, trend = h.fitPlain(h.jumps), h.fitPlain(h.trend)
	}
	return level, jumps, trend
}

// trimmedMean is the mean without a tenth of the values at either end. It reorders u.
func trimmedMean(u []float64) float64 {
	if len(u) == 0 {
		return math.NaN()
	}
	g := len(u) / 10
	partialSort(u, g)
	s := 0.0
	for _, v := range u[g : len(u)-g] {
		s += v
	}
	return s / float64(len(u)-2*g)
}

// partialSort moves the g smallest values to the front and the g largest to the back.
func partialSort(u []float64, g int) {
	for i := range g {
		lo := i
		for j := i + 1; j < len(u)-i; j++ {
			if u[j] < u[lo] {
				lo = j
			}
		}
		u[i], u[lo] = u[lo], u[i]
		end := len(u) - 1 - i
		hi := end
		for j := i + 1; j < end; j++ {
			if u[j] > u[hi] {
				hi = j
			}
		}
		u[end], u[hi] = u[hi], u[end]
	}
}
