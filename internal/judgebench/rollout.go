package judgebench

import (
	"fmt"
	"math"
	"slices"
)

// Maker makes types, one after the other, into the same memory: what it returned last is overwritten.
type Maker struct {
	spec Spec
	seed uint64
	t    Type
	slab [][]float64
	work []float64
	gone []bool // by step and host: nothing was scraped

	f, wander, add, noisy, level, react, scale, swing, restless []float64
	calm, unrest                                                []float64 // scale is calm, and how much more or less that is now, in standard deviations of HostNoise
	jumpAt, idleTill                                            []int
	idle                                                        []bool
}

// NewMaker makes rollouts of spec. Two makers of the same spec and seed make the same.
func NewMaker(spec Spec, seed uint64) *Maker {
	spec = spec.withDefaults()
	return &Maker{spec: spec, seed: seed, slab: make([][]float64, len(spec.Signals))}
}

// Spec is what is made, with its defaults.
func (m *Maker) Spec() Spec { return m.spec }

// What the streams of random numbers are for.
const (
	forType = iota
	forScrapes
	forPlan
	forCharacter
	forNoise
	forWork
)

// epoch is a Monday, 00:00 UTC.
const epoch = 1_767_571_200

// downS is how long a reboot takes.
const downS = 180

// Type makes host type j of a rollout.
func (m *Maker) Type(rollout, j int) *Type { return m.replicate(rollout, j, 0) }

// replicate makes a type again, with the character of its signals and other hosts and noise: what the oracle learns
// the variance from. Replicate 0 is the one that is judged.
func (m *Maker) replicate(rollout, j, rep int) *Type {
	s := m.spec
	d := &dice{src: stream(m.seed, uint64(rollout), uint64(j), forType)}
	t := &m.t
	t.Rollout = fmt.Sprintf("s%d-r%04d", m.seed, rollout)
	t.ID = fmt.Sprintf("%s/t%02d", t.Rollout, j)
	t.StepS = s.StepS
	hour := stream(m.seed, uint64(rollout), forType).Uint64() % 24
	t.T0 = epoch + int64(rollout%7)*86_400 + int64(hour)*3600
	t.Start = t.T0 - int64(s.Before.Seconds())
	t.End = t.T0 + int64(s.After.Seconds())
	t.Looks = t.Looks[:0]
	for _, l := range s.Looks {
		t.Looks = append(t.Looks, t.T0+int64(l.Seconds()))
	}
	t.Treated = s.Treated[d.below(len(s.Treated))]
	n := t.Treated + s.Controls[d.below(len(s.Controls))]
	t.Changed, t.Rebooted = fill(t.Changed, n, 0), fill(t.Rebooted, n, 0)
	for i := range n {
		at := t.T0 + int64(d.below(6))*60
		switch {
		case i < t.Treated:
			t.Changed[i] = at
		case s.Reboots:
			t.Rebooted[i] = at
		}
	}
	m.scrapes(rollout, j, rep)
	t.Cells = slices.Grow(t.Cells[:0], len(s.Signals))[:len(s.Signals)]
	for c, name := range s.Signals {
		p := profile(name)
		if margin, ok := s.Margins[name]; ok {
			p.Margin = margin
		}
		t.Cells[c] = Cell{Label: Label{
			Case: t.ID, Rollout: t.Rollout, Signal: name, Kind: None, Treated: t.Treated, Controls: n - t.Treated,
			MarginRel: p.Margin, Bad: p.Bad, PostS: t.End - t.T0, StepS: s.StepS,
		}}
		m.plan(&t.Cells[c], rollout, j, c)
		m.slab[c] = fill(m.slab[c], t.Steps()*n, 0)
		t.Cells[c].X = m.slab[c]
		m.series(&t.Cells[c], p, rollout, j, c, rep)
	}
	t.Work = nil
	if s.Work {
		m.makeWork(rollout, j)
	}
	return t
}

// plan decides what happens to a cell.
func (m *Maker) plan(c *Cell, rollout, j, signal int) {
	p := m.spec.Plan
	if len(p.Effects) == 0 || p.Share == 0 {
		return
	}
	d := &dice{src: stream(m.seed, uint64(rollout), uint64(j), forPlan)}
	if !p.One {
		d.src = stream(m.seed, uint64(rollout), uint64(j), forPlan, uint64(signal)+1)
	}
	hit, which := d.unit() < p.Share, d.below(len(p.Effects))
	if !hit || p.One && (rollout+j)%len(m.spec.Signals) != signal {
		return
	}
	e := p.Effects[which]
	c.Kind, c.Size = e.Kind, e.Size
	sign := c.Sign()
	switch e.Kind {
	case Level:
		c.TrueRel = sign * e.Size
	case Tail:
		if c.Signal == "app_latency_p99" {
			c.TrueRel = e.Size
		}
	case Leak:
		c.TrueRel = sign * e.Size * float64(c.PostS) / 7200
	}
	c.Regression = e.Kind.Regression() && (e.Kind != Tail || c.Signal == "app_latency_p99")
}

// scrapes decides which samples of which hosts are not there, for all signals alike.
func (m *Maker) scrapes(rollout, j, rep int) {
	t := &m.t
	n, steps := t.Hosts(), t.Steps()
	m.gone = fill(m.gone, n*steps, false)
	d := &dice{src: stream(m.seed, uint64(rollout), uint64(j), forScrapes, uint64(rep))}
	const every = 350 // samples to one lost scrape
	for i := d.exp(every); int(i) < len(m.gone); i += 1 + d.exp(every) {
		m.gone[int(i)] = true
	}
	for i := range n {
		at := max(t.Changed[i], t.Rebooted[i])
		if at == 0 {
			continue
		}
		for k := int(at-t.Start) / t.StepS; k < steps && t.Start+int64(k*t.StepS) < at+downS; k++ {
			m.gone[k*n+i] = true
		}
	}
}

// makeWork makes the work that hosts carry: requests per second.
func (m *Maker) makeWork(rollout, j int) {
	t := &m.t
	n, steps := t.Hosts(), t.Steps()
	m.work = fill(m.work, n*steps, 0)
	d := &dice{src: stream(m.seed, uint64(rollout), uint64(j), forWork)}
	share := 1.0
	if c := t.Cells[0]; c.Kind == Idle {
		share = c.Size
	}
	level := make([]float64, n)
	for i := range level {
		level[i] = 200 * math.Exp(0.05*d.draw(normal))
	}
	for k := range steps {
		at := t.Start + int64(k*t.StepS)
		for i := range n {
			v := level[i] * (1 + 0.3*day(at)) * max(0, 1+0.06*d.draw(normal))
			if i < t.Treated && at >= t.Changed[i] {
				v *= share
			}
			if m.gone[k*n+i] {
				v = math.NaN()
			}
			m.work[k*n+i] = v
		}
	}
	t.Work = m.work
}

// day is the daily load, between -1 and 1, lowest at 4 in the morning.
func day(at int64) float64 { return -math.Cos(2 * math.Pi * float64(at%86_400-4*3600) / 86_400) }

// fill is s with n values, all v, in the same memory if that is enough.
func fill[T any](s []T, n int, v T) []T {
	s = slices.Grow(s[:0], n)[:n]
	for i := range s {
		s[i] = v
	}
	return s
}
