package judge_test

import (
	"fmt"
	"math"
	"time"

	"github.com/kernwave/kernwave/judge"
)

// wave is a load with a day and a night, and noise that is the same on every run.
func wave(host, sample int) float64 {
	noise := math.Sin(float64(host*7919+sample*104729)) + math.Sin(float64(host*31+sample*sample))
	return (20 + float64(host)) * (1 + 0.3*math.Sin(float64(sample)/200) + 0.03*noise)
}

// Four canaries of 24 hosts get a new kernel; their latency rises by a tenth.
func Example() {
	t0 := time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)
	group := judge.Group{
		ID: "web", Step: time.Minute, Start: t0.Add(-4 * time.Hour), T0: t0,
		Signals: []judge.Signal{{Name: "latency_p99", Unit: "ms", Bad: judge.Increase, Margin: 0.05}},
	}
	for i := range 24 {
		h := judge.Host{ID: fmt.Sprint("web-", i)}
		if i < 4 {
			h.Treated, h.Changed = true, t0.Add(time.Duration(i)*time.Minute)
		}
		group.Hosts = append(group.Hosts, h)
	}
	comparison, err := judge.New(group)
	if err != nil {
		panic(err)
	}
	family := judge.NewFamily([]judge.Group{group})
	values := make([]float64, len(group.Hosts))
	for k := range 8 * 60 {
		at := group.Start.Add(time.Duration(k) * group.Step)
		for i, h := range group.Hosts {
			values[i] = wave(i, k)
			if h.Treated && !at.Before(h.Changed) {
				values[i] *= 1.1
			}
		}
		if err := comparison.Observe(0, values); err != nil {
			panic(err)
		}
	}
	at := t0.Add(4 * time.Hour)
	for _, v := range family.Decide(at, map[int]judge.Look{0: comparison.Look(at)}) {
		fmt.Printf("%s %s: %s, %+.0f %%\n", v.Group, v.Signal, v.Outcome, 100*v.Effect)
	}
	// Output: web latency_p99: regression, +10 %
}

// How many canaries does a change of 5 % need?
func ExampleHistory() {
	start := time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)
	group := judge.Group{
		ID: "web", Step: time.Minute, Start: start, T0: start,
		Signals: []judge.Signal{{Name: "latency_p99", Bad: judge.Increase, Margin: 0.05}},
	}
	for i := range 24 {
		group.Hosts = append(group.Hosts, judge.Host{ID: fmt.Sprint("web-", i)})
	}
	history, err := judge.NewHistory(group)
	if err != nil {
		panic(err)
	}
	values := make([]float64, len(group.Hosts))
	for k := range 24 * 60 {
		for i := range values {
			values[i] = wave(i, k)
		}
		if err := history.Observe(0, values); err != nil {
			panic(err)
		}
	}
	for _, f := range history.Plan(96) {
		fmt.Printf("%s: %d canaries for %g h\n", f.Signal, f.Best.Canaries, f.Best.Hours)
	}
	// Output: latency_p99: 1 canaries for 2 h
}
