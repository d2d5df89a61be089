package judge

import (
	"math"
	"time"
)

// Working is how a verdict on one signal comes about, for a person who wants to check it.
type Working struct {
	Hosts []HostWorking // as Group.Hosts
	// Middle is the typical relative change of the controls against their common movement, and Scale how much a typical
	// host's change differs from it, in log units.
	Middle, Scale float64
	// Error is the standard error of the effect, in log units, were hosts normal.
	Error float64
	// Level, Jumps and Trend are the evidence of each for a change for the worse: how many times likelier what was seen
	// is with such a change than without.
	Level, Jumps, Trend float64
	Look                CellLook
}

// HostWorking is what one host contributes.
type HostWorking struct {
	ID       string
	Treated  bool
	Before   float64 // mean of the signal before
	Expected float64 // mean after, had the host moved as the controls did
	After    float64 // mean after
	Change   float64 // After against Expected, relative
	Noise    float64 // how much its change may differ by chance, in log units: a scale of Student's t with 4 degrees of freedom
	Samples  int     // after
	Out      string  // why it does not count; empty: it does
}

// Working shows how the verdict on a signal at a look comes about. It changes nothing.
func (c *Comparison) Working(signal int, at time.Time) Working {
	k := c.cells[signal]
	left := c.leftOut()
	w := Working{Hosts: make([]HostWorking, len(c.g.Hosts)), Look: k.look(left, at), Middle: nan, Scale: nan, Error: nan}
	if k.base == nil {
		for i, h := range c.g.Hosts {
			w.Hosts[i] = HostWorking{ID: h.ID, Treated: h.Treated, Before: nan, Expected: nan, After: nan, Change: nan, Noise: nan, Out: w.Look.WhyNot}
		}
		return w
	}
	level, treated := k.changes(left)
	e := k.weigh(level, treated, true)
	if e.ok[0] {
		w.Middle, w.Scale, w.Error = expm1(e.fit[0].mid), e.fit[0].scale, e.fit[0].se
		w.Level, w.Jumps, w.Trend = exp(e.evidence[0]), exp(e.evidence[1]), exp(e.evidence[2])
	}
	for i, h := range c.g.Hosts {
		a := k.after[i]
		one := HostWorking{ID: h.ID, Treated: h.Treated, Before: k.base.mean[i], After: nan, Expected: nan, Change: nan, Noise: nan, Samples: a.n}
		if a.n > 0 {
			one.After = a.x / float64(a.n)
		}
		switch why, out := left[i]; {
		case out:
			one.Out = why
		case k.base.mean[i] == 0:
			one.Out = "no level before"
		case level[i] != level[i]:
			one.Out = "too little after it settled"
		default:
			one.Change = expm1(level[i])
			one.Expected = one.After / exp(level[i])
			if e.ok[0] {
				q := k.base.spread[i]
				if q != q {
					q = 0
				}
				one.Noise = e.fit[0].scale * exp(e.fit[0].power*max(-mostSpread, min(mostSpread, q))/2)
			}
		}
		w.Hosts[i] = one
	}
	return w
}

// changes are the changes of the level of hosts that count. NaN: it does not.
func (k *cell) changes(left map[int]string) (level []float64, treated []bool) {
	hosts := k.c.g.Hosts
	level, treated = make([]float64, len(hosts)), make([]bool, len(hosts))
	for i, h := range hosts {
		treated[i], level[i] = h.Treated, k.change(i)
		if _, out := left[i]; out {
			level[i] = nan
		}
	}
	return level, treated
}

// weighed is what the three ways to look at a signal say: level, jumps, trend.
type weighed struct {
	fit      [3]shift
	nodes    [3]nodes
	ok       [3]bool
	evidence [3]float64 // logarithm; less than nothing where there is no fit
}

// weigh fits what was seen. All: also of jumps and trend that show nothing bad, which evidence would hardly be moved by.
func (k *cell) weigh(level []float64, treated []bool, all bool) (w weighed) {
	m, n := &reference, len(level)
	sign := k.sig.Bad.sign()
	one := func(which int, in lookFor, least, sign float64) {
		w.evidence[which] = math.Inf(-1)
		if which > 0 && !all && in.harmless(sign) {
			return
		}
		f, ok := newShift(in, least)
		if !ok {
			return
		}
		w.fit[which], w.ok[which], w.nodes[which] = f, true, f.nodes()
		w.evidence[which] = f.evidence(&w.nodes[which], sign)
	}
	seen, treatedSeen := 0, 0
	jumps, trend := make([]float64, n), make([]float64, n)
	for i := range level {
		jumps[i], trend[i] = nan, nan
		if level[i] != level[i] {
			continue
		}
		jumps[i] = k.jumps[2][i].logMean() - k.jumps[0][i].with(k.jumps[1][i]).logMean()
		trend[i] = k.trend(i)
		if treated[i] {
			seen += k.after[i].n
			treatedSeen++
		}
	}
	in := lookFor{y: level, spread: k.base.spread, recent: k.base.recent, treated: treated}
	in2 := lookFor{y: jumps, treated: treated}
	in3 := lookFor{y: trend, spread: k.base.spread, treated: treated}
	if treatedSeen > 0 {
		after := float64(seen) / float64(treatedSeen) * k.c.g.Step.Hours()
		in.prior, in2.prior, in3.prior = k.base.expect(after)
		in.worth, in2.worth, in3.worth = m.worth, m.worth, m.worth
	}
	one(0, in, max(leastScale, leastOfMargin*k.sig.Margin), sign)
	if !w.ok[0] {
		return w
	}
	one(1, in2, leastJumpScale, 1)
	one(2, in3, max(leastScale, leastDrift*k.sig.Margin), sign)
	return w
}

// leastOfMargin and leastDrift are the smallest scales of changes of the level, and of drifts in an hour, as shares of the
// margin: quieter hosts would make proof of what nobody minds.
const (
	leastOfMargin = 0.01
	leastDrift    = 0.03
)

// leastJumpScale is the smallest scale of how hosts' jumps change: five per cent are of no interest.
const leastJumpScale = 0.05
