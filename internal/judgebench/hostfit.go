package judgebench

import (
	"math"
	"slices"
)

// fitLevel fits the changes of hosts on being treated, on their level before and, with enough controls, on what the
// last hour before showed; weighted.
func (h *hostStats) fitLevel(recent bool) Estimate {
	p := 3
	if recent {
		p = 4
	}
	var a [4][4]float64
	var b [4]float64
	var centre, nc float64
	for i := h.nt; i < h.n; i++ {
		if h.level[i] == h.level[i] {
			centre += h.level[i]
			nc++
		}
	}
	centre /= max(1, nc)
	n, nt := 0, 0
	row := func(i int) (x [4]float64, ok bool) {
		x = [4]float64{1, 0, h.level[i] - centre, h.recent[i]}
		if i < h.nt {
			x[1] = 1
		}
		return x, h.q[i] == h.q[i] && x[2] == x[2] && (p == 3 || x[3] == x[3])
	}
	for i := range h.n {
		x, ok := row(i)
		if !ok {
			continue
		}
		n++
		if i < h.nt {
			nt++
		}
		w := h.weight[i]
		for r := range p {
			for c := range r + 1 {
				a[r][c] += w * x[r] * x[c]
			}
			b[r] += w * x[r] * h.q[i]
		}
	}
	if nt == 0 || n <= p || n == nt {
		return Estimate{}
	}
	beta, v, ok := solve(a, b, p)
	if !ok {
		return Estimate{}
	}
	var ss, s4, sw, sw2 float64
	for i := range h.n {
		x, ok := row(i)
		if !ok {
			continue
		}
		e := h.q[i]
		for c := range p {
			e -= beta[c] * x[c]
		}
		sw += h.weight[i]
		sw2 += h.weight[i] * h.weight[i] * e * e
		e *= e * h.weight[i]
		ss += e
		s4 += e * e
	}
	if !(ss > 0) {
		return Estimate{}
	}
	k := float64(n)*s4/(ss*ss) - 3
	if n < 8 {
		k = max(k, 0)
	}
	free := float64(n - p)
	h.unit = sw2 * float64(n) / (sw * sw) * float64(n) / free
	const variance = 1.2
	return Estimate{
		D: beta[1], SE: math.Sqrt(variance * ss / free * v),
		DF: min(free, 4+6*float64(nt)/max(k+0.5, 0.05), 40),
	}
}

// fitPlain fits y on being treated, weighted.
func (h *hostStats) fitPlain(y []float64) Estimate {
	var w, s [2]float64
	var m [2]int
	arm := func(i int) int {
		if i < h.nt {
			return 1
		}
		return 0
	}
	for i, v := range y {
		if v == v {
			a := arm(i)
			w[a] += h.weight[i]
			s[a] += h.weight[i] * v
			m[a]++
		}
	}
	if m[0] == 0 || m[1] == 0 || m[0]+m[1] <= 2 {
		return Estimate{}
	}
	mean := [2]float64{s[0] / w[0], s[1] / w[1]}
	ss := 0.0
	for i, v := range y {
		if v == v {
			e := v - mean[arm(i)]
			ss += h.weight[i] * e * e
		}
	}
	free := float64(m[0] + m[1] - 2)
	return Estimate{D: mean[1] - mean[0], SE: 1.14 * math.Sqrt(ss/free*(1/w[0]+1/w[1])), DF: min(free, 8)}
}

// solve solves the symmetric system whose lower half is a, by Cholesky. v is the element [1][1] of the inverse.
func solve(a [4][4]float64, b [4]float64, p int) (beta [4]float64, v float64, ok bool) {
	var l [4][4]float64
	for r := range p {
		for c := range r + 1 {
			s := a[r][c]
			for k := range c {
				s -= l[r][k] * l[c][k]
			}
			if r == c {
				if !(s > 1e-12*a[r][r]) {
					return beta, 0, false
				}
				l[r][r] = math.Sqrt(s)
			} else {
				l[r][c] = s / l[c][c]
			}
		}
	}
	back := func(b [4]float64) (x [4]float64) {
		for r := range p {
			x[r] = b[r]
			for k := range r {
				x[r] -= l[r][k] * x[k]
			}
			x[r] /= l[r][r]
		}
		for r := p - 1; r >= 0; r-- {
			for k := r + 1; k < p; k++ {
				x[r] -= l[k][r] * x[k]
			}
			x[r] /= l[r][r]
		}
		return x
	}
	beta = back(b)
	return beta, back([4]float64{0, 1})[1], true
}

func medianOf(v []float64) float64 {
	slices.Sort(v)
	n := len(v)
	if n%2 == 1 {
		return v[n/2]
	}
	return (v[n/2-1] + v[n/2]) / 2
}

// fastLog is ln x to 7 digits, for x above 0: jumps are summed by the million.
func fastLog(x float64) float64 {
	bits := math.Float64bits(x)
	e := float64(int(bits>>52)&0x7ff - 1023)
	m := math.Float64frombits(bits&(1<<52-1) | 1023<<52)
	if m > math.Sqrt2 {
		m /= 2
		e++
	}
	s := (m - 1) / (m + 1)
	s2 := s * s
	return e*math.Ln2 + 2*s*(1+s2*(1.0/3+s2*(1.0/5+s2*(1.0/7+s2*(1.0/9)))))
}
