package sqlite

import (
	"context"
	"crypto/rand"
	"testing"
	"time"

	"github.com/kernwave/kernwave/internal/store"
)

// TestGivingUpAtTheBeginning: a caller that gives up while its transaction begins leaves none open for the next one.
func TestGivingUpAtTheBeginning(t *testing.T) {
	s := open(t, t.TempDir(), Options{Rand: rand.Reader, unsynced: true})
	begin(t, s)
	nothing := func(store.Tx) error { return nil }
	for n := range 3000 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n%150)*time.Microsecond)
		_ = s.Update(ctx, nothing) // it may be in time
		cancel()
		if err := s.Update(t.Context(), nothing); err != nil {
			t.Fatalf("after giving up %d times: %v", n+1, err)
		}
	}
}
