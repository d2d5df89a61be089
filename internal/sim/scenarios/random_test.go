package scenarios

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kernwave/kernwave/internal/sim"
)

// TestRandomIsReadable: what CI found can be printed, changed by a person, and run.
func TestRandomIsReadable(t *testing.T) {
	for seed := range uint64(300) {
		s := sim.Random(seed)
		if s.Name == "" {
			t.Fatalf("seed %d has no name", seed)
		}
		again, err := Parse("f", Print(s))
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, Print(s))
		}
		if diff := cmp.Diff(s, again); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
	}
}
