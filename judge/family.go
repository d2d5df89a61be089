package judge

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sort"
	"time"
)

// method is the numbers of the judge's method, each with its reason.
type method struct {
	q       float64    // share of false regressions among regressions, and chance of any when nothing changed
	level   float64    // of the intervals
	width   float64    // what looking many times costs an interval, see shift.region
	wander  [3]float64 // by which changes differ more after the change than the before lets one expect: hosts wander; as lnShare
	worth   float64    // how many controls the scale expected from the before is worth
	lnShare [3]float64 // logarithm of the share of the evidence: level, jumps, trend
	caution float64    // evidence that is asked for beyond what theory does, in logarithms: few hosts have heavier tails yet
	cost    float64    // evidence that the averaging over shifts costs, for the smallest detectable effect
}

var reference = method{
	q: 0.05, level: 0.95, width: 12, worth: 6, wander: [3]float64{1.1, 1.3, 1.1},
	lnShare: [3]float64{ln(0.8), ln(0.1), ln(0.1)}, cost: 1.6, caution: ln(1.6),
}

// Family decides over all signals of all groups of a rollout together.
type Family struct {
	groups []Group
	cells  [][]familyCell // by group, by signal
	judged int
}

type familyCell struct {
	evidence float64 // logarithm of the largest so far
	by       string
	found    bool
	placebo  Placebo
}

func (c *familyCell) p() float64 { return min(1, exp(reference.caution-c.evidence)) }

// NewFamily begins a decision matrix over all groups that it will ever have.
func NewFamily(groups []Group) *Family {
	f := &Family{groups: groups}
	for _, g := range groups {
		for _, s := range g.Signals {
			if !s.Work {
				f.judged++
			}
		}
		f.cells = append(f.cells, make([]familyCell, len(g.Signals)))
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
			if l.Evidence > c.evidence {
				c.evidence, c.by = l.Evidence, l.By
			}
			if l.placebo.Replays > 0 {
				c.placebo = l.placebo
			}
		}
	}
	f.reject()
	placebos := f.placebos()
	var out []Verdict
	for _, g := range groups {
		for i, s := range f.groups[g].Signals {
			if !s.Work {
				v := f.verdict(at, g, i, looks[g].Cells[i])
				v.Placebo = placebos[s.Name]
				out = append(out, v)
			}
		}
	}
	return out
}

