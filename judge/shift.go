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

// own is one treated host's value less mid, and how much it varies against a typical one.
type own struct {
	y, rel float64
	inv    float64 // rel to the power of -2
	host   int
}

// leastScale is the smallest scale of changes of a host: below it nothing is of interest, and constants have none.
const leastScale = 2e-4

// mostSpread bounds how much more or less than a typical host one is taken to vary: a factor of e⁴ in its scale.
const mostSpread = 8.0

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
