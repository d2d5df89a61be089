package judge

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// poisson draws a number of events.
func poisson(rng *rand.Rand, mean float64) int {
	k, p, limit := 0, rng.Float64(), math.Exp(-mean)
	for p > limit {
		p *= rng.Float64()
		k++
	}
	return k
}

// playRare looks every hour for so many hours, and returns the hour of the first regression, 0: none, and whether an
// interval ever missed the ratio.
func playRare(t *testing.T, rng *rand.Rand, cfg RareConfig, base, ratio float64, treated, controls int, hours int) (found int, missed bool) {
	t.Helper()
	r, err := NewRare(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for h := 1; h <= hours; h++ {
		// The base rate has a day and a night where it is not known: nothing may depend on it.
		rate := base
		if cfg.Base == 0 {
			rate *= 1 + 0.9*math.Sin(float64(h)/4)
		}
		tr := Exposure{poisson(rng, rate*ratio*float64(treated)), float64(treated)}
		co := Exposure{poisson(rng, rate*float64(controls)), float64(controls)}
		if err := r.Add(tr, co); err != nil {
			t.Fatal(err)
		}
		if h%30 == 0 { // bounds are dear to ask for
			low, high := r.bounds()
			missed = missed || low > ratio || high < ratio
		}
		if found == 0 && r.evidence >= -ln(cfg.Alpha) {
			found = h
		}
	}
	return found, missed
}

func TestRareFalseAlarms(t *testing.T) {
	runs := 600
	if testing.Short() {
		runs = 200
	}
	for _, c := range []struct {
		name              string
		base, known       float64
		treated, controls int
	}{
		{"a known rate, no controls", 0.002, 0.002, 100, 0},
		{"a known rate and controls", 0.002, 0.002, 100, 400},
		{"controls alone", 0.002, 0, 50, 200},
		{"controls alone, fewer than treated hosts", 0.01, 0, 60, 15},
	} {
		t.Run(c.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(5, uint64(c.treated)))
			alarms, missed := 0, 0
			for range runs {
				found, miss := playRare(t, rng, RareConfig{Base: c.known, Alpha: 0.05}, c.base, 1, c.treated, c.controls, 120)
				if found > 0 {
					alarms++
				}
				if miss {
					missed++
				}
			}
			// 5 % and three standard errors.
			most := 0.05 + 3*math.Sqrt(0.05*0.95/float64(runs))
			if got := float64(alarms) / float64(runs); got > most {
				t.Errorf("%d of %d runs call a regression where nothing changed; at most %.3f is allowed", alarms, runs, most)
			}
			if got := float64(missed) / float64(runs); got > most {
				t.Errorf("%d of %d intervals miss the truth at some look; at most %.3f is allowed", missed, runs, most)
			}
			t.Logf("%d of %d false regressions, %d intervals wrong", alarms, runs, missed)
		})
	}
}

// The time to find a ratio is held against what no test can beat.
func TestRareDetectionTime(t *testing.T) {
	const base, alpha = 1.0 / 1000 / 24, 1e-3 // one crash in 1,000 host-days
	for _, c := range []struct {
		hosts    int
		ratio    float64
		atMost   float64 // times the bound, on average
		controls int
		known    bool
	}{
		{250, 100, 2.5, 0, true},
		{250, 10, 1.5, 0, true},
		{5000, 3, 1.5, 0, true},
		{1000, 10, 2.5, 4000, false},
	} {
		rng := rand.New(rand.NewPCG(6, uint64(c.hosts)))
		cfg := RareConfig{Alpha: alpha}
		if c.known {
			cfg.Base = base
		}
		sum, n := 0.0, 100
		if testing.Short() {
			n = 30
		}
		for range n {
			r, err := NewRare(cfg)
			if err != nil {
				t.Fatal(err)
			}
			for h := 1; ; h++ {
				if err := r.Add(Exposure{poisson(rng, base*c.ratio*float64(c.hosts)), float64(c.hosts)}, Exposure{poisson(rng, base*float64(c.controls)), float64(c.controls)}); err != nil {
					t.Fatal(err)
				}
				if r.evidence >= -ln(alpha) {
					sum += float64(h)
					break
				}
				if h > 1e6 {
					t.Fatal("it is never found")
				}
			}
		}
		hours := sum / float64(n)
		bound := HostHours(base, c.ratio, alpha) / float64(c.hosts)
		t.Logf("%d hosts, %gx, known %v: found after %.2f days on average, %.2f times the bound of %.2f days", c.hosts, c.ratio, c.known, hours/24, hours/bound, bound/24)
		if hours > c.atMost*bound+1 { // looks are hourly
			t.Errorf("%d hosts, %gx: %.1f hours, %.2f times the bound; want at most %v", c.hosts, c.ratio, hours, hours/bound, c.atMost)
		}
	}
}

