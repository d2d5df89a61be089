package judgebench

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/kernwave/kernwave/judge"
)

// ours is the project's judge, as a rollout uses it.
type ours struct {
	groups []judge.Group
	looks  [][]judge.Look
	labels [][]Label
	at     []int64
	values []float64
	// families is how many cells a family has at least: those of which nothing is seen make it up.
	families int
	// fast: what is said at each look is read from the look itself, and the family decides at a few looks only, each
	// with the most evidence so far. It says the same, as a test shows, and saves forecasts that nobody reads.
	fast bool
	// decides are the minutes of the looks at which a fast family decides; the last look is always one.
	decides []int
	matrix
}

func (o *ours) Name() string { return "kernwave" }

// group is what is compared, without the samples.
func group(t *Type) judge.Group {
	g := judge.Group{ID: t.ID, Step: time.Duration(t.StepS) * time.Second, Start: time.Unix(t.Start, 0), T0: time.Unix(t.T0, 0)}
	for _, c := range t.Cells {
		s := judge.Signal{Name: c.Signal, Margin: c.MarginRel}
		if c.Bad == "decrease" {
			s.Bad = judge.Decrease
		}
		g.Signals = append(g.Signals, s)
	}
	if t.Work != nil {
		g.Signals = append(g.Signals, judge.Signal{Name: "work", Unit: "1/s", Work: true})
	}
	for i, at := range t.Changed {
		h := judge.Host{ID: fmt.Sprintf("h%03d", i), Treated: i < t.Treated}
		if at > 0 {
			h.Changed = time.Unix(at, 0)
		}
		if r := t.Rebooted[i]; r > 0 {
			h.Rebooted = time.Unix(r, 0)
		}
		g.Hosts = append(g.Hosts, h)
	}
	return g
}

func (o *ours) See(t *Type, effect []float64) {
	g := group(t)
	c, err := judge.New(g)
	if err != nil {
		panic(fmt.Sprintf("judgebench: the judge refuses %s: %v", t.ID, err))
	}
	n := t.Hosts()
	o.values = slices.Grow(o.values[:0], n)[:n]
	var said [][]Said
	if o.fast {
		said = o.add(t, effect)
	}
	looks := make([]judge.Look, 0, len(t.Looks))
	for k := 0; len(looks) < len(t.Looks); k++ {
		at := t.Start + int64(k*t.StepS)
		for len(looks) < len(t.Looks) && t.Looks[len(looks)] <= at {
			looks = append(looks, c.Look(time.Unix(t.Looks[len(looks)], 0)))
			if o.fast {
				o.read(t, said, looks)
			}
		}
		if k == t.Steps() {
			break
		}
		for s := range g.Signals {
			x := t.Work
			if s < len(t.Cells) {
				x = t.Cells[s].X
			}
			row := x[k*n : (k+1)*n]
			if s < len(t.Cells) && effect != nil && at >= t.T0 {
				copy(o.values, row)
				for i := range t.Treated {
					if at >= t.Changed[i] {
						o.values[i] *= 1 + t.Cells[s].Sign()*effect[s]
					}
				}
				row = o.values
			}
			if err := c.Observe(s, row); err != nil {
				panic(fmt.Sprintf("judgebench: the judge refuses a sample of %s: %v", t.ID, err))
			}
		}
	}
	labels := make([]Label, len(t.Cells))
	for i, cell := range t.Cells {
		labels[i] = cell.Label
		if effect != nil {
			labels[i].TrueRel = cell.Sign() * effect[i]
		}
	}
	o.groups, o.looks, o.labels = append(o.groups, g), append(o.looks, looks), append(o.labels, labels)
	o.at = append(o.at[:0], t.Looks...)
	for i := range o.at {
		o.at[i] -= t.T0
	}
}

// read says what the newest look says of each signal, and keeps in that look the most evidence so far.
func (o *ours) read(t *Type, said [][]Said, looks []judge.Look) {
	l := len(looks) - 1
	for i, c := range t.Cells {
		now := &looks[l].Cells[i]
		v := silent
		if now.WhyNot == "" {
			v.Low, v.High = math.Expm1(now.Low), math.Expm1(now.High)
			bound := v.High
			if c.Bad == "decrease" {
				bound = -v.Low
			}
			v.Pass = now.NotPass == "" && bound < c.MarginRel
		}
		if l > 0 {
			if was := looks[l-1].Cells[i]; was.Evidence > now.Evidence {
				now.Evidence, now.By = was.Evidence, was.By
			}
			if !o.keeps(l-1, t.Looks[l-1]-t.T0, len(t.Looks)) {
				looks[l-1].Cells[i] = judge.CellLook{}
			}
		}
		v.P = min(1, math.Exp(-now.Evidence))
		v.Now = v.P
		said[i][l] = v
	}
}

