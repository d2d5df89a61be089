package judgebench

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/internal/judgecase"
)

var judgeCases = judgecase.Judge

// What follows is the small version of make bench-judge: the same code, fewer rollouts.

// Unchanged rollouts with a look every few minutes: at a true rate of 5 %, 7 or more of 40 happen once in 300 times.
func TestNothingChanged(t *testing.T) {
	const rollouts, most = 40, 6
	spec := Spec{Looks: Every(8*time.Minute, 2*time.Hour), Before: 2 * time.Hour, After: 2 * time.Hour, Controls: []int{20}}
	m := NewMaker(spec, 20)
	o := &ours{fast: true}
	wrong, covered, cells, passed := 0, 0, 0, 0
	for r := range rollouts {
		for j := range 12 {
			o.See(m.Type(r, j), nil)
		}
		found := false
		for _, row := range o.Decide(false) {
			for _, s := range row {
				cells++
				found = found || s.Found >= 0
				if s.CoverAll {
					covered++
				}
				if s.Pass {
					passed++
				}
			}
		}
		if found {
			wrong++
		}
	}
	t.Logf("%d of %d rollouts with a false regression; %.1f %% of %d intervals right at all looks; %.1f %% pass", wrong, rollouts, 100*float64(covered)/float64(cells), cells, 100*float64(passed)/float64(cells))
	if wrong > most {
		t.Errorf("%d of %d unchanged rollouts have a false regression; more than %d are no accident", wrong, rollouts, most)
	}
	if share := float64(covered) / float64(cells); share < 0.94 {
		t.Errorf("%.1f %% of intervals are right at all looks, want 94 at least", 100*share)
	}
	if passed < cells/3 {
		t.Errorf("%d of %d unchanged cells pass: a judge that never decides is never wrong", passed, cells)
	}
}

// Reading looks and deciding once says what deciding at every look says.
func TestFastIsTheSame(t *testing.T) {
	m := NewMaker(Spec{Types: 2, Controls: []int{20}, Looks: Every(20*time.Minute, 2*time.Hour), After: 2 * time.Hour, Plan: Plan{Effects: []Effect{{Level, 0.25}}, Share: 0.5}}, 9)
	for _, apart := range []bool{false, true} {
		slow, fast := &ours{}, &ours{fast: true, decides: []int{20, 40, 60, 80, 100}}
		for j := range 2 {
			typ := m.Type(0, j)
			slow.See(typ, nil)
			fast.See(typ, nil)
		}
		a, b := slow.Decide(apart), fast.Decide(apart)
		found := 0
		for j := range a {
			for i := range a[j] {
				x, y := a[j][i], b[j][i]
				if x.Found >= 0 {
					found++
				}
				x.Width, y.Width, x.Now, y.Now = 0, 0, 0, 0 // differ in the last digits
				if x != y {
					t.Errorf("apart %t, type %d, signal %d: %+v slowly, %+v fast", apart, j, i, x, y)
				}
			}
		}
		if found == 0 {
			t.Error("nothing was found: this test compared nothing")
		}
	}
}

// Changes of 10 and 25 % with 3 canaries: our judge finds what the reference finds, and more.
func TestPowerAgainstReference(t *testing.T) {
	m := NewMaker(Spec{Treated: []int{3}, Controls: []int{30}, Looks: Every(30*time.Minute, 3*time.Hour), After: 3 * time.Hour}, 21)
	for _, size := range []float64{0.1, 0.25} {
		effect := make([]float64, len(Profiles))
		for i := range effect {
			effect[i] = size
		}
		var found [2]int
		n, wrong, all := 0, 0, 0
		judges := append([]Judge{&ours{fast: true}}, newHostLevel()[:1]...)
		for r := range 2 {
			for j := range 12 {
				typ := m.Type(r, j)
				for _, jd := range judges {
					jd.See(typ, effect)
				}
			}
			for k, jd := range judges {
				for _, row := range jd.Decide(true) {
					for i, s := range row {
						if s.Found >= 0 {
							found[k]++
						}
						if k == 0 {
							n++
							if size >= Profiles[i].Margin {
								all++
								if s.PassAny {
									wrong++
								}
							}
						}
					}
				}
			}
		}
		t.Logf("+%.0f %%: kernwave finds %d of %d, mix %d; %d of %d pass wrongly at some look", 100*size, found[0], n, found[1], wrong, all)
		if found[0] < found[1] {
			t.Errorf("+%.0f %%: kernwave finds %d of %d, the reference %d", 100*size, found[0], n, found[1])
		}
		if size == 0.25 && float64(found[0]) < 0.7*float64(n) {
			t.Errorf("+25 %%: %d of %d found, want 70 %% at least", found[0], n)
		}
		if wrong > all/25 {
			t.Errorf("+%.0f %%: %d of %d changes beyond the margin were a pass at some look", 100*size, wrong, all)
		}
	}
}

