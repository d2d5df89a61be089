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

// CellLook is what one signal shows. Changes are in log units: of the level, of how much hosts jump from sample to
// sample, and of the second half of the after against the first.
type CellLook struct {
	Level, Jumps, Trend fit
	Hours               float64 // of the after, of the treated hosts, on average
	WhyNot              string  // why there is no estimate
}

// Look says what is there now. It changes nothing.
func (c *Comparison) Look(at time.Time) Look {
	l := Look{At: at, Cells: make([]CellLook, len(c.cells))}
	for i, k := range c.cells {
		l.Cells[i] = k.look()
	}
	return l
}

func (k *cell) look() CellLook {
	var l CellLook
	hosts := k.c.g.Hosts
	n := len(hosts)
	if k.base == nil {
		l.WhyNot = "nothing was seen after the change yet"
		return l
	}
	level, trend, jumps, treated := make([]float64, n), make([]float64, n), make([]float64, n), make([]bool, n)
	controls, nt, seen := 0, 0, 0
	for i, h := range hosts {
		treated[i] = h.Treated
		level[i], trend[i] = k.ratioAfter(i)
		jumps[i] = k.moves[1][i].logMean() - k.moves[0][i].logMean()
		switch {
		case level[i] != level[i]:
		case h.Treated:
			nt++
			seen += k.seen[i]
		default:
			controls++
		}
	}
	switch {
	case nt == 0:
		l.WhyNot = fmt.Sprintf("no treated host shows %s of samples after it settled, and a level before", minAfter)
		return l
	case controls < 2:
		l.WhyNot = fmt.Sprintf("%d controls show enough; at least 2 are needed", controls)
		return l
	}
	l.Hours = float64(seen) / float64(nt) * k.c.g.Step.Hours()
	columns := [][]float64{centred(k.base.level, treated)}
	if controls >= 15 {
		columns = append(columns, k.base.recent)
	}
	l.Level = regress(level, k.base.weight, treated, columns...)
	l.Jumps = regress(jumps, k.base.weight, treated)
	l.Trend = regress(trend, k.base.weight, treated)
	return l
}

// ratioAfter is R of host i over its after, and that of the second half less that of the first. NaN: not known.
func (k *cell) ratioAfter(i int) (level, trend float64) {
	if time.Duration(k.seen[i])*k.c.g.Step < minAfter {
		return nan, nan
	}
	var x, c float64
	for _, b := range k.after {
		x += float64(b[i].x)
		c += float64(b[i].c)
	}
	m := k.base.mean[i]
	level = logRatio(x, c, m)
	var x1, c1 float64
	for _, b := range k.after {
		if c1 >= c/2 {
			break
		}
		x1 += float64(b[i].x)
		c1 += float64(b[i].c)
	}
	return level, logRatio(x-x1, c-c1, m) - logRatio(x1, c1, m)
}

// centred is v less its mean over the controls.
func centred(v []float64, treated []bool) []float64 {
	s, n := 0.0, 0
	for i, x := range v {
		if !treated[i] && x == x {
			s += x
			n++
		}
	}
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = x - s/math.Max(1, float64(n))
	}
	return out
}
