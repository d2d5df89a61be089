package cli

import (
	"slices"
	"strings"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
)

// What the views of a rollout compute from it. All of it is pure.

// over says whether nothing will happen any more.
func over(r operator.Rollout) bool {
	return r.Status == "done" || r.Status == "aborted" || r.Status == "rolled-back"
}

// progressOf counts the hosts that a rollout is for, and those that have committed.
func progressOf(r operator.Rollout) (committed, total int) {
	for _, st := range r.Stages {
		committed += st.Committed
		total += st.Hosts
	}
	return committed, total
}

func stagesWithHosts(r operator.Rollout) int {
	n := 0
	for _, st := range r.Stages {
		if st.Hosts > 0 && st.Skipped == "" {
			n++
		}
	}
	return n
}

func stageName(r operator.Rollout) string { return nameOfStage(r, r.Stage) }

func nameOfStage(r operator.Rollout, number int) string {
	for _, st := range r.Stages {
		if st.Number == number {
			return st.Name
		}
	}
	if number == fleet.RollbackStage {
		return "rollback"
	}
	return "-"
}

// stateRank orders states as a host meets them.
func stateRank(state string) int {
	if state == "waiting" {
		return -1
	}
	if i := slices.Index(fleet.Phases(), fleet.Phase(state)); i >= 0 {
		return i
	}
	return len(fleet.Phases()) // held, skipped, left-out
}

// timeLeft estimates, in words, how long a rollout will still take: the remaining hosts at the pace of those that
// have committed, and the soaks that are still to come. Empty: it does not move on.
func timeLeft(r operator.Rollout, now time.Time) string {
	if over(r) || r.StartedAt.IsZero() {
		return ""
	}
	if r.Status != "running" {
		return "" // paused, or on its way to an end: no pace is known
	}
	left, known := estimate(r, now)
	switch {
	case !known:
		return "cannot tell before the first host has committed"
	case left < time.Minute:
		return "about a minute"
	}
	return "about " + shortDuration(left.Round(time.Minute))
}

// estimate is the figure behind [timeLeft].
func estimate(r operator.Rollout, now time.Time) (left time.Duration, known bool) {
	committed, total := progressOf(r)
	soak := time.Hour // the default, as operator.RolloutSpec says
	if r.Spec.Soak != nil {
		soak = *r.Spec.Soak
	}
	var soaked time.Duration // of the time so far, spent watching
	for _, st := range r.Stages {
		switch {
		case st.Skipped != "" || st.Hosts == 0:
		case !st.EndedAt.IsZero():
			soaked += min(soak, st.EndedAt.Sub(st.BeganAt))
		case !st.SoakUntil.IsZero():
			rest := min(max(st.SoakUntil.Sub(now), 0), soak)
			left += rest
			soaked += soak - rest
		default:
			left += soak
		}
	}
	if committed == total {
		return left, true
	}
	if committed == 0 {
		return 0, false
	}
	work := max(now.Sub(r.StartedAt)-soaked, 0)
	return left + work/time.Duration(committed)*time.Duration(total-committed), true
}

// statusText is the status with its reason, which may begin with the same word: "paused by ada: …".
func statusText(r operator.Rollout) string {
	switch {
	case r.StatusWhy == "":
		return r.Status
	case strings.HasPrefix(r.StatusWhy, r.Status):
		return r.StatusWhy
	}
	return r.Status + ": " + r.StatusWhy
}

// waitsFor is the sentence that a rollout waits for; nothing, once it is over.
func waitsFor(r operator.Rollout) string {
	if over(r) {
		return ""
	}
	return strings.TrimSpace(r.Next)
}