// Nuisances, one rollout each: nothing that would stop a rollout.
func TestNuisances(t *testing.T) {
	sum, err := Run("nuisance", Options{Seed: 22, N: len(nuisances), Workers: workers, Only: []string{"kernwave"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range nuisances {
		k := key("nuisance", e.Kind, e.Size, "kernwave")
		found, pass := sum.sum(k, "found"), sum.sum(k, "pass-any")
		t.Logf("%s: %d of %d cells called regressions, %d passed", e.Kind, found.K, found.N, pass.K)
		if found.N != 96 {
			t.Fatalf("%s: %d cells were judged, want 96", e.Kind, found.N)
		}
		if found.K > 0 {
			t.Errorf("%s: %d of %d cells are called regressions", e.Kind, found.K, found.N)
		}
		if (e.Kind == Lost || e.Kind == Idle) && pass.K > 0 {
			t.Errorf("%s: %d of %d cells passed without evidence", e.Kind, pass.K, pass.N)
		}
	}
}

// The rivals are what they are said to be: on unchanged rollouts each is wrong about as often as was published.
func TestRivalsAsPublished(t *testing.T) {
	sum, err := Run("rivals", Options{Seed: 23, N: 2, Workers: workers})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][2]float64{ // wrong at any look, per cell
		"Kayenta": {0.2, 0.5}, "Kayenta, as many controls as canaries": {0.2, 0.5}, "Kayenta, allowed: the margin": {0.05, 0.25},
		"ratio of means, margin": {0.1, 0.3}, "ratio of means, 2 x margin": {0.015, 0.13}, "ratio of means, last 5 min, 3 in a row": {0.15, 0.4},
		"host t, BH, no peeking correction": {0.03, 0.2}, "spend": {0, 0.06}, "mix": {0, 0.04},
	} {
		if got := sum.sum(key("rivals", name), "single").Rate(); got < want[0] || got > want[1] {
			t.Errorf("%s is wrong of %.1f %% of cells, want %v to %v", name, 100*got, want[0], want[1])
		}
	}
	var b strings.Builder
	if err := sum.Table(&b); err != nil || !strings.Contains(b.String(), "| mix | ") {
		t.Errorf("the table: %v\n%s", err, b.String())
	}
}

// rankZ against a count by hand: of 2 x 3 pairs, x wins 4 and ties 1.
func TestRankSum(t *testing.T) {
	got := rankZ([]float64{2, 5}, []float64{1, 2, 3}, 0)
	// W = 4.5 - 3 = 1.5, less 0.5; sigma^2 = 6/12 (6 - 6/20).
	if want := 1.0 / math.Sqrt(0.5*(6-6.0/20)); math.Abs(got-want) > 1e-12 {
		t.Errorf("z is %v, want %v", got, want)
	}
	if moved := rankZ([]float64{2, 5}, []float64{1, 2, 3}, 10); moved >= 0 {
		t.Errorf("x moved far below y has z %v", moved)
	}
}

// The fit agrees with one that is solved by hand: without covariates it is a difference of weighted means.
func TestHostFit(t *testing.T) {
	h := &hostStats{n: 5, nt: 2, weight: []float64{1, 1, 1, 1, 1}}
	e := h.fitPlain([]float64{3, 5, 1, 2, 3})
	// Means 4 and 2; residual sum 2 + 2 over 3; times 1/2 + 1/3; standard error by 1.14.
	if want := 1.14 * math.Sqrt(4.0/3*(0.5+1.0/3)); e.D != 2 || math.Abs(e.SE-want) > 1e-12 || e.DF != 3 {
		t.Errorf("got %+v, want 2, %v, 3", e, want)
	}
	for _, c := range []struct{ p, df, want float64 }{{0.025, 10, 2.228139}, {0.2, 8, 0.888890}, {0.0005, 20, 3.849516}} {
		if got := tQuantile(c.p, c.df); math.Abs(got-c.want) > 1e-5 {
			t.Errorf("tQuantile(%v, %v) is %v, want %v", c.p, c.df, got, c.want)
		}
		if got := tTail(-c.want, c.df); math.Abs(got-(1-c.p)) > 1e-6 {
			t.Errorf("tTail(%v, %v) is %v, want %v", -c.want, c.df, got, 1-c.p)
		}
	}
}
