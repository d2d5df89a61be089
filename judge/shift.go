package judge

import (
	"math"
	"slices"
)

// shift is a test of whether treated hosts lie elsewhere than controls. Each host has one value, such as by how much
// its level changed, and an own scale: hosts whose value varied much before tell less.
//
// The values of unchanged hosts follow Student's t with tail degrees of freedom around a common middle: there are odd
// hosts among real ones, and a single one of them must not be proof of anything. Middle and scale come from the
// controls, and what they leave uncertain is integrated over. Evidence is the ratio of the likelihoods of the treated
// hosts' values with and without a shift, the first averaged over how large it may be.
type shift struct {
	mid, scale float64 // of the controls
	power      float64 // see powers
	midVar     float64 // how well mid is known
	scaleSD    float64 // of the logarithm of scale
	se         float64 // of the shift, were hosts normal
	own        []own   // treated hosts
	nc         int     // controls
}

// own is one treated host's value less mid, and how much it varies against a typical one.
type own struct {
	y, rel float64
	inv    float64 // rel to the power of -2
	host   int
}

// tail is the degrees of freedom of hosts' values. With 4 the densities need no logarithm: (1+z²/4)^(-5/2).
const tail = 4.0

// leastScale is the smallest scale of changes of a host: below it nothing is of interest, and constants have none.
const leastScale = 2e-4

// mostSpread bounds how much more or less than a typical host one is taken to vary: a factor of e⁴ in its scale.
const mostSpread = 8.0

// powers are how closely a host's scale follows its variation before, as a power; that which suits the controls best
// is taken.
var powers = [...]float64{0, 0.25, 0.5, 0.75, 1}

// lookFor is what a test of a shift needs.
type lookFor struct {
	y       []float64 // by host; NaN: not known
	spread  []float64 // logarithm of the variance that the host had before, less that of a typical one; NaN or nil: not known
	treated []bool
	prior   float64 // scale that the before lets one expect; 0: none
	worth   float64 // how many controls the prior is worth
}

// harmless says whether treated hosts lie, on average, on the good side of the middle control or at it: then there is no
// evidence to speak of (less than what was there before, 1).
func (in *lookFor) harmless(sign float64) bool {
	var others []float64
	sum, n := 0.0, 0.0
	for i, y := range in.y {
		switch {
		case y != y:
		case in.treated[i]:
			sum += y
			n++
		default:
			others = append(others, y)
		}
	}
	return n == 0 || len(others) == 0 || float64(sign*(sum/n-median(others))) <= 0
}

