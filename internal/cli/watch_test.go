package cli

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"charm.land/lipgloss/v2"
	"connectrpc.com/connect"
	"pgregory.net/rapid"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/cli/clitest"
	"github.com/kernwave/kernwave/internal/operator"
)

// drawWatched makes up what a control plane could answer, including nonsense.
func drawWatched(t *rapid.T) watched {
	states := []string{"waiting", "committed", "held", "skipped", "left-out", "rolled-back"}
	for _, p := range fleet.Phases() {
		states = append(states, string(p))
	}
	text := rapid.StringMatching(`[a-z ö\x1b0-9]{0,60}`)
	moment := rapid.Custom(func(t *rapid.T) time.Time {
		if rapid.Bool().Draw(t, "unset") {
			return time.Time{}
		}
		return clitest.Now.Add(time.Duration(rapid.IntRange(-86400, 86400).Draw(t, "s")) * time.Second)
	})
	r := operator.Rollout{
		ID: "r-1", Kernel: fleet.Kernel{ID: clitest.NewRelease}, StatusWhy: text.Draw(t, "why"), Next: text.Draw(t, "next"),
		Status:    rapid.SampledFrom([]string{"running", "paused", "done", "aborted", "rolling-back"}).Draw(t, "status"),
		StartedAt: moment.Draw(t, "started"), EndedAt: moment.Draw(t, "ended"),
	}
	for i := range rapid.IntRange(0, 6).Draw(t, "stages") {
		hosts := rapid.IntRange(0, 100).Draw(t, "hosts")
		r.Stages = append(r.Stages, operator.Stage{
			Number: i, Name: text.Draw(t, "name"), Hosts: hosts, Committed: rapid.IntRange(0, hosts).Draw(t, "committed"),
			BeganAt: moment.Draw(t, "began"), SoakUntil: moment.Draw(t, "soak"), EndedAt: moment.Draw(t, "ended"),
		})
	}
	for i := range rapid.IntRange(0, 40).Draw(t, "hosts") {
		r.Hosts = append(r.Hosts, operator.RolloutHost{
			ID: fleet.HostID(strings.Repeat("h", 1+i%3) + string(rune('a'+i))), State: rapid.SampledFrom(states).Draw(t, "state"), Why: text.Draw(t, "why"),
		})
	}
	w := watched{rollout: r}
	for range rapid.IntRange(0, 3).Draw(t, "incidents") {
		w.incidents = append(w.incidents, operator.Incident{
			ID: text.Draw(t, "id"), Saw: text.Draw(t, "saw"), Hosts: []fleet.HostID{"ha"}, Choices: []operator.Choice{{What: text.Draw(t, "what"), Command: "x"}},
		})
	}
	if rapid.Bool().Draw(t, "away") {
		w.away = outage{since: clitest.Now.Add(-time.Minute), err: errors.New("gone")}
	}
	return w
}

func TestFrameStaysOnTheScreen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWatched(t)
		f := frame{p: palette{on: rapid.Bool().Draw(t, "colour")}, g: utf8Glyphs, width: rapid.IntRange(1, 140).Draw(t, "width"), height: rapid.IntRange(1, 50).Draw(t, "height")}
		lines := f.draw(w, clitest.Now)
		if len(lines) > f.height {
			t.Fatalf("%d lines on a screen of %d", len(lines), f.height)
		}
		for _, l := range lines {
			if lipgloss.Width(l) > f.width || strings.ContainsAny(l, "\n\r") {
				t.Fatalf("%d columns in %d: %q", lipgloss.Width(l), f.width, l)
			}
			if plain := stripStyle(l); strings.Contains(plain, "\x1b") {
				t.Fatalf("foreign control characters: %q", plain)
			}
		}
	})
}

// What does not change is not told again, whatever else there is.
func TestNoChangeIsNoLine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWatched(t)
		if lines := changes(w, w, clitest.Now); len(lines) > 0 {
			t.Fatalf("told again: %q", lines)
		}
	})
}

func TestEveryChangeOfAHostIsALine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawWatched(t), drawWatched(t)
		told := changes(a, b, clitest.Now)
		before := map[fleet.HostID]string{}
		for _, h := range a.rollout.Hosts {
			before[h.ID] = h.State
		}
		for _, h := range b.rollout.Hosts {
			line := func(s string) bool { return strings.HasPrefix(s, string(h.ID)+": "+h.State) }
			if before[h.ID] != h.State && !slices.ContainsFunc(told, line) {
				t.Fatalf("%s went from %q to %q, and no line says so: %q", h.ID, before[h.ID], h.State, told)
			}
		}
	})
}

