package judge

import (
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
)

// world is a comparison of 3 treated of 23 hosts, four hours before and three after, with two signals: the one that is
// looked at, and the load ("work").
type world struct {
	group Group
	value func(host int, after bool, at time.Duration, noise float64) float64 // of the signal; at: since the change
	work  func(host int, after bool) float64
}

func newWorld() *world {
	t0 := time.Date(2026, 1, 1, 4, 0, 0, 0, time.UTC)
	w := &world{
		group: Group{
			ID: "w", Step: time.Minute, Start: t0.Add(-4 * time.Hour), T0: t0,
			Signals: []Signal{{Name: "latency", Margin: 0.1}, {Name: "requests", Unit: "1/s", Work: true}},
		},
		value: func(_ int, _ bool, _ time.Duration, noise float64) float64 { return noise },
		work:  func(int, bool) float64 { return 1 },
	}
	for i := range 23 {
		h := Host{ID: "h" + strconv.Itoa(i), Treated: i < 3}
		if h.Treated {
			h.Changed = t0.Add(time.Duration(i) * time.Minute)
		}
		w.group.Hosts = append(w.group.Hosts, h)
	}
	return w
}

// play returns the verdicts on the signal at looks every quarter of an hour.
func (w *world) play(t *testing.T, seed uint64) (out []Verdict) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 9))
	c, err := New(w.group)
	if err != nil {
		t.Fatal(err)
	}
	f := NewFamily([]Group{w.group})
	n := len(w.group.Hosts)
	values, work := make([]float64, n), make([]float64, n)
	for k := range 7 * 60 {
		at := w.group.Start.Add(time.Duration(k) * w.group.Step)
		load := 1 + 0.2*math.Sin(float64(k)/100)
		for i, h := range w.group.Hosts {
			since := at.Sub(h.Changed)
			after := h.Treated && since >= 0
			if !h.Treated {
				since = at.Sub(w.group.T0)
			}
			values[i] = w.value(i, after, since, (10+float64(i))*load*max(0, 1+0.1*rng.NormFloat64()))
			work[i] = 1000 * load * w.work(i, after) * (1 + 0.05*rng.Float64())
		}
		for s, v := range [][]float64{values, work} {
			if err := c.Observe(s, v); err != nil {
				t.Fatal(err)
			}
		}
		if k >= 4*60 && k%15 == 14 {
			out = append(out, f.Decide(at.Add(w.group.Step), map[int]Look{0: c.Look(at.Add(w.group.Step))})...)
		}
	}
	return out
}