// newShift fits the controls, with a scale of least or more. Not ok: there are too few hosts.
func newShift(in lookFor, least float64) (shift, bool) {
	type host struct{ y, q float64 }
	var cs []host
	var f shift
	var ys []float64
	varied := false // controls are not all taken to vary alike
	for i, y := range in.y {
		if y != y {
			continue
		}
		q := 0.0
		if in.spread != nil && in.spread[i] == in.spread[i] {
			q = max(-mostSpread, min(mostSpread, in.spread[i]))
		}
		if in.treated[i] {
			f.own = append(f.own, own{y: y, rel: q, host: i})
		} else {
			varied = varied || q != 0
			cs = append(cs, host{y, q})
			ys = append(ys, y)
		}
	}
	f.nc = len(cs)
	if len(cs) < 2 || len(f.own) == 0 {
		return f, false
	}
	start := median(ys)
	for i, y := range ys {
		ys[i] = math.Abs(y - start)
	}
	begin := max(least, 1.2*median(ys))
	best := math.Inf(-1)
	tries := powers[:]
	if !varied {
		tries = tries[2:3] // they are all alike, and the middle one is preferred
	}
	rel := make([]float64, len(cs)) // precision
	n := float64(len(cs))
	mid, scale := start, begin
	for _, p := range tries {
		logRel := 0.0
		for i, c := range cs {
			rel[i] = 1
			if p > 0 && varied {
				rel[i] = exp(-p * c.q)
			}
			logRel -= float64(p * c.q)
		}
		for range 20 {
			was, wasMid := scale, mid
			inv := 1 / float64(scale*scale)
			var su, sy, sq float64
			for i, c := range cs {
				z := c.y - mid
				u := (tail + 1) * rel[i] / (tail + float64(float64(float64(z*z)*rel[i])*inv))
				su += u
				sy += float64(u * c.y)
			}
			mid = sy / su
			for i, c := range cs {
				z := float64((c.y-mid)*(c.y-mid)) * rel[i]
				sq += float64(z*(tail+1)) / (tail + float64(z*inv))
			}
			v := float64(sq * n / (n - 1))
			if in.prior > 0 {
				v = (v + float64(in.worth*in.prior*in.prior)) / (n + in.worth)
			} else {
				v /= n
			}
			scale = max(least, math.Sqrt(v))
			if near := float64(1e-7 * scale); math.Abs(scale-was) < near && math.Abs(mid-wasMid) < near {
				break
			}
		}
		var spread logProduct
		inv := 1 / (tail * float64(scale*scale))
		for i, c := range cs {
			z := float64((c.y-mid)*(c.y-mid)) * rel[i]
			spread.times(1 + float64(z*inv))
		}
		like := float64(0.5*logRel) - float64((tail+1)/2*spread.ln()) - float64(n*ln(scale))
		if in.prior > 0 {
			d := ln(scale / in.prior)
			like -= float64(in.worth * d * d)
		}
		like -= math.Abs(p - 0.5)
		if like > best {
			best, f.power = like, p
			f.mid, f.scale = mid, scale
			sum := 0.0
			for _, r := range rel {
				sum += r
			}
			f.midVar = float64((tail+3)/(tail+1)) * float64(scale*scale) / sum
		}
	}
	f.scaleSD = scaleSD(len(cs), in.worth)
	sum := 0.0
	for i := range f.own {
		o := &f.own[i]
		o.y -= f.mid
		o.rel = exp(f.power * o.rel / 2)
		o.inv = 1 / float64(o.rel*o.rel)
		sum += o.inv
	}
	f.se = math.Sqrt(float64((tail+3)/(tail+1)*float64(f.scale*f.scale))/sum + f.midVar)
	return f, true
}

// scaleSD is how well the logarithm of the scale is known from so many controls, and what is worth as many.
func scaleSD(controls int, worth float64) float64 {
	return math.Sqrt((tail + 3) / (2 * tail) / (float64(max(controls, 2)-1) + worth))
}

// node is one guess of what the controls leave uncertain: the middle less f.mid, one over tail times the square of the
// scale, and its weight with what the scale does to the likelihood of all treated hosts, also against the first node's.
type node struct{ mid, inv, logWeight, weight float64 }

// nodes are five guesses with the right variances: the first is the best one, two have another middle, two another scale.
func (f *shift) nodes() [5]node {
	m, lg := math.Sqrt(3*f.midVar), float64(math.Sqrt(3)*f.scaleSD)
	lnSixth, lnThird := -1.791759469228055, -1.0986122886681098
	n := float64(len(f.own))
	ls := ln(f.scale)
	out := [5]node{
		{mid: 0, logWeight: lnThird - float64(n*ls)},
		{mid: m, logWeight: lnSixth - float64(n*ls)},
		{mid: -m, logWeight: lnSixth - float64(n*ls)},
		{mid: 0, logWeight: lnSixth - float64(n*(ls+lg))},
		{mid: 0, logWeight: lnSixth - float64(n*(ls-lg))},
	}
	s := exp(lg)
	for k, scale := range [...]float64{f.scale, f.scale, f.scale, float64(f.scale * s), f.scale / s} {
		out[k].inv = 1 / (tail * float64(scale*scale))
		out[k].weight = exp(out[k].logWeight - out[0].logWeight)
	}
	return out
}

// logProduct is the logarithm of a product of numbers from 1 on, taken once for many of them.
type logProduct struct {
	p float64 // less 1 where it is new
	e int
}

func (l *logProduct) times(x float64) {
	l.p = float64((l.p+1)*x) - 1
	if l.p > 1e200 {
		f, e := math.Frexp(l.p)
		l.p, l.e = f-1, l.e+e
	}
}

func (l *logProduct) ln() float64 { return ln(l.p+1) + float64(float64(l.e)*math.Ln2) }

