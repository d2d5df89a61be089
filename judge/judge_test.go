package judge

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// series plays samples of hosts with their own levels, autocorrelated noise and a daily load into a comparison, and
// returns the verdicts of all looks.
func series(t *testing.T, seed uint64, effect float64) []Verdict {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	t0 := time.Date(2026, 1, 1, 4, 0, 0, 0, time.UTC)
	g := Group{ID: "t", Step: time.Minute, Start: t0.Add(-4 * time.Hour), T0: t0, Signals: []Signal{{Name: "latency", Margin: 0.1}}}
	for i := range 23 {
		h := Host{ID: string(rune('a' + i)), Treated: i < 3}
		if h.Treated {
			h.Changed = t0.Add(time.Duration(i) * time.Minute)
		}
		g.Hosts = append(g.Hosts, h)
	}
	c, err := New(g)
	if err != nil {
		t.Fatal(err)
	}
	f := NewFamily([]Group{g})
	var out []Verdict
	level, noise, values := make([]float64, 23), make([]float64, 23), make([]float64, 23)
	for i := range level {
		level[i] = 20 * (1 + 0.2*rng.Float64())
	}
	for k := range 8 * 60 {
		at := g.Start.Add(time.Duration(k) * g.Step)
		load := 1 + 0.3*math.Sin(float64(k)/200)
		for i := range values {
			noise[i] = 0.7*noise[i] + 0.05*rng.NormFloat64()
			values[i] = level[i] * load * math.Exp(noise[i])
			if g.Hosts[i].Treated && !at.Before(g.Hosts[i].Changed) {
				values[i] *= 1 + effect
			}
		}
		if err := c.Observe(0, values); err != nil {
			t.Fatal(err)
		}
		if k%10 == 9 && at.After(t0) {
			out = append(out, f.Decide(at, map[int]Look{0: c.Look(at)})...)
		}
	}
	return out
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		effect float64
		want   Outcome
	}{{0, Pass}, {0.25, Regression}, {-0.25, Pass}} {
		vs := series(t, 7, c.effect)
		if vs[0].Outcome == Pass {
			t.Errorf("effect %v: the first look, before anything settled, is a pass: %+v", c.effect, vs[0])
		}
		last := vs[len(vs)-1]
		if last.Outcome != c.want || last.Low > c.effect || last.High < c.effect || !(last.MDE > 0) {
			t.Errorf("effect %v: %+v, want %s", c.effect, last, c.want)
		}
		found := false
		for _, v := range vs {
			if found && v.Outcome != Regression {
				t.Errorf("effect %v: a regression was taken back at %s", c.effect, v.Look)
			}
			found = found || v.Outcome == Regression
		}
	}
}
