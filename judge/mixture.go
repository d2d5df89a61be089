package judge

import "math"

// mixture is a test of "no change" that may be looked at any number of times: a t-statistic against a normal mixture
// of alternatives with standard deviation nu, in log units.
//
// Source: M. Lindon, D. W. Ham, M. Tingley, I. Bojinov, Anytime-valid inference in linear models, arXiv:2210.08589.
type mixture struct{ nu float64 }

// g is the ratio of the alternatives' variance to the estimate's.
func (m mixture) g(se float64) float64 { r := m.nu / se; return 1 + r*r }

// logE is the logarithm of the evidence against no change: it exceeds ln(1/a) at some look with probability a at most.
func (m mixture) logE(est, se, df float64) float64 {
	if !(se > 0) || !(df > 0) {
		return 0
	}
	g, t := m.g(se), est/se
	return -0.5*math.Log1p(g) + (df+1)/2*(math.Log1p(t*t/df)-math.Log1p(t*t/(df*(1+g))))
}

// radius is by how many standard errors the estimate may be wrong at some look, but for probability a. Infinite: by
// any number.
func (m mixture) radius(a, se, df float64) float64 {
	g := m.g(se)
	c := math.Pow(math.Sqrt(1+g)/a, 2/(df+1))
	if !(c < 1+g) {
		return math.Inf(1)
	}
	return math.Sqrt(df * (c - 1) / (1 - c/(1+g)))
}