// like is the logarithm of the likelihood of the treated hosts' values if they are shifted by x, but for a constant.
func (f *shift) like(nodes *[5]node, x float64) float64 {
	var ls [5]float64
	if sum, ok := f.density(nodes, x); ok {
		return nodes[0].logWeight + ln(sum)
	}
	top := math.Inf(-1)
	for k, nd := range nodes {
		by := x + nd.mid
		var p logProduct
		for _, o := range f.own {
			z := o.y - by
			p.times(1 + float64(float64(z*z)*float64(o.inv*nd.inv)))
		}
		ls[k] = nd.logWeight - float64((tail+1)/2*p.ln())
		top = max(top, ls[k])
	}
	sum := 0.0
	for _, l := range ls {
		sum += exp(l - top)
	}
	return top + ln(sum)
}

// density is the likelihood of the treated hosts' values if they are shifted by x, against the weight of the first
// node. Not ok: it is too small for a number.
func (f *shift) density(nodes *[5]node, x float64) (sum float64, ok bool) {
	const most = 1e100
	p0, p1, p2, p3, p4 := 1.0, 1.0, 1.0, 1.0, 1.0
	shift, tail0, wide, narrow := nodes[1].mid, nodes[0].inv, nodes[3].inv, nodes[4].inv
	for i := range f.own {
		o := &f.own[i]
		z := o.y - x
		zz := float64(z*z) * o.inv
		a, b := z-shift, z+shift
		by := float64(o.inv * tail0)
		p0 *= 1 + float64(zz*tail0)
		p1 *= 1 + float64(float64(a*a)*by)
		p2 *= 1 + float64(float64(b*b)*by)
		p3 *= 1 + float64(zz*wide)
		p4 *= 1 + float64(zz*narrow)
		if !(p4 < most && p1 < most && p2 < most) { // p4 is the largest of the three around z
			return 0, false
		}
	}
	sum = 1 / (float64(p0*p0) * math.Sqrt(p0)) // to the power of (tail+1)/2
	sum += nodes[1].weight / (float64(p1*p1) * math.Sqrt(p1))
	sum += nodes[2].weight / (float64(p2*p2) * math.Sqrt(p2))
	sum += nodes[3].weight / (float64(p3*p3) * math.Sqrt(p3))
	sum += nodes[4].weight / (float64(p4*p4) * math.Sqrt(p4))
	return sum, true
}

// The shifts that evidence is averaged over, in standard errors: from leastShift on, each stepShift times the one
// before, with a weight that is greatest near typicalShift: smaller ones cannot be found yet, and larger ones need no help.
const (
	leastShift   = 0.5
	stepShift    = 1.25
	countShifts  = 48
	typicalShift = 4.0
)

var shifts = func() (s struct{ at, weight, ln [countShifts]float64 }) {
	x, sum := leastShift, 0.0
	for i := range countShifts {
		r := x / typicalShift
		s.at[i], s.weight[i] = x, r/(1+float64(float64(r*r)*math.Sqrt(r)))
		sum += s.weight[i]
		x = float64(x * stepShift)
	}
	for i := range s.weight {
		s.weight[i] /= sum
		s.ln[i] = ln(s.weight[i])
	}
	return s
}()

// evidence is the logarithm of the evidence for a shift upwards (sign 1) or downwards (-1).
func (f *shift) evidence(nodes *[5]node, sign float64) float64 {
	far := 0.0
	for _, o := range f.own {
		far = max(far, sign*o.y)
	}
	n := 0
	for n < countShifts && !(float64(shifts.at[n]*f.se) > 2*far && n > 8) {
		n++
	}
	if null, ok := f.density(nodes, 0); ok {
		sum := 0.0
		for i := 0; ok && i < n; i++ {
			var d float64
			d, ok = f.density(nodes, float64(sign*shifts.at[i]*f.se))
			sum += float64(shifts.weight[i] * d)
		}
		if ok {
			return ln(sum / null)
		}
	}
	null := f.like(nodes, 0)
	var ls [countShifts]float64
	top := math.Inf(-1)
	for i := range n {
		ls[i] = f.like(nodes, float64(sign*shifts.at[i]*f.se)) - null + shifts.ln[i]
		top = max(top, ls[i])
	}
	sum := 0.0
	for _, l := range ls[:n] {
		sum += exp(l - top)
	}
	return top + ln(sum)
}

