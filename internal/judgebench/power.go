package judgebench

import (
	"math"
	"slices"
	"time"
)

// Sizes, numbers of canaries and times of the table of power.
var (
	powerSizes   = map[int][]float64{2: {0.05, 0.1, 0.25}, 3: {0.02, 0.05, 0.1, 0.25}, 5: {0.02, 0.05, 0.1}, 10: {0.01, 0.05, 0.1}, 50: {0.01, 0.02, 0.05}}
	powerTreated = []int{2, 3, 5, 10, 50}
	powerMinutes = []int{60, 240, 1440}
)

// powerLooks are dense where things happen.
func powerLooks() []time.Duration {
	var out []time.Duration
	for m := 20; m <= 1440; m += 5 {
		if m <= 90 && (m%15 == 0 || m == 20) || m <= 240 && m%30 == 0 || m%60 == 0 {
			out = append(out, time.Duration(m)*time.Minute)
		}
	}
	return out
}

func powerSpec(treated int) Spec {
	return Spec{Treated: []int{treated}, Controls: []int{50}, Before: 12 * time.Hour, After: 24 * time.Hour, Looks: powerLooks()}
}

// power plays rollouts of 2, 3, 5, 10 and 50 canaries in turn, with 50 controls, 12 hours before and 24 after. Each
// cell is changed by each of the sizes, and decided as the only one of 96 that shows anything.
func power(o Options) part {
	var makers []*Maker
	for _, n := range powerTreated {
		makers = append(makers, NewMaker(powerSpec(n), o.Seed))
	}
	return func(t *Tally, rollout int) {
		m := makers[rollout%len(makers)]
		sizes := append([]float64{0}, powerSizes[m.Spec().Treated[0]]...)
		rivals := make([][]Judge, len(sizes))
		shared := newHostLevel()[:2]
		for i := range sizes {
			rivals[i] = append([]Judge{&ours{fast: true, decides: []int{30, 45, 60, 90, 120, 240, 480, 960}}}, again(shared)...)
		}
		or := newOracle(m.Spec(), o.Seed)
		for j := range m.Spec().Types {
			t.oracle(or.sd(rollout, j), m.Type(rollout, j))
			typ := m.Type(rollout, j)
			for i, size := range sizes {
				for _, jd := range rivals[i] {
					if o.wants(jd) {
						jd.See(typ, slices.Repeat([]float64{size}, len(typ.Cells)))
					}
				}
			}
		}
		for i, size := range sizes {
			for _, jd := range rivals[i] {
				if o.wants(jd) {
					t.power(jd, m, size)
				}
			}
		}
	}
}

// again are judges like those, which share what costs.
func again(judges []Judge) []Judge {
	var out []Judge
	for _, j := range judges {
		h := *j.(*hostLevel)
		h.matrix = matrix{}
		out = append(out, &h)
	}
	return out
}

// power counts what was found of changes of one size.
func (t *Tally) power(jd Judge, m *Maker, size float64) {
	spec := m.Spec()
	n := spec.Treated[0]
	k := key("power", jd.Name(), n, size)
	for _, cells := range jd.Decide(true) {
		for i, s := range cells {
			p := profile(spec.Signals[i])
			found := -1
			if s.Found >= 0 {
				found = int(spec.Looks[s.Found].Minutes())
			}
			t.time(key(k, p.Name), found)
			t.count(key(k, "cover-all"), s.CoverAll)
			if size >= p.Margin {
				t.count(key("power", jd.Name(), "wrong-pass-last"), s.Pass)
				t.count(key("power", jd.Name(), "wrong-pass-any"), s.PassAny)
			}
			if size == 0 {
				t.value(key("power", jd.Name(), "mde", n, p.Name), s.MDE)
			} else if s.MDE <= size {
				t.count(key("power", jd.Name(), "honest"), s.Found >= 0)
			}
		}
	}
}

