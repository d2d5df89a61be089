package judge

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// method is the numbers of the judge's method, each with its reason.
type method struct {
	q        float64 // share of false regressions among regressions, and chance of any when nothing changed
	level    float64 // of the intervals
	variance float64 // by which variances are greater than residuals show: hosts wander
	minor    float64 // the same, for jumps and trend, as standard errors
	nu       float64 // prior scale of a change of the level, in log units
	nuMinor  float64
	dfMost   float64
	dfMinor  float64
	share    [3]float64 // of the error probability: level, jumps, trend
}

// reference is the method as docs/internals/judge.md describes its plain form.
var reference = method{
	q: 0.05, level: 0.95, variance: 1.2, minor: 1.14, nu: 0.05, nuMinor: 0.05, dfMost: 40, dfMinor: 8,
	share: [3]float64{0.8, 0.1, 0.1},
}

// Family decides over all signals of all groups of a rollout together.
type Family struct {
	m      method
	groups []Group
	cells  [][]familyCell // by group, by signal
	judged int
}

type familyCell struct {
	p       float64 // the smallest so far
	found   bool
	foundBy int
}

// NewFamily begins a decision matrix over all groups that it will ever have.
func NewFamily(groups []Group) *Family {
	f := &Family{m: reference, groups: groups}
	for _, g := range groups {
		cells := make([]familyCell, len(g.Signals))
		for i, s := range g.Signals {
			cells[i].p = 1
			if !s.Work {
				f.judged++
			}
		}
		f.cells = append(f.cells, cells)
	}
	return f
}

// Decide takes looks at one time, by group index, and returns the verdicts of those groups, in the order of groups and
// of their signals. Looks must come in the order of time.
func (f *Family) Decide(at time.Time, looks map[int]Look) []Verdict {
	groups := make([]int, 0, len(looks))
	for g := range looks {
		groups = append(groups, g)
	}
	slices.Sort(groups)
	for _, g := range groups {
		for i, l := range looks[g].Cells {
			c := &f.cells[g][i]
			c.p = min(c.p, f.m.pValue(l, f.groups[g].Signals[i].Bad))
		}
	}
	f.reject()
	var out []Verdict
	for _, g := range groups {
		for i, s := range f.groups[g].Signals {
			if !s.Work {
				out = append(out, f.verdict(at, g, i, looks[g].Cells[i]))
			}
		}
	}
	return out
}

// reject finds regressions by the rule of Benjamini and Hochberg.
func (f *Family) reject() {
	var ps []*familyCell
	for g := range f.cells {
		for i := range f.cells[g] {
			if !f.groups[g].Signals[i].Work {
				ps = append(ps, &f.cells[g][i])
			}
		}
	}
	slices.SortStableFunc(ps, func(a, b *familyCell) int { return cmp.Compare(a.p, b.p) })
	last := -1
	for i, c := range ps {
		if c.p <= f.m.q*float64(i+1)/float64(len(ps)) {
			last = i
		}
	}
	for _, c := range ps[:last+1] {
		c.found = true
	}
}

// se and df are those of a fit of the level.
func (m method) of(f fit) (se, df float64) {
	se = math.Sqrt(m.variance * f.S2 * f.Var)
	k := f.Kurt
	if f.N < 8 {
		k = max(k, 0)
	}
	df = min(f.DF, 4+6*float64(f.NT)/max(k+0.5, 0.05), m.dfMost)
	return se, df
}

func (m method) ofMinor(f fit) (se, df float64) {
	return m.minor * math.Sqrt(f.S2*f.Var), min(f.DF, m.dfMinor)
}

// pValue is that of one cell at one look.
func (m method) pValue(l CellLook, bad Direction) float64 {
	p := 1.0
	one := func(f fit, sign, nu, share float64, of func(fit) (float64, float64)) {
		if !f.ok() || sign*f.Effect <= 0 {
			return
		}
		se, df := of(f)
		p = min(p, math.Exp(-mixture{nu}.logE(f.Effect, se, df))/share)
	}
	one(l.Level, bad.sign(), m.nu, m.share[0], m.of)
	one(l.Jumps, 1, m.nuMinor, m.share[1], m.ofMinor)
	one(l.Trend, bad.sign(), m.nuMinor, m.share[2], m.ofMinor)
	return p
}

func (f *Family) verdict(at time.Time, g, i int, l CellLook) Verdict {
	s, c := f.groups[g].Signals[i], f.cells[g][i]
	v := Verdict{
		Group: f.groups[g].ID, Signal: s.Name, Look: at, Level: f.m.level, P: c.p,
		Effect: nan, Low: math.Inf(-1), High: math.Inf(1), MDE: math.Inf(1), Why: l.WhyNot,
	}
	if l.Level.ok() {
		se, df := f.m.of(l.Level)
		r := mixture{f.m.nu}.radius(1-f.m.level, se, df)
		v.Effect, v.Low, v.High = math.Expm1(l.Level.Effect), math.Expm1(l.Level.Effect-r*se), math.Expm1(l.Level.Effect+r*se)
		if math.IsInf(r, 1) {
			v.Low, v.High = math.Inf(-1), math.Inf(1)
		}
		find := se * (mixture{f.m.nu}.radius(f.m.q/float64(max(1, f.judged)), se, df) + quantile(0.2, df))
		v.MDE = math.Expm1(find)
		if s.Bad == Decrease {
			v.MDE = -math.Expm1(-find)
		}
		if bound := s.Bad.sign() * v.High; s.Bad == Increase && bound < s.Margin || s.Bad == Decrease && -v.Low < s.Margin {
			v.Outcome = Pass
		}
	}
	if c.found {
		v.Outcome = Regression
	}
	return v
}
