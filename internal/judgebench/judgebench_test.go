package judgebench

import (
	"bytes"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

// A rollout is a function of its seed and number: whatever was made before it, and by however many at once.
func TestGeneratorIsDeterministic(t *testing.T) {
	spec := Spec{Types: 2, Before: time.Hour, After: time.Hour, Work: true, Plan: Plan{Effects: []Effect{{Level, 0.1}, {Leak, 0.02}}, Share: 0.3}}
	one, other := NewMaker(spec, 7), NewMaker(spec, 7)
	for r := range 3 {
		other.Type(r+5, 1) // leaves its traces in the memory that is used again
		a, b := one.Type(r, 1), other.Type(r, 1)
		for i := range a.Cells {
			if a.Cells[i].Label != b.Cells[i].Label {
				t.Fatalf("rollout %d: labels %+v and %+v", r, a.Cells[i].Label, b.Cells[i].Label)
			}
			for k, v := range a.Cells[i].X {
				if w := b.Cells[i].X[k]; v != w && (v == v || w == w) {
					t.Fatalf("rollout %d, %s, sample %d: %v and %v", r, a.Cells[i].Signal, k, v, w)
				}
			}
		}
		if c := NewMaker(spec, 8).Type(r, 1); reflect.DeepEqual(c.Cells[0].X[:50], a.Cells[0].X[:50]) {
			t.Errorf("rollout %d: seeds 7 and 8 make the same", r)
		}
	}
	var tallies []string
	for _, workers := range []int{1, 3} {
		sum, err := Run("nuisance", Options{Seed: 1, N: 3, Workers: workers, Only: []string{"ratio of means, margin"}})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := sum.Write(&b); err != nil {
			t.Fatal(err)
		}
		tallies = append(tallies, b.String())
	}
	if tallies[0] != tallies[1] {
		t.Error("1 and 3 workers count differently")
	}
}

// What was put in can be measured: each effect moves treated hosts by what its label says.
func TestEffects(t *testing.T) {
	for _, c := range []struct {
		effect  Effect
		signal  string
		lo, hi  float64 // of treated after against before, over the same of controls
		regress bool
	}{
		{Effect{Level, 0.25}, "app_error_rate", 1.2, 1.3, true},
		{Effect{Level, 0.25}, "net_throughput", 0.65, 0.85, true},
		{Effect{Tail, 0.3}, "app_latency_p99", 1.2, 1.4, true},
		{Effect{Tail, 0.3}, "app_latency_p50", 0.97, 1.03, false},
		{Effect{Leak, 0.02}, "mem_used", 1.03, 1.05, true},
		{Effect{Surge, 1.8}, "app_latency_p50", 0.95, 1.05, false},
		{Effect{Missing, 0}, "app_latency_p50", 0.97, 1.03, false},
		{Effect{None, 0}, "app_latency_p50", 0.97, 1.03, false},
	} {
		m := NewMaker(Spec{Types: 1, Signals: []string{c.signal}, Treated: []int{5}, Controls: []int{50}, Plan: Plan{Effects: []Effect{c.effect}, Share: 1}}, 3)
		typ := m.Type(0, 0)
		cell, n := typ.Cells[0], typ.Hosts()
		var r [2]float64 // sums of log ratios: controls, treated
		for i := range n {
			var s, m [2]float64
			for k := range typ.Steps() {
				at := typ.Start + int64(k*typ.StepS)
				v := cell.X[k*n+i]
				if v != v || at >= typ.T0 && at < typ.T0+1200 {
					continue
				}
				if v < 0 || math.IsInf(v, 0) {
					t.Fatalf("%s %s: a sample is %v", c.effect.Kind, c.signal, v)
				}
				a := 0
				if at >= typ.T0 {
					a = 1
				}
				s[a] += v
				m[a]++
			}
			ratio := math.Log(s[1] / m[1] / (s[0] / m[0]))
			if i < typ.Treated {
				r[1] += ratio / float64(typ.Treated)
			} else {
				r[0] += ratio / float64(n-typ.Treated)
			}
		}
		if got := math.Exp(r[1] - r[0]); got < c.lo || got > c.hi || cell.Regression != c.regress {
			t.Errorf("%s %v on %s: treated hosts moved to %.3f of controls, regression %t; want %v to %v, %t", c.effect.Kind, c.effect.Size, c.signal, got, cell.Regression, c.lo, c.hi, c.regress)
		}
	}
}

// Lost hosts are not heard of after their reboot, and a host that reboots is away for three minutes.
func TestSilence(t *testing.T) {
	m := NewMaker(Spec{Types: 1, Signals: []string{"cpu_util"}, Plan: Plan{Effects: []Effect{{Lost, 0}}, Share: 1}, Reboots: true}, 1)
	typ := m.Type(0, 0)
	n := typ.Hosts()
	for k := range typ.Steps() {
		at := typ.Start + int64(k*typ.StepS)
		for i := range n {
			v := typ.Cells[0].X[k*n+i]
			if i < typ.Treated && at >= typ.Changed[i] && v == v {
				t.Fatalf("treated host %d shows %v after its reboot", i, v)
			}
			if r := typ.Rebooted[i]; r > 0 && at >= r && at < r+downS && v == v {
				t.Fatalf("control %d shows %v while it reboots", i, v)
			}
		}
	}
}

// A verdict of every kind against a label of every kind, counted by hand.
func TestScore(t *testing.T) {
	labels := `{"case":"a/1","rollout":"a","signal":"x","kind":"none","margin_rel":0.1,"bad_direction":"increase"}
{"case":"a/1","rollout":"a","signal":"y","kind":"none","margin_rel":0.1,"bad_direction":"increase"}
{"case":"b/1","rollout":"b","signal":"x","kind":"level","regression":true,"size":0.2,"true_rel":0.2,"n_treated":3,"margin_rel":0.1,"bad_direction":"increase"}
{"case":"b/1","rollout":"b","signal":"y","kind":"level","regression":true,"size":0.2,"true_rel":-0.2,"n_treated":2,"margin_rel":0.1,"bad_direction":"decrease"}
{"case":"c/1","rollout":"c","signal":"x","kind":"surge","margin_rel":0.1,"bad_direction":"increase"}
{"case":"c/1","rollout":"c","signal":"y","kind":"none","margin_rel":0.1,"bad_direction":"increase"}
`
	// a x: right, passes. a y: called a regression falsely, its second interval misses. b x: passes wrongly, then found.
	// b y: never found, wrong pass at the end, MDE below its effect. c x: called falsely. c y: nothing was said of it.
	verdicts := `{"case":"a/1","signal":"x","look":2,"verdict":"pass","ci_low":-0.05,"ci_high":0.05,"mde_rel":0.04}
{"case":"a/1","signal":"x","look":1,"verdict":"inconclusive","ci_low":null,"ci_high":null,"mde_rel":null}
{"case":"a/1","signal":"y","look":1,"verdict":"inconclusive","ci_low":-0.1,"ci_high":0.3,"mde_rel":null}
{"case":"a/1","signal":"y","look":2,"verdict":"regression","ci_low":0.01,"ci_high":0.3,"mde_rel":0.1}
{"case":"b/1","signal":"x","look":1,"verdict":"pass","ci_low":-0.2,"ci_high":0.09,"mde_rel":0.5}
{"case":"b/1","signal":"x","look":2,"verdict":"regression","ci_low":0.1,"ci_high":0.3,"mde_rel":0.15}
{"case":"b/1","signal":"y","look":1,"verdict":"pass","ci_low":-0.09,"ci_high":0.3,"mde_rel":0.19}
{"case":"c/1","signal":"x","look":1,"verdict":"regression","ci_low":0.1,"ci_high":0.3,"mde_rel":0.1}
{"case":"d/1","signal":"x","look":1,"verdict":"pass"}
{"case":"a/1","signal":"x","look":3,"verdict":"fine"}
`
	s, err := ScoreFiles(strings.NewReader(labels), strings.NewReader(verdicts))
	if err != nil {
		t.Fatal(err)
	}
	want := Score{
		Cells: 6, WithoutVerdict: 1, BadLines: 2,
		FalseRegression: map[Kind]Count{None: {1, 3}, Surge: {1, 1}},
		FalseRollouts:   Count{2, 2},
		WrongPassLast:   Count{1, 2}, WrongPassAny: Count{2, 2},
		CoverLast: Count{2, 4}, CoverAll: Count{1, 4}, // a x and b x at the last look; a x alone at all
		Honest: Count{1, 2},
		Power:  map[string]Count{"level|0.2|3": {1, 1}, "level|0.2|2": {0, 1}, "level|0.2|all": {1, 2}},
		Last:   map[string]int{"pass": 1, "regression": 1, "missing": 1},
	}
	want.HalfWidth = s.HalfWidth
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got  %+v\nwant %+v", s, want)
	}
	if math.Abs(s.HalfWidth-0.145) > 1e-9 {
		t.Errorf("median half width %v, want 0.145", s.HalfWidth)
	}
}

