package judge

import (
	"math"
	"slices"
)

// shift is a test of whether treated hosts lie elsewhere than controls. Each host has one value, such as by how much
// its level changed, and an own scale: hosts whose value varied much before tell less.
//
// The values of unchanged hosts follow Student's t around a common middle: there are odd hosts among real ones, and a
// single one of them must not be proof of anything. How odd they may be, middle and scale come from the controls, and
// what they leave uncertain is integrated over. Evidence is the ratio of the likelihoods of the treated
// hosts' values with and without a shift, the first averaged over how large it may be.
type shift struct {
	mid, scale float64 // of the controls, with tail degrees of freedom
	power      float64 // see powers
	slope      float64 // see lookFor.recent
	midVar     float64 // how well mid is known
	scaleSD    float64 // of the logarithm of scale
	se         float64 // of the shift, were hosts normal
	own        []own   // treated hosts
	nc         int     // controls
	guess      [len(tails)]guess
}

// guess is what the controls say if hosts' values have so many degrees of freedom.
type guess struct {
	mid, scale, midVar, scaleSD float64
	like                        float64 // logarithm of the likelihood of the controls, but for a constant
}

// own is one treated host's value less mid, and how much it varies against a typical one.
type own struct {
	y, rel float64
	inv    float64 // rel to the power of -2
	host   int
}

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

// leastScale is the smallest scale of changes of a host: below it nothing is of interest, and constants have none.
const leastScale = 2e-4

// mostSpread bounds how much more or less than a typical host one is taken to vary: a factor of e⁴ in its scale.
const mostSpread = 8.0

// powers are how closely a host's scale follows its variation before, as a power, in quarters; that which suits the
// controls best is taken.
var powers = [...]float64{0, 0.25, 0.5, 0.75, 1}

// lookFor is what a test of a shift needs.
type lookFor struct {
	y       []float64 // by host; NaN: not known
	spread  []float64 // logarithm of the variance that the host had before, less that of a typical one; NaN or nil: not known
	recent  []float64 // where the host was heading before; NaN or nil: not known. What the controls' changes owe to it is taken off
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
	var cs []control
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
			c := control{y: y, q: q, quarter: 1}
			if q != 0 {
				c.quarter = exp(-q / 4)
			}
			if in.recent != nil {
				c.recent = known(in.recent[i])
			}
			cs = append(cs, c)
			ys = append(ys, y)
		}
	}
	f.nc = len(cs)
	if len(cs) < 2 || len(f.own) == 0 {
		return f, false
	}
	start := median(ys)
	if in.recent != nil {
		f.slope = slopeOf(cs, start, least)
		for i := range cs {
			cs[i].y -= float64(f.slope * cs[i].recent)
			ys[i] = cs[i].y
		}
		for i := range f.own {
			f.own[i].y -= float64(f.slope * known(in.recent[f.own[i].host]))
		}
		start = median(ys)
	}
	for i, y := range ys {
		ys[i] = math.Abs(y - start)
	}
	fit := controlFit{y: cs, rel: make([]float64, len(cs)), least: least, prior: in.prior, worth: in.worth}
	fit.mid, fit.scale = start, max(least, 1.2*median(ys))
	best := math.Inf(-1)
	tries := powers[:]
	if !varied {
		tries = tries[2:3] // they are all alike, and the middle one is preferred
	}
	for _, p := range tries {
		fit.power(p)
		if like := fit.run(0) - math.Abs(p-0.5); like > best {
			best, f.power = like, p
			f.mid, f.scale = fit.mid, fit.scale
		}
	}
	fit.power(f.power)
	fit.mid, fit.scale = f.mid, f.scale
	sum := 0.0
	for _, r := range fit.rel {
		sum += r
	}
	for k, t := range tails {
		g := &f.guess[k]
		g.like = fit.run(k)
		g.mid, g.scale, g.scaleSD = fit.mid, fit.scale, scaleSD(t.df, len(cs), in.worth)
		g.midVar = float64((t.df+3)/(t.df+1)) * float64(fit.scale*fit.scale) / sum
	}
	f.mid, f.scale, f.midVar, f.scaleSD = f.guess[0].mid, f.guess[0].scale, f.guess[0].midVar, f.guess[0].scaleSD
	sum = 0
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

