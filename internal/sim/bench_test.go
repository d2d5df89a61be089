package sim

import (
	"fmt"
	"testing"
	"time"
)

// Large is the fleet whose healthy rollout must be simulated in under a minute on two cores: 5,000 hosts of 12 types in
// 3 datacenters, soaks of an hour.
func large() Scenario {
	s := Scenario{
		Name: "healthy-5000", Fleet: Fleet{Datacenters: 3, Racks: 20}, Budgets: []Budget{{"type", 20}}, Rollouts: []Rollout{{At: 12 * time.Minute}},
		Control: Control{IdlePace: 5 * time.Minute, GrantLife: time.Minute, OperationPace: 15 * time.Second, SilentAfter: 12 * time.Minute},
	}
	for i := range 12 {
		s.Fleet.Types = append(s.Fleet.Types, Type{Name: fmt.Sprintf("type%02d", i+1), Hosts: 5000 / 12})
	}
	s.Fleet.Types[0].Hosts += 5000 % 12
	return s
}

// BenchmarkHealthy5000 prints how long the simulation of a healthy rollout to 5,000 hosts takes, and how much happens in it.
func BenchmarkHealthy5000(b *testing.B) {
	for b.Loop() {
		res, err := Run(b.Context(), large(), Options{Seed: 1})
		if err != nil {
			b.Fatal(err)
		}
		if res.Broken != nil || len(res.Rollouts) != 1 || res.Rollouts[0].Status != "done" {
			b.Fatalf("%+v %v", res.Rollouts, res.Broken)
		}
		b.ReportMetric(res.Virtual.Hours(), "virtual-h/op")
		b.ReportMetric(float64(res.Seen["check-in"]), "check-ins/op")
		b.ReportMetric(float64(res.Seen["tick"]), "ticks/op")
	}
}
