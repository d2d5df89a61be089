package upstream

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestPages: whatever a page and a key cost, a walk has the speed that its duty allows, by smaller pages as far as they go
// and by pauses beyond.
func TestPages(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		fixed := rapid.Float64Range(5e3, 5e6).Draw(r, "a page, ns")
		perKey := rapid.Float64Range(0, 50e3).Draw(r, "a key, ns")
		cost := func(keys int) time.Duration { return time.Duration(fixed + perKey*float64(keys)) }
		duty := rapid.Float64Range(dutyLeast, 1).Draw(r, "duty")
		p := pages{fixed: fixed}
		keys := 0
		for range 400 { // until the figure for a key has settled
			keys = p.size(duty)
			p.saw(keys, cost(keys))
		}
		if keys < pageLeast || keys > pageMost {
			r.Fatalf("pages of %d keys", keys)
		}
		working := p.working(keys, duty)
		if working <= 0 || working > 1 {
			r.Fatalf("works for %v of the time", working)
		}
		got := float64(keys) / (float64(cost(keys)) / working)
		want := duty * pageMost / float64(cost(pageMost))
		if got < 0.98*want || got > 1.02*want {
			r.Errorf("pages of %d keys, working for %.2f of the time: %.2f keys/ms, want %.2f", keys, working, 1e6*got, 1e6*want)
		}
		if working < 0.9 && keys > pageLeast {
			r.Errorf("it pauses (works for %.2f of the time) with pages of %d keys", working, keys)
		}
	})
	p := pages{fixed: 142e3, perKey: 8.5e3} // measured on loopback
	for _, at := range []struct {
		duty float64
		keys int
	}{{1, 50}, {0.9, 35}, {0.7, 19}, {0.5, 11}, {0.3, 10}, {0.02, 10}} {
		if got := p.size(at.duty); got != at.keys {
			t.Errorf("at a duty of %v pages have %d keys, want %d", at.duty, got, at.keys)
		}
	}
}
