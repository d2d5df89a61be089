package judge

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// History is the series of hosts of one type while nothing changed: what a canary of theirs would be able to show is
// forecast from it.
type History struct {
	g      Group
	blocks [][][]sum // by signal, by block, by host
	n      []int
}

// NewHistory begins the history of a group. Which hosts are treated, when they changed and T0 are ignored.
func NewHistory(g Group) (*History, error) {
	g.Hosts = slices.Clone(g.Hosts)
	for i, h := range g.Hosts {
		g.Hosts[i] = Host{ID: h.ID}
	}
	if err := g.check(); err != nil {
		return nil, err
	}
	return &History{g: g, blocks: make([][][]sum, len(g.Signals)), n: make([]int, len(g.Signals))}, nil
}

// Observe takes the next sample of a signal, as [Comparison.Observe] does.
func (h *History) Observe(signal int, values []float64) error {
	if err := h.g.checkSample(signal, values); err != nil {
		return err
	}
	b := int(time.Duration(h.n[signal]) * h.g.Step / block)
	h.n[signal]++
	for len(h.blocks[signal]) <= b {
		h.blocks[signal] = append(h.blocks[signal], make([]sum, len(h.g.Hosts)))
	}
	for i, v := range values {
		if v == v {
			h.blocks[signal][b][i].x += float32(v)
			h.blocks[signal][b][i].n++
		}
	}
	return nil
}

// Forecast is what one signal of a type will be able to show.
type Forecast struct {
	Signal string
	Margin float64
	// ByHours is the smallest number of canaries with which the smallest detectable effect is at most the margin, for
	// each length of the after that the history can speak for.
	ByHours []HoursForecast
	// Best is the entry of ByHours that is enough with the fewest canaries, the shorter one of equals. Nil: none is.
	Best *HoursForecast
	// Cannot says what cannot be seen on this type; empty: the margin can.
	Cannot string
}

// HoursForecast is what is enough for one length of the after.
type HoursForecast struct {
	Hours    float64 // of samples, after the hosts have settled
	Canaries int     // 0: no number of them is enough
	MDE      float64 // smallest relative change in the bad direction found with 80 %, with so many canaries, or with the most
}

// planHours are the lengths of the after that are looked at.
var planHours = [...]float64{0.5, 1, 2, 4, 8, 12, 24, 48}

// Plan forecasts for each signal, in the order of Group.Signals, how many canaries and hours are needed. cells is how
// many signals of all types the rollout judges together: the more, the more evidence each needs. At most half of the
// hosts become canaries: the others are their controls.
func (h *History) Plan(cells int) []Forecast {
	out := make([]Forecast, 0, len(h.g.Signals))
	for s, sig := range h.g.Signals {
		if sig.Work {
			continue
		}
		out = append(out, h.plan(s, sig, max(cells, 1)))
	}
	return out
}

func (h *History) plan(s int, sig Signal, cells int) Forecast {
	f := Forecast{Signal: sig.Name, Margin: sig.Margin}
	need := needFor(cells)
	most := len(h.g.Hosts) / 2
	blocks := h.blocks[s]
	length := float64(len(blocks)) * block.Hours()
	best := math.Inf(1)
	for _, hours := range planHours {
		if hours > length/2 {
			break
		}
		scale, hosts := h.scale(blocks, hours)
		if !(scale > 0) {
			continue
		}
		one := HoursForecast{Hours: hours, MDE: math.Inf(1)}
		for n := 1; n <= most && n < hosts; n++ {
			c := (tail + 3) / (tail + 1) * scale * scale
			midVar := c / float64(hosts-n)
			p := precision{se: math.Sqrt(c/float64(n) + midVar), midVar: midVar, treated: n}
			p.parts[0] = part{0, scale, scaleSD(tail, hosts-n, reference.worth)}
			mde := relative(sig.Bad, p.detectable(need))
			one.MDE = min(one.MDE, mde)
			if mde <= sig.Margin {
				one.Canaries, one.MDE = n, mde
				break
			}
		}
		best = min(best, one.MDE)
		f.ByHours = append(f.ByHours, one)
		if one.Canaries > 0 && (f.Best == nil || one.Canaries < f.Best.Canaries) {
			f.Best = &one
		}
	}
	switch {
	case len(h.g.Hosts) < 3:
		f.Cannot = fmt.Sprintf("a type of %s cannot be compared: one canary and two controls are the least", hostsText(len(h.g.Hosts)))
	case len(f.ByHours) == 0:
		f.Cannot = fmt.Sprintf("%s of history with a level say too little; give at least an hour", hoursText(length))
	case f.Best == nil && math.IsInf(best, 1):
		f.Cannot = fmt.Sprintf("no change can be told from chance with %d canaries", most)
	case f.Best == nil:
		f.Cannot = fmt.Sprintf("with %d canaries and up to %s, changes below %s cannot be seen (the margin is %s)", most, hoursText(f.ByHours[len(f.ByHours)-1].Hours), percent(best), percent(sig.Margin))
	}
	return f
}

// placements is how many times in the history a change is imagined.
const placements = 12

// scale is how much the change of a typical host between before and after differs from the others' by chance, for an
// after of some hours: the quadratic mean over imagined changes, spread evenly over the history.
func (h *History) scale(blocks [][]sum, hours float64) (scale float64, hosts int) {
	after := max(1, int(math.Round(hours/block.Hours())))
	before := min(len(blocks)-after, int(24/block.Hours()))
	room := len(blocks) - after - before
	at := map[int]bool{}
	var total, n float64
	for p := range placements {
		from := room * p / (placements - 1)
		if at[from] {
			continue
		}
		at[from] = true
		one, seen := h.placebo(blocks[from:from+before], blocks[from+before:from+before+after])
		if one > 0 {
			total += float64(one * one)
			n++
			hosts = max(hosts, seen)
		}
	}
	if n == 0 {
		return 0, 0
	}
	return math.Sqrt(total / n), hosts
}

// placebo is the scale of hosts' changes from one window to the next.
func (h *History) placebo(before, after [][]sum) (scale float64, hosts int) {
	n := len(h.g.Hosts)
	level := make([]float64, n)
	for i := range n {
		var x, m float64
		for _, b := range before {
			x += float64(b[i].x)
			m += float64(b[i].n)
		}
		if m > 0 {
			level[i] = x / m
		}
	}
	ratio := func(window [][]sum) []float64 {
		x, c := make([]float64, n), make([]float64, n)
		var u []float64
		for _, b := range window {
			u = u[:0]
			for i, s := range b {
				if s.n > 0 && level[i] > 0 {
					u = append(u, float64(s.x)/float64(s.n)/level[i])
				}
			}
			common := trimmed(u)
			if common != common {
				continue
			}
			for i, s := range b {
				x[i] += float64(s.x)
				c[i] += float64(common * float64(s.n))
			}
		}
		for i := range x {
			x[i] = logRatio(x[i], c[i], level[i])
		}
		return x
	}
	a, b := ratio(after), ratio(before)
	in := lookFor{y: make([]float64, n+1), treated: make([]bool, n+1)}
	in.y[n], in.treated[n] = 0, true // a fit wants one
	for i := range n {
		in.y[i] = a[i] - b[i]
		if in.y[i] == in.y[i] {
			hosts++
		}
	}
	f, ok := newShift(in, leastScale)
	if !ok {
		return 0, hosts
	}
	return f.scale, hosts
}

func hostsText(n int) string {
	if n == 1 {
		return "1 host"
	}
	return fmt.Sprintf("%d hosts", n)
}
