package judgebench

import (
	"math"
	"slices"
)

// pooled are the rivals that compare samples, whichever host they are from.
type pooled struct {
	matrix
	name    string
	looks   []int // at which it decides, in minutes; nil: every 20
	alarm   func(p *points, c *Cell) bool
	lastS   int64 // only samples of the last so many seconds; 0: all since the reboot
	equal   bool  // as many controls as there are treated hosts
	inARow  int   // alarms in a row that it takes
	a, b    []float64
	scratch points
}

// points are the samples of the two arms, for a signal whose bad direction is up, and their means.
type points struct {
	treated, control         []float64
	treatedMean, controlMean float64
}

func newPooled() []Judge {
	kayentaLooks := []int{60, 240}
	ratio := func(margins float64) func(p *points, c *Cell) bool {
		return func(p *points, c *Cell) bool {
			if !(p.controlMean > 0) {
				return false
			}
			r := p.treatedMean/p.controlMean - 1
			return c.Sign()*r > margins*c.MarginRel
		}
	}
	var fives []int
	for m := 10; m <= 1440; m += 5 {
		fives = append(fives, m)
	}
	return []Judge{
		&pooled{name: "Kayenta", looks: kayentaLooks, alarm: kayenta, inARow: 1},
		&pooled{name: "Kayenta, as many controls as canaries", looks: kayentaLooks, alarm: kayenta, equal: true, inARow: 1},
		&pooled{name: "Kayenta, allowed: the margin", looks: kayentaLooks, inARow: 1, alarm: func(p *points, c *Cell) bool {
			return ratio(1)(p, c) && kayenta(p, c)
		}},
		&pooled{name: "ratio of means, margin", alarm: ratio(1), inARow: 1},
		&pooled{name: "ratio of means, 2 x margin", alarm: ratio(2), inARow: 1},
		&pooled{name: "ratio of means, last 5 min, 3 in a row", looks: fives, alarm: ratio(1), lastS: 300, inARow: 3},
	}
}

func (p *pooled) Name() string { return p.name }

func (p *pooled) decides(minute int) bool {
	if p.looks == nil {
		return minute%20 == 0
	}
	return slices.Contains(p.looks, minute)
}

func (p *pooled) See(t *Type, effect []float64) {
	out := p.add(t, effect)
	n := t.Hosts()
	hosts := n
	if p.equal {
		hosts = 2 * t.Treated
	}
	for i := range t.Cells {
		c := &t.Cells[i]
		last, row := silent, 0
		for l, at := range t.Looks {
			if !p.decides(int(at-t.T0) / 60) {
				out[i][l] = last
				continue
			}
			from := t.T0
			if p.lastS > 0 {
				from = max(from, at-p.lastS)
			}
			f := 1.0
			if effect != nil {
				f = 1 + c.Sign()*effect[i]
			}
			pts := &p.scratch
			pts.treated, pts.control = pts.treated[:0], pts.control[:0]
			pts.treatedMean, pts.controlMean = 0, 0
			for k := int(from-t.Start) / t.StepS; k < int(at-t.Start)/t.StepS; k++ {
				when := t.Start + int64(k*t.StepS)
				for h, v := range c.X[k*n : k*n+hosts] {
					switch {
					case v != v:
					case h >= t.Treated:
						pts.control = append(pts.control, v)
						pts.controlMean += v
					case when >= t.Changed[h]:
						pts.treated = append(pts.treated, v*f)
						pts.treatedMean += v * f
					}
				}
			}
			if len(pts.treated) == 0 || len(pts.control) == 0 {
				out[i][l] = last
				continue
			}
			pts.treatedMean /= float64(len(pts.treated))
			pts.controlMean /= float64(len(pts.control))
			alarm := p.alarm(pts, c)
			row++
			if !alarm {
				row = 0
			}
			v := last
			v.Now, v.Pass = 1, !alarm
			if row >= p.inARow {
				v.P, v.Now, v.Pass = 0, 0, false
			}
			out[i][l], last = v, v
		}
	}
}

func (p *pooled) Decide(apart bool) [][]Seen { return p.decide(apart) }

// kayenta is the rule of Kayenta's NetflixACAJudge: the interval of a rank test at 98 % against a quarter of the
// estimated shift itself. The end of the interval is above the bound if the test still rejects at the bound.
func kayenta(p *points, c *Cell) bool {
	x, y := p.treated, p.control
	slices.Sort(x)
	slices.Sort(y)
	if c.Sign() < 0 {
		x, y = y, x
	}
	const z = 2.3263478740408408 // 98 %, two-sided
	if !(rankZ(x, y, 0) > z) {
		return false
	}
	lo, hi := 0.0, x[len(x)-1]-y[0]
	for range 40 {
		mid := (lo + hi) / 2
		if rankZ(x, y, mid) > 0 {
			lo = mid
		} else {
			hi = mid
		}
	}
	return rankZ(x, y, 0.25*hi) > z
}

// rankZ is the standardised rank sum of x moved down by shift, against y; both are sorted.
func rankZ(x, y []float64, shift float64) float64 {
	m, n := float64(len(x)), float64(len(y))
	var wins, ties float64
	below, upTo := 0, 0
	for i := 0; i < len(x); {
		v := x[i] - shift
		j := i
		for j < len(x) && x[j]-shift == v {
			j++
		}
		for below < len(y) && y[below] < v {
			below++
		}
		upTo = max(upTo, below)
		for upTo < len(y) && y[upTo] == v {
			upTo++
		}
		k := float64(j - i)
		same := float64(upTo - below)
		wins += k * (float64(below) + same/2)
		if same > 0 || k > 1 {
			g := k + same
			ties += g*g*g - g
		}
		i = j
	}
	w := wins - m*n/2
	switch {
	case w > 0:
		w -= 0.5
	case w < 0:
		w += 0.5
	}
	all := m + n
	sigma := math.Sqrt(m * n / 12 * (all + 1 - ties/(all*(all-1))))
	if !(sigma > 0) {
		return 0
	}
	return w / sigma
}