func TestRareVerdicts(t *testing.T) {
	for _, c := range []struct {
		name             string
		cfg              RareConfig
		treated, control Exposure
		want             Outcome
	}{
		{"nothing was seen", RareConfig{Base: 0.001}, Exposure{}, Exposure{}, Inconclusive},
		{"nothing can be compared", RareConfig{}, Exposure{3, 100}, Exposure{}, Inconclusive},
		{"a host crashes again and again", RareConfig{Base: 0.0001}, Exposure{5, 100}, Exposure{}, Regression},
		{"long exposure, as ever", RareConfig{Base: 0.001}, Exposure{100, 100_000}, Exposure{}, Pass},
		{"quiet, but not for long", RareConfig{Base: 0.001}, Exposure{0, 500}, Exposure{}, Inconclusive},
		{"no event at all proves nothing without a rate", RareConfig{}, Exposure{0, 1e6}, Exposure{0, 1e6}, Inconclusive},
		{"many more than on controls", RareConfig{}, Exposure{20, 1000}, Exposure{4, 4000}, Regression},
		{"fewer", RareConfig{}, Exposure{20, 1e4}, Exposure{200, 4e4}, Pass},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := NewRare(c.cfg)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Add(c.treated, c.control); err != nil {
				t.Fatal(err)
			}
			if v := r.Verdict(); v.Outcome != c.want || v.Why == "" || v.Ratio < v.Low || v.Ratio > v.High {
				t.Errorf("%+v, want %s", v, c.want)
			}
		})
	}
}

func TestRareRefusesNonsense(t *testing.T) {
	for _, cfg := range []RareConfig{{Base: -1}, {Base: math.NaN()}, {Alpha: 0.7}, {Margin: 0.5}} {
		if _, err := NewRare(cfg); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
	r, err := NewRare(RareConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []Exposure{{-1, 1}, {1, -1}, {1, 0}, {0, math.NaN()}, {0, math.Inf(1)}} {
		if r.Add(e, Exposure{}) == nil {
			t.Errorf("%+v is taken", e)
		}
	}
}

func ExampleRare() {
	// One reboot in 1,000 host-days is known. 50 canaries reboot four times within two days.
	r, err := NewRare(RareConfig{Base: 1.0 / 1000 / 24})
	if err != nil {
		panic(err)
	}
	for hour := range 48 {
		events := 0
		if hour%12 == 5 {
			events = 1
		}
		if err := r.Add(Exposure{Events: events, HostHours: 50}, Exposure{}); err != nil {
			panic(err)
		}
	}
	v := r.Verdict()
	fmt.Println(v.Outcome)
	fmt.Println(v.Why)
	fmt.Printf("a tenfold rate needs at least %.0f host-days\n", HostHours(1.0/1000/24, 10, 0.001)/24)
	// Output:
	// regression
	// regression: 4 in 2400 host-hours on treated hosts, where 0.1 were expected; by chance alone that happens with p = 7.4e-05, over all looks
	// a tenfold rate needs at least 493 host-days
}