// What is seen, and what must come of it at the last look; a regression at any look must be wanted.
func TestTruth(t *testing.T) {
	const none = math.MaxFloat64
	missing := math.NaN()
	for _, c := range []struct {
		name  string
		build func(w *world)
		want  Outcome
		why   string
	}{
		{"nothing happens", func(*world) {}, Pass, "excluded"},
		{"worse by a quarter", func(w *world) {
			w.value = func(_ int, after bool, _ time.Duration, x float64) float64 {
				if after {
					x *= 1.25
				}
				return x
			}
		}, Regression, "higher on the treated hosts"},
		{"a warm-up of ten minutes", func(w *world) {
			w.value = func(_ int, after bool, since time.Duration, x float64) float64 {
				if after && since < 10*time.Minute {
					x *= 3
				}
				return x
			}
		}, Pass, ""},
		{"a surge that hits everyone", func(w *world) {
			w.value = func(_ int, _ bool, since time.Duration, x float64) float64 {
				if since > time.Hour && since < 2*time.Hour {
					x *= 2
				}
				return x
			}
		}, Pass, ""},
		{"one odd canary is no regression", func(w *world) {
			w.value = func(i int, after bool, since time.Duration, x float64) float64 {
				if i == 0 && after && since > 30*time.Minute {
					x *= 1.53
				}
				return x
			}
		}, Inconclusive, "h0 alone is 4"},
		{"a canary that stops reporting", func(w *world) {
			w.value = func(i int, after bool, since time.Duration, x float64) float64 {
				if i == 1 && after && since > time.Hour {
					return missing
				}
				return x
			}
		}, Inconclusive, "h1 was last seen"},
		{"a canary that never reports again", func(w *world) {
			w.value = func(i int, after bool, _ time.Duration, x float64) float64 {
				if i == 1 && after {
					return missing
				}
				return x
			}
		}, Inconclusive, "1 of 3 treated hosts show too little"},
		{"no canary reports again", func(w *world) {
			w.value = func(_ int, after bool, _ time.Duration, x float64) float64 {
				if after {
					return missing
				}
				return x
			}
		}, Inconclusive, "no treated host shows"},
		{"no control reports", func(w *world) {
			w.value = func(i int, _ bool, _ time.Duration, x float64) float64 {
				if i >= 3 {
					return missing
				}
				return x
			}
		}, Inconclusive, ""},
		{"a tenth of the samples is missing", func(w *world) {
			n := 0
			w.value = func(_ int, _ bool, _ time.Duration, x float64) float64 {
				if n++; n%10 == 0 {
					return missing
				}
				return x
			}
		}, Pass, ""},
		{"a canary that carries an eighth of its load", func(w *world) {
			w.work = func(i int, after bool) float64 {
				if i == 2 && after {
					return 0.12
				}
				return 1
			}
		}, Inconclusive, "h2 carries 12 % of its load (requests)"},
		{"nothing but zeros", func(w *world) {
			w.value = func(int, bool, time.Duration, float64) float64 { return 0 }
		}, Inconclusive, "nothing but zeros"},
		{"constants", func(w *world) {
			w.value = func(int, bool, time.Duration, float64) float64 { return 7 }
		}, Pass, ""},
		{"constants that rise by a fifth", func(w *world) {
			w.value = func(_ int, after bool, _ time.Duration, _ float64) float64 {
				if after {
					return 8.4
				}
				return 7
			}
		}, Regression, ""},
		{"one host", func(w *world) { w.group.Hosts = w.group.Hosts[:1] }, Inconclusive, "there is no control"},
		{"no treated host", func(w *world) { w.group.Hosts = w.group.Hosts[3:] }, Inconclusive, "there is no treated host"},
		{"one control", func(w *world) { w.group.Hosts = w.group.Hosts[:4] }, Inconclusive, "at least 2 are needed"},
		{"it begins with the change", func(w *world) { w.group.T0 = w.group.Start }, Inconclusive, "no level"},
		{"the change is yet to come", func(w *world) {
			w.group.T0 = w.group.T0.Add(24 * time.Hour)
			for i := range w.group.Hosts {
				w.group.Hosts[i].Changed = time.Time{}
			}
		}, Inconclusive, "nothing was seen after"},
		{"canaries that were not changed yet", func(w *world) {
			for i := range w.group.Hosts {
				w.group.Hosts[i].Changed = time.Time{}
			}
		}, Inconclusive, "no treated host shows"},
		{"controls rebooted too, and all start cold", func(w *world) {
			for i := 3; i < 23; i++ {
				w.group.Hosts[i].Rebooted = w.group.T0.Add(time.Duration(i) * time.Minute)
			}
			w.value = func(_ int, _ bool, since time.Duration, x float64) float64 {
				if since >= 0 { // cold caches fade in an hour, on both sides
					x *= 1 + 0.5*math.Exp(-since.Hours()*2)
				}
				return x
			}
		}, Pass, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			c.build(w)
			vs := w.play(t, 3)
			last := vs[len(vs)-1]
			if last.Outcome != c.want || !strings.Contains(last.Why, c.why) || last.Why == "" {
				t.Errorf("%+v\nwant %s, and why with %q", last, c.want, c.why)
			}
			for _, v := range vs {
				if v.Outcome == Regression && c.want != Regression {
					t.Errorf("a false regression at %s: %s", v.Look, v.Why)
				}
				if v.P < 0 || v.P > 1 || v.Low > v.Effect || v.High < v.Effect || v.MDE < 0 || v.MDE == none {
					t.Errorf("%+v", v)
				}
			}
		})
	}
}

// Every hidden harm has a way of its own to be seen.
func TestHiddenHarm(t *testing.T) {
	for _, c := range []struct {
		name  string
		value func(i int, after bool, since time.Duration, x float64) float64
		why   string
	}{
		{"it jumps more, around the same level", func(i int, after bool, since time.Duration, x float64) float64 {
			if after {
				x *= 1 + 0.3*float64(1-2*(int(since.Minutes())%2))
			}
			return x
		}, "jumps more"},
		{"a leak of 8 % an hour", func(i int, after bool, since time.Duration, x float64) float64 {
			if after {
				x *= 1 + 0.08*since.Hours()
			}
			return x
		}, "regression"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			w.value = c.value
			vs := w.play(t, 4)
			if last := vs[len(vs)-1]; last.Outcome != Regression || !strings.Contains(last.Why, c.why) {
				t.Errorf("%+v", last)
			}
		})
	}
}

// The same samples in other pieces, or with looks between, lead to the same verdict.
func TestLooksChangeNothing(t *testing.T) {
	w := newWorld()
	c, err := New(w.group)
	if err != nil {
		t.Fatal(err)
	}
	often, err := New(w.group)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	values := make([]float64, len(w.group.Hosts))
	for k := range 7 * 60 {
		for s := range w.group.Signals {
			for i := range values {
				values[i] = 100 + 10*rng.Float64()
			}
			for _, one := range []*Comparison{c, often} {
				if err := one.Observe(s, values); err != nil {
					t.Fatal(err)
				}
			}
		}
		often.Look(w.group.Start.Add(time.Duration(k) * time.Minute))
	}
	at := w.group.T0.Add(3 * time.Hour)
	a, b := c.Look(at), often.Look(at)
	for i := range a.Cells {
		if a.Cells[i] != b.Cells[i] && a.Cells[i].Estimate == a.Cells[i].Estimate {
			t.Errorf("looking often leads to %+v, looking once to %+v", b.Cells[i], a.Cells[i])
		}
	}
}