// placebos adds up the replays of each signal over all types that were looked at.
func (f *Family) placebos() map[string]Placebo {
	out := map[string]Placebo{}
	for g := range f.cells {
		for i := range f.cells[g] {
			name := f.groups[g].Signals[i].Name
			sum := out[name]
			sum.Alarms += f.cells[g][i].placebo.Alarms
			sum.Replays += f.cells[g][i].placebo.Replays
			out[name] = sum
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
	slices.SortStableFunc(ps, func(a, b *familyCell) int { return cmp.Compare(b.evidence, a.evidence) })
	last := -1
	for i, c := range ps {
		if c.evidence >= reference.caution+ln(float64(len(ps))/float64(reference.q*float64(i+1))) {
			last = i
		}
	}
	for _, c := range ps[:last+1] {
		c.found = true
	}
}

func (f *Family) verdict(at time.Time, g, i int, l CellLook) Verdict {
	s, c := f.groups[g].Signals[i], &f.cells[g][i]
	v := Verdict{
		Group: f.groups[g].ID, Signal: s.Name, Look: at, Level: reference.level, P: c.p(),
		Effect: nan, Low: math.Inf(-1), High: math.Inf(1), MDE: math.Inf(1), Why: l.WhyNot,
	}
	if l.WhyNot == "" {
		v.Effect, v.Low, v.High = expm1(l.Estimate), expm1(l.Low), expm1(l.High)
		if math.IsInf(l.Low, -1) {
			v.Low = math.Inf(-1)
		}
		v.MDE = f.mde(s.Bad, l)
		v.Needs = f.needs(s, l)
	}
	bound := v.High
	if s.Bad == Decrease {
		bound = -v.Low
	}
	switch {
	case c.found:
		v.Outcome = Regression
	case l.WhyNot == "" && l.NotPass == "" && bound < s.Margin:
		v.Outcome = Pass
	}
	if l.WhyNot == "" {
		v.Why = f.why(v, s, l, c, bound)
	}
	return v
}

// mde is the smallest relative change in the bad direction that would be found now with a probability of 80 %.
func (f *Family) mde(bad Direction, l CellLook) float64 {
	return relative(bad, l.precision.detectable(f.need()))
}

func (f *Family) need() float64 { return needFor(f.judged) }

// needFor is the evidence of the level that makes a regression of one of so many cells.
func needFor(cells int) float64 {
	return reference.caution + ln(float64(cells)/reference.q) - reference.lnShare[0] + reference.cost
}

// relative is a change in log units in the bad direction as a relative one.
func relative(bad Direction, d float64) float64 {
	if bad == Decrease {
		return -expm1(-d)
	}
	return expm1(d)
}

// needs is what it would take for the margin to be found with a probability of 80 %.
func (f *Family) needs(s Signal, l CellLook) Needs {
	const mostHours, mostHosts, wander = 24 * 14, 5000, 0.2
	var out Needs
	margin := log1p(s.Margin)
	if s.Bad == Decrease {
		margin = -log1p(-min(0.999, s.Margin))
	}
	need := f.need()
	// Both are searched on a grid of steps of a tenth, in which more is always better.
	var hours []float64
	for h := l.Hours; h > 0 && h <= mostHours; h = float64(h * 1.1) {
		hours = append(hours, h)
	}
	i := sort.Search(len(hours), func(i int) bool {
		k := sum2(1-wander, (1/hours[i]+1/l.before)/(1/l.Hours+1/l.before), wander, 1)
		return l.precision.grown(math.Sqrt(k)).detectable(need) <= margin
	})
	if i < len(hours) {
		out.Hours = hours[i]
	}
	var hosts []int
	for n := l.Treated; n <= mostHosts; n += 1 + n/10 {
		hosts = append(hosts, n)
	}
	per := (float64(l.precision.se*l.precision.se) - l.precision.midVar) * float64(l.Treated)
	i = sort.Search(len(hosts), func(i int) bool {
		p := l.precision
		p.se, p.treated = math.Sqrt(per/float64(hosts[i])+p.midVar), hosts[i]
		return p.detectable(need) <= margin
	})
	if i < len(hosts) {
		out.Hosts = hosts[i]
	}
	return out
}

func (f *Family) why(v Verdict, s Signal, l CellLook, c *familyCell, bound float64) string {
	hosts := fmt.Sprintf("%d treated and %d control hosts after %s", l.Treated, l.Controls, hoursText(l.Hours))
	switch {
	case v.Outcome == Regression:
		what := map[string]string{
			"level": fmt.Sprintf("it is %s", changeText(v.Effect)),
			"jumps": "it jumps more from sample to sample than before",
			"trend": fmt.Sprintf("it drifts for the worse (%s on average so far)", changeText(v.Effect)),
		}[c.by]
		return fmt.Sprintf("regression: %s on the treated hosts against the controls, with %s; by chance alone that happens with p = %.2g, over all looks", what, hosts, v.P)
	case l.NotPass != "":
		return "inconclusive: " + l.NotPass
	case v.Outcome == Pass:
		return fmt.Sprintf("pass: a change of more than %s for the worse is excluded, with %s (the margin is %s)", percent(max(bound, 0)), hosts, percent(s.Margin))
	case math.IsInf(v.MDE, 1) || math.IsInf(bound, 1):
		return fmt.Sprintf("inconclusive: %s cannot tell any change from chance yet", hosts)
	}
	return fmt.Sprintf("inconclusive: with %s a change of %s for the worse is still possible (the margin is %s); one of %s would be found", hosts, percent(bound), percent(s.Margin), percent(v.MDE))
}

func hoursText(h float64) string {
	if h < 2 {
		return fmt.Sprintf("%.0f min", 60*h)
	}
	return fmt.Sprintf("%.1f h", h)
}

func percent(x float64) string { return fmt.Sprintf("%.3g %%", 100*x) }

func changeText(x float64) string {
	if x < 0 {
		return percent(-x) + " lower"
	}
	return percent(x) + " higher"
}
