package judgebench

import (
	"time"
)

// specialLooks are those of the cases: dense in the first two hours.
func specialLooks() []time.Duration {
	var out []time.Duration
	for _, m := range []int{10, 20, 30, 45, 60, 75, 90, 105, 120, 150, 180, 210, 240} {
		out = append(out, time.Duration(m)*time.Minute)
	}
	return out
}

// specials are the regressions that are no plain change of a level, each on every cell of its signals.
var specials = []struct {
	effect  Effect
	signals []string
}{
	{Effect{Leak, 0.005}, []string{"mem_used"}},
	{Effect{Leak, 0.02}, []string{"mem_used"}},
	{Effect{Variance, 0.5}, []string{"cpu_util", "io_latency_ms", "app_latency_p50", "app_latency_p99"}},
	{Effect{Variance, 1}, []string{"cpu_util", "io_latency_ms", "app_latency_p50", "app_latency_p99"}},
	{Effect{Tail, 0.3}, []string{"app_latency_p50", "app_latency_p99"}},
}

// nuisances are what must not be called a regression, each on every cell of a rollout.
var nuisances = []Effect{
	{None, 0}, {Warmup, 0.9}, {Surge, 1.8}, {Surge, 0.57}, {OutlierControl, 3}, {OutlierTreated, 3}, {Missing, 0}, {Lost, 0}, {Idle, 0.12},
}

func specialJudges(decides []int) []Judge {
	return append([]Judge{&ours{fast: true, decides: decides}}, append(newHostLevel()[:2:2], newPooled()[0], newPooled()[2], newPooled()[3])...)
}

// special plays one special regression per rollout, in turn: every cell of its signals has it, and is decided as the
// only one of 96 that shows anything.
func special(o Options) part {
	return func(t *Tally, rollout int) {
		s := specials[rollout%len(specials)]
		m := NewMaker(Spec{Plan: Plan{Effects: []Effect{s.effect}, Share: 1}, Looks: specialLooks(), Signals: s.signals, Types: 96 / len(s.signals)}, o.Seed)
		t.play(m, o, rollout, key("special", s.effect.Kind, s.effect.Size), true)
	}
}

// nuisance plays one nuisance per rollout, in turn, on all of its cells, decided together.
func nuisance(o Options) part {
	return func(t *Tally, rollout int) {
		e := nuisances[rollout%len(nuisances)]
		m := NewMaker(Spec{Plan: Plan{Effects: []Effect{e}, Share: 1}, Looks: specialLooks(), Work: e.Kind == Idle}, o.Seed)
		t.play(m, o, rollout, key("nuisance", e.Kind, e.Size), false)
	}
}

// play has a rollout judged, and counts by judge.
func (t *Tally) play(m *Maker, o Options, rollout int, k string, apart bool) {
	var decides []int
	if apart {
		decides = []int{30, 45, 60, 75, 90, 120, 180}
	}
	judges := specialJudges(decides)
	labels := make([][]Label, m.Spec().Types)
	for j := range m.Spec().Types {
		typ := m.Type(rollout, j)
		for _, c := range typ.Cells {
			labels[j] = append(labels[j], c.Label)
		}
		for _, jd := range judges {
			if o.wants(jd) {
				jd.See(typ, nil)
			}
		}
	}
	for _, jd := range judges {
		if !o.wants(jd) {
			continue
		}
		for j, cells := range jd.Decide(apart) {
			host := false
			for i, s := range cells {
				l := labels[j][i]
				kk := key(k, jd.Name(), l.Signal)
				host = host || s.Found >= 0
				t.count(key(kk, "found"), s.Found >= 0)
				t.count(key(kk, "single"), s.Single)
				t.count(key(kk, "pass"), s.Pass)
				t.count(key(kk, "pass-any"), s.PassAny)
				if l.Regression {
					minute := -1
					if s.Found >= 0 {
						minute = int(m.Spec().Looks[s.Found].Minutes())
					}
					t.time(kk, minute)
				}
			}
			t.count(key(k, jd.Name(), "type"), host)
		}
	}
}