// node is one guess of what the controls leave uncertain: the middle less f.mid, one over the degrees of freedom times
// the square of the scale, and its weight with what the scale does to the likelihood of all treated hosts, also against
// the first node's.
type node struct{ mid, inv, logWeight, weight float64 }

// nodes are, for each guess at the tails, five with the right variances: the first is the best one, two have another
// middle, two another scale.
type nodes [len(tails)][5]node

func (f *shift) nodes() (out nodes) {
	lnSixth, lnThird := -1.791759469228055, -1.0986122886681098
	n := float64(len(f.own))
	for k, t := range tails {
		g := f.guess[k]
		m, lg := math.Sqrt(3*g.midVar), float64(math.Sqrt(3)*g.scaleSD)
		at, w, s := g.mid-f.mid, g.like-f.guess[0].like+float64(n*(t.norm-ln(g.scale))), exp(lg)
		out[k] = [5]node{
			{mid: at, logWeight: w + lnThird},
			{mid: at + m, logWeight: w + lnSixth},
			{mid: at - m, logWeight: w + lnSixth},
			{mid: at, logWeight: w + lnSixth - float64(n*lg)},
			{mid: at, logWeight: w + lnSixth + float64(n*lg)},
		}
		for j, scale := range [...]float64{g.scale, g.scale, g.scale, float64(g.scale * s), g.scale / s} {
			out[k][j].inv = 1 / (t.df * float64(scale*scale))
			out[k][j].weight = exp(out[k][j].logWeight - out[0][0].logWeight)
		}
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
func (f *shift) like(all *nodes, x float64) float64 {
	if sum, ok := f.density(all, x); ok {
		return all[0][0].logWeight + ln(sum)
	}
	var ls [5 * len(tails)]float64
	top := math.Inf(-1)
	for g, t := range tails {
		for k, nd := range all[g] {
			by := x + nd.mid
			var p logProduct
			for _, o := range f.own {
				z := o.y - by
				p.times(1 + float64(float64(z*z)*float64(o.inv*nd.inv)))
			}
			l := nd.logWeight - float64((t.df+1)/2*p.ln())
			ls[5*g+k] = l
			top = max(top, l)
		}
	}
	sum := 0.0
	for _, l := range ls {
		sum += exp(l - top)
	}
	return top + ln(sum)
}

// density is the likelihood of the treated hosts' values if they are shifted by x, against the weight of the first
// node. Not ok: it is too small for a number.
func (f *shift) density(all *nodes, x float64) (sum float64, ok bool) {
	for g := range all {
		nd := &all[g]
		if nd[0].weight < 1e-9 && g > 0 {
			continue
		}
		p := f.products(nd, x)
		// What is too far off for a number in the first guess has none in the others either.
		if g == 0 && !(max(p[1], p[2], p[4]) < 1e100) {
			return 0, false
		}
		for k, v := range p {
			sum += float64(nd[k].weight * power(g, v))
		}
	}
	return sum, true
}

// products are those of 1 + z²/df over treated hosts, by node.
func (f *shift) products(nd *[5]node, x float64) [5]float64 {
	p0, p1, p2, p3, p4 := 1.0, 1.0, 1.0, 1.0, 1.0
	x += nd[0].mid
	shift, inv, wide, narrow := nd[1].mid-nd[0].mid, nd[0].inv, nd[3].inv, nd[4].inv
	for i := range f.own {
		o := &f.own[i]
		z := o.y - x
		zz := float64(z*z) * o.inv
		a, b := z-shift, z+shift
		by := float64(o.inv * inv)
		p0 *= 1 + float64(zz*inv)
		p1 *= 1 + float64(float64(a*a)*by)
		p2 *= 1 + float64(float64(b*b)*by)
		p3 *= 1 + float64(zz*wide)
		p4 *= 1 + float64(zz*narrow)
	}
	return [5]float64{p0, p1, p2, p3, p4}
}

// power is v to the power of -(df+1)/2 of a guess.
func power(guess int, v float64) float64 {
	v2, root := float64(v*v), math.Sqrt(v)
	switch guess {
	case 0: // 5/2
		return 1 / float64(v2*root)
	case 1: // 9/2
		return 1 / float64(float64(v2*v2)*root)
	}
	v4 := float64(v2 * v2) // 21/2
	return 1 / float64(float64(float64(v4*v4)*v2)*root)
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
func (f *shift) evidence(all *nodes, sign float64) float64 {
	far := 0.0
	for _, o := range f.own {
		far = max(far, sign*o.y)
	}
	n := 0
	for n < countShifts && !(float64(shifts.at[n]*f.se) > 2*far && n > 8) {
		n++
	}
	if null, ok := f.density(all, 0); ok {
		sum := 0.0
		for i := 0; ok && i < n; i++ {
			var d float64
			d, ok = f.density(all, float64(sign*shifts.at[i]*f.se))
			sum += float64(shifts.weight[i] * d)
		}
		if ok {
			return ln(sum / null)
		}
	}
	null := f.like(all, 0)
	var ls [countShifts]float64
	top := math.Inf(-1)
	for i := range n {
		ls[i] = f.like(all, float64(sign*shifts.at[i]*f.se)) - null + shifts.ln[i]
		top = max(top, ls[i])
	}
	sum := 0.0
	for _, l := range ls[:n] {
		sum += exp(l - top)
	}
	return top + ln(sum)
}

// region is what the shift may be: its estimate, and the outermost values that are not excluded at 1-a.
func (f *shift) region(all *nodes, a, width float64) (est, low, high float64) {
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
		ls[i] = f.like(all, lo+float64(float64(i)*step))
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
	treated int
	parts   [len(tails)]part // those without a scale do not count
}

// part is a guess at the tails: how likely it is, the scale of a treated host, and how well its logarithm is known.
type part struct{ logWeight, scale, scaleSD float64 }

func (f *shift) precision() precision {
	p := precision{se: f.se, midVar: f.midVar, treated: len(f.own)}
	sum := 0.0
	for _, o := range f.own {
		sum += o.inv
	}
	typical := math.Sqrt(float64(len(f.own)) / sum)
	for k, g := range f.guess {
		p.parts[k] = part{g.like - f.guess[0].like, float64(g.scale * typical), g.scaleSD}
	}
	return p
}

// grown is the precision if all scales were k times as large.
func (p precision) grown(k float64) precision {
	p.se, p.midVar = float64(p.se*k), float64(p.midVar*k*k)
	for i := range p.parts {
		p.parts[i].scale = float64(p.parts[i].scale * k)
	}
	return p
}

// detectable is the smallest shift that would give evidence need with a probability of 80 %: with hosts scattered
// around it, against the guess of none that makes them the likeliest. Infinite: there is none below a factor of 1,000.
func (p precision) detectable(need float64) float64 {
	const most = 6.907755278982137 // ln 1000
	lnSixth, lnThird := -1.791759469228055, -1.0986122886681098
	n := float64(p.treated)
	// there is the likelihood of hosts scattered around where they are shifted to.
	top, there := math.Inf(-1), 0.0
	var at [len(tails)]float64 // logarithm of the likelihood of hosts that lie where they should
	for k, t := range tails {
		if q := p.parts[k]; q.scale > 0 {
			at[k] = q.logWeight + float64(n*(t.norm-ln(q.scale)))
			top = max(top, at[k]-float64(n*t.loss))
		}
	}
	if p.treated < 1 || math.IsInf(top, -1) {
		return math.Inf(1)
	}
	for k, t := range tails {
		if p.parts[k].scale > 0 {
			there += exp(at[k] - float64(n*t.loss) - top)
		}
	}
	there = top + ln(there)
	m, x := math.Sqrt(float64(3*p.midVar)), 0.0
	for k, t := range tails {
		q := p.parts[k]
		if !(q.scale > 0) {
			continue
		}
		// far is how far off all hosts must be, for evidence need against a guess of such a weight and scale.
		far := func(weight, grow float64) float64 {
			l := (need - there + at[k] + weight - float64(n*grow)) / float64(n*(t.df+1)/2)
			if l <= 0 {
				return 0
			}
			return float64(q.scale * exp(grow) * math.Sqrt(t.df*expm1(l)))
		}
		x = max(x, far(lnThird, 0), m+far(lnSixth, 0), far(lnSixth, float64(math.Sqrt(3)*q.scaleSD)))
	}
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
