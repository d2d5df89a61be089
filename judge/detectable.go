package judge

import "math"

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
	// A power of 80 % takes 0.84 standard errors more, were hosts normal and evidence as expected. That few of them
	// scatter more, and that many lose less than is counted here, was measured.
	return x + float64((0.7+1.5/n)*p.se)
}