// oracle knows how much the estimate varies, by type, signal and time: from the same type with 120 other hosts.
type oracle struct {
	m     *Maker
	stats hostStats
}

const oracleHosts = 120

func newOracle(s Spec, seed uint64) *oracle {
	s.Treated, s.Controls, s.Plan = []int{2}, []int{oracleHosts - 2}, Plan{}
	return &oracle{m: NewMaker(s, seed)}
}

// sd is the standard deviation that one host adds to a mean of changes, by signal and powerMinutes.
func (o *oracle) sd(rollout, j int) [][]float64 {
	typ := o.m.replicate(rollout, j, 1)
	out := make([][]float64, len(typ.Cells))
	for i, c := range typ.Cells {
		o.stats.load(typ, c.X)
		for _, minute := range powerMinutes {
			out[i] = append(out[i], math.NaN())
			if at := typ.T0 + int64(minute)*60; at <= typ.End {
				o.stats.look(int(at-typ.Start)/typ.StepS, false)
				out[i][len(out[i])-1] = math.Sqrt(o.stats.unit)
			}
		}
	}
	return out
}

// oracle counts what the oracle would find, looking once, one-sided.
func (t *Tally) oracle(sds [][]float64, typ *Type) {
	alone := math.Sqrt(1/float64(typ.Treated) + 1/float64(typ.Hosts()-typ.Treated))
	for i, c := range typ.Cells {
		for l, minute := range powerMinutes {
			se := alone * sds[i][l]
			for _, size := range powerSizes[typ.Treated] {
				z := math.Abs(math.Log1p(c.Sign()*size)) / se
				t.value(key("oracle", "power", typ.Treated, size, minute, c.Signal), normalCDF(z-normalQuantile(0.05/96)))
			}
			t.value(key("oracle", "mde-96", typ.Treated, c.Signal, minute), math.Expm1(se*(normalQuantile(0.05/96)+normalQuantile(0.2))))
			t.value(key("oracle", "mde-1", typ.Treated, c.Signal, minute), math.Expm1(se*(normalQuantile(0.05)+normalQuantile(0.2))))
		}
	}
}

func normalCDF(z float64) float64 { return 0.5 * math.Erfc(-z/math.Sqrt2) }

// normalQuantile is the z above which a share p lies.
func normalQuantile(p float64) float64 { return math.Sqrt2 * math.Erfinv(1-2*p) }

// honesty changes each cell by what the judge says, when nothing changed, that it would find with a probability of
// 80 % after 4 hours: of 3, 5 and 10 canaries and 50 controls.
func honesty(o Options) part {
	var makers []*Maker
	for _, n := range []int{3, 5, 10} {
		makers = append(makers, NewMaker(Spec{Treated: []int{n}, Controls: []int{50}, Looks: Every(10*time.Minute, 4*time.Hour)}, o.Seed))
	}
	return func(t *Tally, rollout int) {
		m := makers[rollout%len(makers)]
		for _, jd := range append([]Judge{&ours{fast: true}}, newHostLevel()[:1]...) {
			if !o.wants(jd) {
				continue
			}
			var claims [][]float64
			for j := range m.Spec().Types {
				jd.See(m.Type(rollout, j), nil)
			}
			for _, cells := range jd.Decide(true) {
				var row []float64
				for i, s := range cells {
					size := s.MDE
					if math.IsInf(size, 0) || math.IsNaN(size) || size > 0.95 && profile(m.Spec().Signals[i]).Bad == "decrease" {
						size = 0
					}
					row = append(row, size)
				}
				claims = append(claims, row)
			}
			for j := range m.Spec().Types {
				jd.See(m.Type(rollout, j), claims[j])
			}
			for j, cells := range jd.Decide(true) {
				for i, s := range cells {
					if claims[j][i] > 0 {
						t.count(key("mde", jd.Name(), m.Spec().Treated[0], m.Spec().Signals[i]), s.Found >= 0)
					}
				}
			}
		}
	}
}
