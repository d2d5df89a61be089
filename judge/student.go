package judge

import (
	"math"

	"gonum.org/v1/gonum/mathext"
)

// tail is the probability that a variable of Student's t with df degrees of freedom is above t.
func tail(t, df float64) float64 {
	if math.IsInf(df, 1) {
		return 0.5 * math.Erfc(t/math.Sqrt2)
	}
	p := 0.5 * mathext.RegIncBeta(df/2, 0.5, df/(df+t*t))
	if t < 0 {
		return 1 - p
	}
	return p
}

// quantile is the t above which a share of p lies: tail(quantile(p, df), df) = p.
func quantile(p, df float64) float64 {
	if p > 0.5 {
		return -quantile(1-p, df)
	}
	if math.IsInf(df, 1) {
		return math.Sqrt2 * math.Erfinv(1-2*p)
	}
	x := mathext.InvRegIncBeta(df/2, 0.5, 2*p)
	return math.Sqrt(df * (1 - x) / x)
}