func TestWatchedEnds(t *testing.T) {
	for _, c := range []struct {
		status      string
		untilPaused bool
		ended       bool
		code        int
	}{
		{"running", true, false, 0},
		{"paused", false, false, 0},
		{"paused", true, true, ExitPaused},
		{"rolling-back", true, false, 0},
		{"done", false, true, ExitOK},
		{"aborted", false, true, ExitFailed},
		{"rolled-back", true, true, ExitFailed},
	} {
		ended, err := watchOutcome(operator.Rollout{ID: "r-1", Status: c.status}, watchFlags{untilPaused: c.untilPaused})
		code := ExitOK
		if q, ok := errors.AsType[quietExit](err); ok {
			code = int(q)
		} else if err != nil {
			code = ExitFailed
		}
		if ended != c.ended || code != c.code {
			t.Errorf("%s, until paused %v: ended %v with %d, want %v with %d", c.status, c.untilPaused, ended, code, c.ended, c.code)
		}
	}
}

func TestOutageIsSatOutForAWhile(t *testing.T) {
	gone := connect.NewError(connect.CodeUnavailable, errors.New("gone"))
	now := clitest.Now
	var o outage
	step := func(err error, after time.Duration, wantChanged bool, wantFatal bool) {
		t.Helper()
		now = now.Add(after)
		changed, fatal := o.next(err, now, time.Minute)
		if changed != wantChanged || (fatal != nil) != wantFatal {
			t.Errorf("at %v: changed %v, fatal %v, want %v, %v", now, changed, fatal, wantChanged, wantFatal)
		}
	}
	step(nil, 0, false, false)
	step(gone, time.Second, true, false)
	step(gone, 30*time.Second, false, false)
	step(nil, time.Second, true, false) // back: patience begins anew
	step(gone, time.Second, true, false)
	step(gone, 59*time.Second, false, false)
	step(gone, 2*time.Second, false, true)
	o = outage{}
	step(connect.NewError(connect.CodeNotFound, errors.New("no such rollout")), 0, false, true)
}

func TestEstimate(t *testing.T) {
	now := clitest.Now
	soak := 10 * time.Minute
	begin := func(d time.Duration) time.Time { return now.Add(-d) }
	rollout := func(stages ...operator.Stage) operator.Rollout {
		return operator.Rollout{Status: "running", StartedAt: begin(40 * time.Minute), Spec: operator.RolloutSpec{Soak: &soak}, Stages: stages}
	}
	for _, c := range []struct {
		name string
		r    operator.Rollout
		want string
	}{
		{"no host has committed", rollout(operator.Stage{Hosts: 2}), "cannot tell before the first host has committed"},
		// 30 min of work for 2 hosts: 8 more take 2 h, and one soak.
		{"at the pace so far", rollout(
			operator.Stage{Hosts: 2, Committed: 2, BeganAt: begin(40 * time.Minute), EndedAt: begin(5 * time.Minute)},
			operator.Stage{Hosts: 8, BeganAt: begin(5 * time.Minute)}), "about 2 h 10 min"},
		{"only a soak is left", rollout(operator.Stage{Hosts: 2, Committed: 2, SoakUntil: now.Add(4 * time.Minute)}), "about 4 min"},
		{"nearly over", rollout(operator.Stage{Hosts: 2, Committed: 2, SoakUntil: now.Add(4 * time.Second)}), "about a minute"},
		{"empty stages have no soak", rollout(operator.Stage{Hosts: 2, Committed: 2, SoakUntil: now.Add(-time.Second)}, operator.Stage{Hosts: 0}, operator.Stage{Skipped: "it adds nobody"}), "about a minute"},
	} {
		if got := timeLeft(c.r, now); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	for _, status := range []string{"paused", "done", "aborting", "rolling-back"} {
		r := rollout(operator.Stage{Hosts: 2, Committed: 1})
		r.Status = status
		if got := timeLeft(r, now); got != "" {
			t.Errorf("%s: %q, want nothing", status, got)
		}
	}
}

func TestFrameOfARealRollout(t *testing.T) {
	f := clitest.Panicking()
	w := watched{rollout: f.Rollouts[0][0], incidents: f.Incidents[:1]}
	got := strings.Join(frame{g: utf8Glyphs, width: 72, height: 24}.draw(w, clitest.Now), "\n")
	for _, want := range []string{
		"rollout r-7  6.12.117+deb12-cloud-amd64  paused", "waits for a person to resume", "canaries        ████", "1/2  paused",
		"wave 1 (1 %)    skipped: it adds nobody", "hosts  5 waiting · 1 committed · 1 held", "incident i-3  db-1", "kernwave rollout abort r-7", "Ctrl-C leaves",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
}
