package cli

import (
	"slices"
	"time"

	"github.com/kernwave/kernwave/internal/sim"
)

// summary is what many seeds came to. It is the same whatever runs at the same time: results are taken in the order of
// the seeds, up to the first broken promise.
type summary struct {
	Scenario string `json:"scenario"` // of random fleets: random
	First    uint64 `json:"first_seed"`
	Asked    int    `json:"seeds_asked"`
	Done     int    `json:"seeds"` // that count here
	// Broken is the result of the first seed that broke a promise.
	Broken *sim.Result `json:"broken"`

	// Ended counts the rollouts by how they stood at the end.
	Ended map[string]int `json:"ended"`
	// MostHarmed is the largest number of hosts harmed in one seed, and that seed.
	MostHarmed     int    `json:"most_harmed"`
	MostHarmedSeed uint64 `json:"most_harmed_seed"`
	Harmed         int    `json:"harmed"`
	NotBack        int    `json:"not_back"` // harmed hosts that were out of service at the end
	// SlowestStop is the longest time from a first harm to the pause.
	SlowestStop   time.Duration  `json:"slowest_stop_ns"`
	LongestOutage time.Duration  `json:"longest_outage_ns"`
	Hosts         int            `json:"hosts"`
	Virtual       time.Duration  `json:"virtual_ns"`
	Faults        map[string]int `json:"faults"`
	Seen          map[string]int `json:"seen"`
	RealSec       float64        `json:"real_sec"`

	results map[uint64]sim.Result // those that came out of order
	next    uint64
	broken  *sim.Result // the lowest one so far
}

func newSummary(first uint64, n int) *summary {
	return &summary{
		First: first, Asked: n, next: first, results: map[uint64]sim.Result{},
		Ended: map[string]int{}, Faults: map[string]int{}, Seen: map[string]int{},
	}
}

// add takes a result, in any order.
func (s *summary) add(r sim.Result) {
	if r.Broken != nil && (s.broken == nil || r.Seed < s.broken.Seed) {
		s.broken = &r
	}
	s.results[r.Seed] = r
	for {
		r, ok := s.results[s.next]
		if !ok || s.Broken != nil {
			return
		}
		delete(s.results, s.next)
		s.next++
		s.take(r)
	}
}

func (s *summary) take(r sim.Result) {
	s.Done++
	switch {
	case s.Scenario == "":
		s.Scenario = r.Scenario
	case s.Scenario != r.Scenario:
		s.Scenario = "random"
	}
	if r.Broken != nil {
		s.Broken = &r
	}
	for _, ro := range r.Rollouts {
		s.Ended[endWord(ro)]++
		for _, p := range ro.Pauses {
			s.SlowestStop = max(s.SlowestStop, p.After)
		}
	}
	if len(r.Harmed) > s.MostHarmed {
		s.MostHarmed, s.MostHarmedSeed = len(r.Harmed), r.Seed
	}
	s.Harmed += len(r.Harmed)
	for _, h := range r.Harmed {
		if !h.Back {
			s.NotBack++
		}
	}
	s.LongestOutage = max(s.LongestOutage, r.Outage.For)
	s.Hosts += r.Hosts
	s.Virtual += r.Virtual
	for k, n := range r.Faults {
		s.Faults[k] += n
	}
	for k, n := range r.Seen {
		s.Seen[k] += n
	}
}

// upto is how many seeds, from the first on without a gap, have kept every promise.
func (s *summary) upto() int {
	if s.Broken != nil {
		return s.Done - 1
	}
	return s.Done
}

// finish lets go of what came after the first broken promise.
func (s *summary) finish() { s.results = nil }

func (s *summary) firstBroken() *sim.Broken {
	if s.Broken == nil {
		return nil
	}
	return s.Broken.Broken
}

// endWord is how a rollout ended, in one word.
func endWord(r sim.RolloutEnd) string {
	if r.Refused != "" {
		return "refused"
	}
	return orElse(r.Status, "unknown")
}

// sortedCounts are the keys of counts, most frequent first.
func sortedCounts(m map[string]int) []string {
	var keys []string
	for k, n := range m {
		if n > 0 {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(x, y string) int {
		if m[x] != m[y] {
			return m[y] - m[x]
		}
		if x < y {
			return -1
		}
		return 1
	})
	return keys
}
