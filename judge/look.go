package judge

import (
	"fmt"
	"math"
	"time"
)

// minAfter is how much of the after a host must show to count.
const minAfter = 5 * time.Minute

// Look is what one group shows at one time: enough to decide, and to decide again with what other groups show.
type Look struct {
	At    time.Time
	Cells []CellLook // as Group.Signals
}

// CellLook is what one signal shows. Numbers are in log units.
type CellLook struct {
	// Evidence is the logarithm of the evidence for a change for the worse, and By what shows it most.
	Evidence float64
	By       string
	Estimate float64 // of the change of the level; NaN: none
	Low      float64 // bounds that are right at all looks together
	High     float64
	Treated  int     // hosts that count
	Controls int     // the same
	Hours    float64 // of the after, of the treated hosts, on average
	NotPass  string  // why it would not be a pass, whatever the bounds
	WhyNot   string  // why there is no estimate

	precision precision
	placebo   Placebo
	before    float64 // hours of it
}

// Look says what is there now. It changes nothing.
func (c *Comparison) Look(at time.Time) Look {
	l := Look{At: at, Cells: make([]CellLook, len(c.cells))}
	left := c.leftOut()
	for i, k := range c.cells {
		l.Cells[i] = k.look(left, at)
	}
	return l
}

// leastShare is the share of its load below which a treated host is no proof of anything.
const leastShare = 0.5

// leftOut are treated hosts that do not carry their load, with what to say about them.
func (c *Comparison) leftOut() map[int]string {
	var left map[int]string
	for _, k := range c.cells {
		if !k.sig.Work || k.base == nil {
			continue
		}
		var others []float64
		for i, h := range c.g.Hosts {
			if d := k.change(i); !h.Treated && d == d {
				others = append(others, d)
			}
		}
		if len(others) == 0 {
			continue
		}
		middle := median(others)
		for i, h := range c.g.Hosts {
			if !h.Treated {
				continue
			}
			if d := k.change(i); d == d && exp(d-middle) < leastShare {
				if left == nil {
					left = map[int]string{}
				}
				left[i] = fmt.Sprintf("%s carries %.0f %% of its load (%s)", h.ID, 100*exp(d-middle), k.sig.Name)
			}
		}
	}
	return left
}

// change is R after less R before of host i. NaN: it does not show enough.
func (k *cell) change(i int) float64 {
	a := k.after[i]
	if a.n == 0 || time.Duration(a.n)*k.c.g.Step < minAfter {
		return nan
	}
	return logRatio(a.x, a.c, k.base.mean[i]) - k.base.level[i]
}

// leastTrend is how long an after must be before a drift in it means anything.
const leastTrend = 45 * time.Minute

// trend is by how much the level of host i drifts in an hour of the after, against the common movement. NaN: not known.
func (k *cell) trend(i int) float64 {
	a := k.after[i]
	if time.Duration(a.n)*k.c.g.Step < leastTrend || !(a.c > 0) || !(a.x > 0) {
		return nan
	}
	m := a.tc / a.c
	v := a.ttc/a.c - float64(m*m)
	if !(v > 1e-6) {
		return nan
	}
	return (a.tx/a.x - m) / v
}

func (k *cell) look(left map[int]string, at time.Time) CellLook {
	l := CellLook{Estimate: nan, Low: math.Inf(-1), High: math.Inf(1)}
	hosts := k.c.g.Hosts
	n := len(hosts)
	if k.base == nil {
		l.WhyNot = "nothing was seen after the change yet"
		return l
	}
	level, treated := k.changes(left)
	arms, lost, flat, seen := 0, 0, 0, 0.0
	for i, h := range hosts {
		if h.Treated {
			arms++
			if why, out := left[i]; out {
				l.NotPass = why
			}
		}
		switch {
		case level[i] != level[i]:
			if h.Treated {
				if k.base.mean[i] == 0 {
					flat++
				} else {
					lost++
				}
			}
		case h.Treated:
			l.Treated++
			seen += float64(k.after[i].n)
			if gap := time.Duration(k.n-1-k.after[i].last) * k.c.g.Step; gap > lostAfter && l.NotPass == "" {
				l.NotPass = fmt.Sprintf("%s was last seen %s before the look", h.ID, gap.Round(time.Minute))
			}
		default:
			l.Controls++
		}
	}
	switch {
	case arms == 0:
		l.WhyNot = "there is no treated host"
		return l
	case arms == n:
		l.WhyNot = "there is no control"
		return l
	case l.Treated == 0 && l.NotPass != "":
		l.WhyNot = l.NotPass
		return l
	case l.Treated == 0 && flat == arms:
		l.WhyNot = "before the change the treated hosts show nothing, or nothing but zeros: there is no level to compare with"
		return l
	case l.Treated == 0:
		l.WhyNot = fmt.Sprintf("no treated host shows %d minutes of samples after it settled, and a level before", int(minAfter.Minutes()))
		return l
	case l.Controls < 2:
		l.WhyNot = fmt.Sprintf("%d of the controls shows enough; at least 2 are needed", l.Controls)
		return l
	case l.NotPass == "" && lost+flat > 0:
		l.NotPass = fmt.Sprintf("%d of %d treated hosts show too little", lost+flat, arms)
	}
	l.Hours = seen / float64(l.Treated) * k.c.g.Step.Hours()
	l.before, l.placebo = k.base.hours, k.base.placebo
	k.test(&l, level, treated)
	return l
}

// lostAfter is how long a treated host may be silent before what it showed is no longer what it shows.
const lostAfter = 15 * time.Minute

// test fits what was seen and weighs it.
func (k *cell) test(l *CellLook, level []float64, treated []bool) {
	m := &reference
	w := k.weigh(level, treated, false)
	if !w.ok[0] {
		l.WhyNot = "too few hosts show enough"
		return
	}
	f := &w.fit[0]
	l.precision = f.precision()
	l.Estimate, l.Low, l.High = f.region(&w.nodes[0], 1-m.level, m.width)
	if l.NotPass == "" {
		l.NotPass = k.odd(f, l.Estimate)
	}
	top, best := math.Inf(-1), 0
	for i := range w.evidence {
		w.evidence[i] += m.lnShare[i]
		if w.evidence[i] > top {
			top, best = w.evidence[i], i
		}
	}
	sum := 0.0
	for _, e := range w.evidence {
		sum += exp(e - top)
	}
	l.Evidence, l.By = top+ln(sum), [...]string{"level", "jumps", "trend"}[best]
}

// oddBy is how many scales a host must lie off the others to be called odd: one in 500 does by chance.
const oddBy = 6

// odd names a treated host that alone is worse than the margin allows. The others may outvote it where the type's
// verdict is asked for, but it is not proof that all is well. Empty: there is none.
func (k *cell) odd(f *shift, estimate float64) string {
	sign := k.sig.Bad.sign()
	worst, out := float64(oddBy), ""
	for _, o := range f.own {
		change := relative(k.sig.Bad, sign*o.y)
		if z := float64(sign*(o.y-estimate)) / float64(f.scale*o.rel); change > k.sig.Margin && z > worst {
			worst = z
			out = fmt.Sprintf("%s alone is %s", k.c.g.Hosts[o.host].ID, changeText(expm1(o.y)))
		}
	}
	return out
}