// What is written as cases is what the judge is shown here: both doors lead to the same verdicts.
func TestCasesAreReadBack(t *testing.T) {
	spec := Spec{Types: 2, Signals: []string{"cpu_util", "net_throughput"}, Before: time.Hour, After: time.Hour, Plan: Plan{Effects: []Effect{{Level, 0.4}}, Share: 1, One: true}}
	spec.Looks = Every(20*time.Minute, spec.After)
	var cases, labels, verdicts bytes.Buffer
	if err := WriteCases(spec, 5, 0, 3, &cases, &labels); err != nil {
		t.Fatal(err)
	}
	if err := judgeCases(&cases, &verdicts); err != nil {
		t.Fatal(err)
	}
	score, err := ScoreFiles(&labels, &verdicts)
	if err != nil {
		t.Fatal(err)
	}
	m, found := NewMaker(spec, 5), int64(0)
	for r := range 3 {
		o := &ours{}
		var regress [][]bool
		for j := range 2 {
			typ := m.Type(r, j)
			row := []bool{}
			for _, c := range typ.Cells {
				row = append(row, c.Regression)
			}
			regress = append(regress, row)
			o.See(typ, nil)
		}
		for j, cells := range o.Decide(false) {
			for i, s := range cells {
				if regress[j][i] && s.Found >= 0 {
					found++
				}
			}
		}
	}
	if c := score.Power["level|0.4|all"]; c.K != found || c.N != 6 || score.WithoutVerdict > 0 || score.BadLines > 0 {
		t.Errorf("%d of %d found through files, %d here; %+v", c.K, c.N, found, score)
	}
}

func TestBounds(t *testing.T) {
	for _, c := range []struct {
		k, n int64
		want float64
	}{{0, 100, 0.0295}, {24, 1000, 0.0336}, {50, 1000, 0.0629}, {5, 5, 1}} {
		if got := binomialUpper(c.k, c.n, 0.05); math.Abs(got-c.want) > 5e-4 {
			t.Errorf("upper bound of %d of %d is %.4f, want %.4f", c.k, c.n, got, c.want)
		}
	}
}

var workers = min(4, runtime.GOMAXPROCS(0))
