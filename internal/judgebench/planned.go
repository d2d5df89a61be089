package judgebench

import (
	"fmt"
	"slices"
	"time"

	"github.com/kernwave/kernwave/judge"
)

// What planning is asked: types of so many hosts, with a day of history, to see 5 % of the tail latency.
const (
	plannedHosts  = 60
	plannedSignal = "app_latency_p99"
	plannedMargin = 0.05
)

// planned asks the planner how many canaries and hours each type needs, gives it those, changes it by the margin, and
// counts what is found as one of 96 cells: with the fewest canaries, and within 4 hours.
func planned(o Options) part {
	spec := func(canaries int, after time.Duration) Spec {
		return Spec{
			Types: 48, Signals: []string{plannedSignal}, Treated: []int{canaries}, Controls: []int{plannedHosts - canaries}, Before: 24 * time.Hour,
			After: after, Looks: []time.Duration{after}, Margins: map[string]float64{plannedSignal: plannedMargin},
		}
	}
	return func(t *Tally, rollout int) {
		m := NewMaker(spec(1, time.Hour), o.Seed)
		for j := range m.Spec().Types {
			f := forecast(m.Type(rollout, j))
			asks := map[string]judge.HoursForecast{}
			if f.Best != nil {
				asks["fewest"] = *f.Best
			}
			for _, h := range f.ByHours {
				if h.Hours == 4 && h.Canaries > 0 {
					asks["4h"] = h
				}
			}
			for _, name := range []string{"fewest", "4h"} {
				ask, ok := asks[name]
				t.count(key("plan", name, "possible"), ok)
				if !ok {
					continue
				}
				// The same type, hosts and noise: they depend on how many hosts there are, not on their arms.
				after := time.Duration(ask.Hours*float64(time.Hour)) + judge.Settle + 5*time.Minute
				s := spec(ask.Canaries, after)
				s.Looks = append(Every(30*time.Minute, after-time.Minute), after)
				typ := NewMaker(s, o.Seed).Type(rollout, j)
				jd := &ours{families: 96, fast: true}
				jd.See(typ, []float64{plannedMargin})
				seen := jd.Decide(true)[0][0]
				t.count(key("plan", name, "found"), seen.Found >= 0)
				t.count(key("plan", name, "pass"), seen.PassAny)
				t.value(key("plan", name, "canaries"), float64(ask.Canaries))
				t.value(key("plan", name, "hours"), ask.Hours)
			}
		}
	}
}

// forecast is what the planner says of the first signal of t, from what was before T0.
func forecast(t *Type) judge.Forecast {
	g := group(t)
	h, err := judge.NewHistory(g)
	if err != nil {
		panic(fmt.Sprintf("judgebench: the planner refuses %s: %v", t.ID, err))
	}
	n := t.Hosts()
	for k := range int(t.T0-t.Start) / t.StepS {
		if err := h.Observe(0, t.Cells[0].X[k*n:(k+1)*n]); err != nil {
			panic(fmt.Sprintf("judgebench: the planner refuses a sample of %s: %v", t.ID, err))
		}
	}
	return h.Plan(96)[0]
}

// pad adds groups of which nothing is ever seen, until there are so many cells.
func pad(groups []judge.Group, cells int) []judge.Group {
	out := slices.Clone(groups)
	have := 0
	for _, g := range groups {
		have += len(g.Signals)
	}
	for i := 0; have < cells; i++ {
		g := groups[0]
		g.ID = fmt.Sprintf("unseen-%d", i)
		g.Signals = g.Signals[:1]
		out = append(out, g)
		have++
	}
	return out
}
