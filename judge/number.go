package judge

import "math"

// The verdicts must have the same bytes on every processor. Some fuse x*y+z into one operation, and the compiler uses
// it unless a conversion stands around the product; and the functions of package math differ in their last digit. So
// products in sums are written float64(x*y) throughout this package, and exponential and logarithm are these.

const (
	ln2Hi = 6.93147180369123816490e-01 // the upper 32 bits of ln 2, so that small multiples are exact
	ln2Lo = 1.90821492927058770002e-10
)

// artanh is 1/23, 1/21, … 1/3, and factorials 1/14!, 1/13!, … 1/0!.
var (
	artanh = func() (c [11]float64) {
		for i := range c {
			c[i] = 1 / float64(23-2*i)
		}
		return c
	}()
	factorials = func() (c [15]float64) {
		f := 1.0
		for i := range c {
			c[14-i] = 1 / f
			f *= float64(i + 1)
		}
		return c
	}()
)

// ln is the natural logarithm of a positive x, by the series of artanh. It is good to about 1e-15.
func ln(x float64) float64 {
	if !(x > 0) || math.IsInf(x, 1) {
		return math.Log(x)
	}
	m, e := math.Frexp(x)
	if m < math.Sqrt2/2 {
		m *= 2
		e--
	}
	s := (m - 1) / (m + 1)
	z := float64(s * s)
	sum := 0.0
	for _, c := range artanh {
		sum = float64((sum + c) * z)
	}
	k := float64(e)
	low := float64(k*ln2Lo) + 2*float64(s*sum)
	return float64(k*ln2Hi) + (2*s + low)
}

// exp is e to the power of x, by the series of the exponential. It is good to about 1e-15.
func exp(x float64) float64 {
	switch {
	case x != x:
		return x
	case x > 709:
		return math.Inf(1)
	case x < -745:
		return 0
	}
	k := math.Floor(float64(x*(1/math.Ln2)) + 0.5)
	r := x - float64(k*ln2Hi)
	r -= float64(k * ln2Lo)
	sum := 0.0
	for _, c := range factorials {
		sum = c + float64(r*sum)
	}
	if k < -1000 || k > 1000 {
		return math.Ldexp(sum, int(k))
	}
	return sum * math.Float64frombits(uint64(int(k)+1023)<<52)
}

// log1p is ln(1+x) without loss for small x.
func log1p(x float64) float64 {
	u := 1 + x
	if u == 1 {
		return x
	}
	return float64(ln(u)*x) / (u - 1)
}

// expm1 is e to the power of x, less 1, without loss for small x.
func expm1(x float64) float64 {
	u := exp(x)
	switch {
	case u == 1:
		return x
	case u-1 == -1 || math.IsInf(u, 1):
		return u - 1
	}
	return float64((u-1)*x) / ln(u)
}

// sum2 is a*b + c*d, rounded after each step.
func sum2(a, b, c, d float64) float64 { return float64(a*b) + float64(c*d) }