// region is what the shift may be: its estimate, and the outermost values that are not excluded at 1-a.
func (f *shift) region(nodes *[5]node, a, width float64) (est, low, high float64) {
	const points = 96
	lo, hi := f.own[0].y, f.own[0].y
	for _, o := range f.own {
		lo, hi = min(lo, o.y), max(hi, o.y)
	}
	far := float64(8 * f.se)
	lo, hi = lo-far, hi+far
	step := (hi - lo) / points
	var ls [points + 1]float64
	top := math.Inf(-1)
	for i := range ls {
		ls[i] = f.like(nodes, lo+float64(float64(i)*step))
		top = max(top, ls[i])
	}
	var sum, first float64
	for i, l := range ls {
		w := exp(l - top)
		sum += w
		first += float64(w * float64(i))
	}
	est = lo + float64(first/sum*step)
	level := top + ln(float64(sum*step)/float64(width*f.se)) + ln(a)
	// The region is where the likelihood is above level; it may have holes, which count as in it.
	at := func(i, j int) float64 { // between an outer point below the level and an inner one above it
		d := ls[j] - ls[i]
		if !(d > 0) {
			return lo + float64(float64(i)*step)
		}
		return lo + float64(step*(float64(i)+float64(float64(j-i)*(level-ls[i])/d)))
	}
	i, j := 0, points
	for i < points && ls[i] < level {
		i++
	}
	for j > 0 && ls[j] < level {
		j--
	}
	if i > j {
		return est, est, est
	}
	low, high = lo, hi
	switch {
	case i > 0:
		low = at(i-1, i)
	default:
		low = math.Inf(-1)
	}
	switch {
	case j < points:
		high = at(j+1, j)
	default:
		high = math.Inf(1)
	}
	return est, low, high
}

// precision is what a forecast of the smallest detectable shift needs to know of a fit.
type precision struct {
	se      float64 // of the shift, were hosts normal
	midVar  float64 // of the controls' middle, part of it
	scaleSD float64 // of the logarithm of the scale
	treated int
}

func (f *shift) precision() precision { return precision{f.se, f.midVar, f.scaleSD, len(f.own)} }

// ofHost is the scale of one treated host.
func (p precision) ofHost() float64 {
	v := float64(p.se*p.se) - p.midVar
	return math.Sqrt(max(0, float64(v*float64(p.treated)*((tail+1)/(tail+3)))))
}

// lossPerHost is what the scatter of treated hosts around their shift costs the evidence of each, on average:
// (tail+1)/2 times the difference of the digamma function at (tail+1)/2 and tail/2.
const lossPerHost = 0.7

// detectable is the smallest shift that would give evidence need with a probability of 80 %: with hosts scattered
// around it, against the guess of none that makes them the likeliest. Infinite: there is none below a factor of 1,000.
func (p precision) detectable(need float64) float64 {
	const most = 6.907755278982137 // ln 1000
	n, s := float64(p.treated), p.ofHost()
	if p.treated < 1 || !(s > 0) {
		return math.Inf(1)
	}
	m, g := math.Sqrt(float64(3*p.midVar)), float64(math.Sqrt(3)*p.scaleSD)
	lnSixth, lnThird := -1.791759469228055, -1.0986122886681098
	// far is how many scales off all hosts must be, for evidence need against a guess of such a weight and scale.
	far := func(weight, grow float64) float64 {
		l := (need + weight + float64(n*(lossPerHost-grow))) / float64(n*(tail+1)/2)
		if l <= 0 {
			return 0
		}
		return float64(s * exp(grow) * math.Sqrt(tail*expm1(l)))
	}
	x := max(far(lnThird, 0), m+far(lnSixth, 0), far(lnSixth, g))
	if !(x <= most) {
		return math.Inf(1)
	}
	return x + float64(0.84*p.se)
}

// spreadOf centres the logarithms of variances. NaN: not known.
func spreadOf(variance []float64) []float64 {
	out := make([]float64, len(variance))
	var known []float64
	for i, v := range variance {
		out[i] = nan
		if v > 0 {
			out[i] = ln(v)
			known = append(known, out[i])
		}
	}
	m := median(slices.Clone(known))
	for i := range out {
		out[i] -= m
	}
	return out
}
