package judge

import "math"

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
		var logs [5]float64
		for i := 0; i < len(f.own); i += fewHosts {
			for k, p := range products(f.own[i:min(i+fewHosts, len(f.own))], &all[g], x) {
				logs[k] += ln(p)
			}
		}
		for k, nd := range all[g] {
			l := nd.logWeight - float64((t.df+1)/2*logs[k])
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
		p := products(f.own, nd, x)
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

// fewHosts is how many hosts' factors a number can hold, however far off they are.
const fewHosts = 16

// products are those of 1 + z²/df over treated hosts, by node.
func products(hosts []own, nd *[5]node, x float64) [5]float64 {
	p0, p1, p2, p3, p4 := 1.0, 1.0, 1.0, 1.0, 1.0
	x += nd[0].mid
	shift, inv, wide, narrow := nd[1].mid-nd[0].mid, nd[0].inv, nd[3].inv, nd[4].inv
	for i := range hosts {
		o := &hosts[i]
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
