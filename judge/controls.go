package judge

import "math"

// tail is the degrees of freedom of hosts' values in the first of the guesses at their tails.
const tail = 4.0

// tails are the degrees of freedom that hosts' values may have: few where there are odd hosts, many where they are all
// but normal. The controls say how likely each is; beforehand all are alike.
var tails = [...]struct {
	df   float64
	wide float64 // scale of values that have the same quartiles as those with tail and a scale of 1
	norm float64 // logarithm of the density at 0, with a scale of 1
	loss float64 // what the scatter of a host around its place costs its logarithm of the density, on average
}{
	{tail, 1, -0.9808292530117257, 0.7},
	{8, 1.049, -0.9501086121502307, 0.5974},
	{20, 1.078, -0.9314333403793995, 0.5382},
}

// powers are how closely a host's scale follows its variation before, as a power, in quarters; that which suits the
// controls best is taken.
var powers = [...]float64{0, 0.25, 0.5, 0.75, 1}

// guess is what the controls say if hosts' values have so many degrees of freedom.
type guess struct {
	mid, scale, midVar, scaleSD float64
	like                        float64 // logarithm of the likelihood of the controls, but for a constant
}

// control is a control's value, the logarithm of how much it varied before against a typical one, that to the power of
// -1/4, and where it was heading.
type control struct{ y, q, quarter, recent float64 }

// slopeWorth is how many controls of which the change does not depend on the last hour before are added to those seen.
const slopeWorth = 4

// slopeOf is how much of controls' changes goes on from where they were heading: a few rounds of least squares that
// heed outliers little.
func slopeOf(cs []control, mid, least float64) (slope float64) {
	off := make([]float64, len(cs))
	for range 4 {
		for i, c := range cs {
			off[i] = math.Abs(c.y - mid - float64(slope*c.recent))
		}
		scale := max(least, 1.2*median(off))
		var w, x, y, xx, xy float64
		for _, c := range cs {
			e := (c.y - mid - float64(slope*c.recent)) / scale
			u := float64((tail + 1) / (tail + float64(e*e)) * float64(c.quarter*c.quarter))
			w += u
			x += float64(u * c.recent)
			y += float64(u * c.y)
			xx += float64(u * float64(c.recent*c.recent))
			xy += float64(u * float64(c.recent*c.y))
		}
		v := xx - float64(x*x)/w
		if !(v > 0) {
			return 0
		}
		slope = (xy - float64(x*y)/w) / float64(v*(1+slopeWorth/float64(len(cs))))
		mid = (y - float64(slope*x)) / w
	}
	return slope
}

// known is x, or 0 where it is not known.
func known(x float64) float64 {
	if x != x {
		return 0
	}
	return x
}

// controlFit finds middle and scale of controls.
type controlFit struct {
	y                   []control
	rel                 []float64 // precision
	logRel              float64   // logarithm of the product of them
	least, prior, worth float64
	mid, scale          float64 // where it begins, and ends
}

// power sets how closely controls' scales follow their variation before.
func (c *controlFit) power(p float64) {
	c.logRel = 0
	for i, h := range c.y {
		r := 1.0
		for k := 0.25; k <= p; k += 0.25 {
			r *= h.quarter
		}
		c.rel[i] = r
		c.logRel -= float64(p * h.q)
	}
}

// run fits with the degrees of freedom of a guess, and returns the logarithm of the likelihood.
func (c *controlFit) run(guess int) float64 {
	t := tails[guess]
	df, n, prior := t.df, float64(len(c.y)), float64(c.prior*t.wide)
	mid, scale := c.mid, c.scale
	for range 30 {
		was, wasMid := scale, mid
		inv := 1 / float64(scale*scale)
		var su, sd, sdd float64
		for i, h := range c.y {
			d := h.y - mid
			dd := float64(d * d)
			u := float64((df+1)*c.rel[i]) / (df + float64(float64(dd*c.rel[i])*inv))
			su += u
			sd += float64(u * d)
			sdd += float64(u * dd)
		}
		mid += sd / su
		v := max(0, sdd-float64(sd*sd)/su)
		v = float64(v * n / (n - 1))
		if prior > 0 {
			v = (v + float64(c.worth*prior*prior)) / (n + c.worth)
		} else {
			v /= n
		}
		scale = max(c.least, math.Sqrt(v))
		if near := float64(1e-6 * scale); math.Abs(scale-was) < near && math.Abs(mid-wasMid) < near {
			break
		}
	}
	c.mid, c.scale = mid, scale
	var spread logProduct
	inv := 1 / (df * float64(scale*scale))
	for i, h := range c.y {
		z := float64((h.y-mid)*(h.y-mid)) * c.rel[i]
		spread.times(1 + float64(z*inv))
	}
	like := float64(0.5*c.logRel) - float64((df+1)/2*spread.ln()) + float64(n*(t.norm-ln(scale)))
	if prior > 0 {
		d := ln(scale / prior)
		like -= float64(c.worth * d * d)
	}
	return like
}

// scaleSD is how well the logarithm of the scale is known from so many controls, and what is worth as many.
func scaleSD(df float64, controls int, worth float64) float64 {
	return math.Sqrt((df + 3) / (2 * df) / (float64(max(controls, 2)-1) + worth))
}
