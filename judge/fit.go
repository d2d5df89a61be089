package judge

import "math"

// fit is a weighted least-squares fit of what hosts changed by on whether they are treated, and on covariates.
type fit struct {
	Effect float64 // of being treated
	Var    float64 // of Effect, for a residual variance of 1
	S2     float64 // residual variance, per weight
	DF     float64 // degrees of freedom of S2
	Kurt   float64 // excess kurtosis of the weighted residuals
	N, NT  int     // hosts, treated ones
}

func (f fit) ok() bool { return f.NT > 0 && f.DF > 0 && f.S2 > 0 && f.Var > 0 }

const maxColumns = 5

// regress fits y ~ 1 + treated + columns, by weight. Rows with a NaN in y or a column are left out.
func regress(y, weight []float64, treated []bool, columns ...[]float64) fit {
	p := 2 + len(columns)
	var a [maxColumns][maxColumns]float64
	var b [maxColumns]float64
	var f fit
	row := func(i int) (x [maxColumns]float64, ok bool) {
		if y[i] != y[i] {
			return x, false
		}
		x[0] = 1
		if treated[i] {
			x[1] = 1
		}
		for j, c := range columns {
			if c[i] != c[i] {
				return x, false
			}
			x[2+j] = c[i]
		}
		return x, true
	}
	for i := range y {
		x, ok := row(i)
		if !ok {
			continue
		}
		f.N++
		if treated[i] {
			f.NT++
		}
		for r := range p {
			for c := range p {
				a[r][c] += weight[i] * x[r] * x[c]
			}
			b[r] += weight[i] * x[r] * y[i]
		}
	}
	if f.NT == 0 || f.N <= p || f.N == f.NT {
		return fit{N: f.N, NT: f.NT}
	}
	inv, ok := invert(a, p)
	if !ok {
		return fit{N: f.N, NT: f.NT}
	}
	var beta [maxColumns]float64
	for r := range p {
		for c := range p {
			beta[r] += inv[r][c] * b[c]
		}
	}
	var ss, s4 float64
	for i := range y {
		x, ok := row(i)
		if !ok {
			continue
		}
		e := y[i]
		for c := range p {
			e -= beta[c] * x[c]
		}
		e2 := weight[i] * e * e
		ss += e2
		s4 += e2 * e2
	}
	f.Effect, f.Var, f.DF = beta[1], inv[1][1], float64(f.N-p)
	f.S2 = ss / f.DF
	if ss > 0 {
		f.Kurt = float64(f.N)*s4/(ss*ss) - 3
	}
	return f
}

// invert inverts the upper left p by p part of a by Gauss and Jordan. Not ok: it is singular, or nearly so.
func invert(a [maxColumns][maxColumns]float64, p int) (inv [maxColumns][maxColumns]float64, ok bool) {
	for i := range p {
		inv[i][i] = 1
	}
	var scale [maxColumns]float64
	for i := range p {
		scale[i] = math.Abs(a[i][i])
	}
	for col := range p {
		at := col
		for r := col + 1; r < p; r++ {
			if math.Abs(a[r][col]) > math.Abs(a[at][col]) {
				at = r
			}
		}
		if math.Abs(a[at][col]) <= 1e-12*scale[col] || a[at][col] == 0 {
			return inv, false
		}
		a[col], a[at], inv[col], inv[at] = a[at], a[col], inv[at], inv[col]
		d := a[col][col]
		for c := range p {
			a[col][c] /= d
			inv[col][c] /= d
		}
		for r := range p {
			if m := a[r][col]; r != col && m != 0 {
				for c := range p {
					a[r][c] -= m * a[col][c]
					inv[r][c] -= m * inv[col][c]
				}
			}
		}
	}
	return inv, true
}