// decideFast is Decide of what was read.
func (o *ours) decideFast(apart bool) [][]Seen {
	at := o.at
	var kept []int
	for l, since := range at {
		if o.keeps(l, since, len(at)) {
			kept = append(kept, l)
		}
	}
	o.at = nil
	for _, l := range kept {
		o.at = append(o.at, at[l])
	}
	for g, all := range o.looks {
		looks := make([]judge.Look, 0, len(kept))
		for _, l := range kept {
			looks = append(looks, all[l])
		}
		o.looks[g] = looks
	}
	out := make([][]Seen, len(o.labels))
	for g, cells := range o.said {
		for s, looks := range cells {
			out[g] = append(out[g], summary(o.matrix.labels[g][s], looks))
		}
	}
	o.said, o.matrix.labels = nil, nil
	for g, row := range o.decideSlow(apart) {
		for s, seen := range row {
			// The P of a verdict is that of all looks so far.
			out[g][s].MDE, out[g][s].Single, out[g][s].SingleLast, out[g][s].Now = seen.MDE, seen.SingleLast, seen.SingleLast, seen.Now
			if seen.Found >= 0 {
				out[g][s].Found = kept[seen.Found]
				out[g][s].Pass = false
			}
		}
	}
	return out
}

// keeps says whether a fast family decides at look l of n, so many seconds after t0.
func (o *ours) keeps(l int, since int64, n int) bool {
	return l == n-1 || slices.Contains(o.decides, int(since/60))
}

func (o *ours) Decide(apart bool) [][]Seen {
	if o.fast {
		return o.decideFast(apart)
	}
	return o.decideSlow(apart)
}

func (o *ours) decideSlow(apart bool) [][]Seen {
	out := make([][]Seen, len(o.groups))
	for g := range out {
		out[g] = make([]Seen, len(o.labels[g]))
	}
	if !apart {
		o.family(out, func(l int) map[int]judge.Look {
			looks := make(map[int]judge.Look, len(o.groups))
			for g := range o.groups {
				looks[g] = o.looks[g][l]
			}
			return looks
		}, func(int, int) bool { return true })
	} else {
		for g := range o.groups {
			for s := range o.labels[g] {
				o.family(out, func(l int) map[int]judge.Look {
					look := o.looks[g][l]
					alone := judge.Look{At: look.At, Cells: make([]judge.CellLook, len(look.Cells))}
					for i := range alone.Cells {
						alone.Cells[i].WhyNot = "not looked at"
					}
					alone.Cells[s] = look.Cells[s]
					return map[int]judge.Look{g: alone}
				}, func(i, j int) bool { return i == g && j == s })
			}
		}
	}
	o.groups, o.looks, o.labels = nil, nil, nil
	return out
}

// family decides in a new family over all groups, of which looks says what is seen at each look, and writes what it says
// of the cells that are wanted.
func (o *ours) family(out [][]Seen, looks func(l int) map[int]judge.Look, wanted func(g, s int) bool) {
	f := judge.NewFamily(pad(o.groups, o.families))
	index := map[string]int{}
	for g := range o.groups {
		index[o.groups[g].ID] = g
	}
	said := map[[2]int][]Said{}
	found := map[[2]int]int{}
	for l := range o.at {
		at := time.Unix(o.groups[0].T0.Unix()+o.at[l], 0)
		cell := map[int]int{}
		for _, v := range f.Decide(at, looks(l)) {
			g := index[v.Group]
			k := [2]int{g, cell[g]}
			cell[g]++
			if !wanted(k[0], k[1]) {
				continue
			}
			if v.Outcome == judge.Regression {
				if _, ok := found[k]; !ok {
					found[k] = l
				}
			}
			said[k] = append(said[k], Said{P: v.P, Now: v.P, Pass: v.Outcome == judge.Pass, Low: v.Low, High: v.High, MDE: math.Abs(v.MDE)})
		}
	}
	for k, looks := range said {
		seen := summary(o.labels[k[0]][k[1]], looks)
		if l, ok := found[k]; ok {
			seen.Found = l
		}
		out[k[0]][k[1]] = seen
	}
}
