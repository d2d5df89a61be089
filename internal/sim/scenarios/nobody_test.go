package scenarios

import (
	"context"
	"testing"

	"github.com/kernwave/kernwave/internal/sim"
)

// TestWhatNobodyCouldKnow: the copy of a machine that hangs speaks under its name, says that it is back, and the
// next host is let go. The control plane has kept its promise: it could not know.
func TestWhatNobodyCouldKnow(t *testing.T) {
	s, err := Parse("f", []byte(`
name: copy-of-a-lost-host
for: 2h
fleet:
  types:
    - {name: a, hosts: 1, kernel: {boots: hang}, watchdog: -1s}
    - {name: b, hosts: 5, workload: db}
budgets: [{by: "label:datacenter", limit: 1}]
rollouts: [{soak: 0s, waves: [100]}]
operator: {on_pause: skip, after: 5m}
faults: [{what: clone-image, at: 8m, host: a-0001}]
`))
	if err != nil {
		t.Fatal(err)
	}
	believed := 0
	for seed := range uint64(10) {
		r, err := sim.Run(context.Background(), s, sim.Options{Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		if r.Broken != nil {
			t.Fatalf("seed %d: %v", seed, r.Broken)
		}
		if r.Seen["grant"] > 1 && len(r.Harmed) == 1 && !r.Harmed[0].Back {
			believed++
		}
	}
	if believed == 0 {
		t.Error("no seed came to a grant while the first host was lost: this test looked at nothing")
	}
}
