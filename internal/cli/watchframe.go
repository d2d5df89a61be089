package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"charm.land/lipgloss/v2"

	"github.com/kernwave/kernwave/internal/operator"
)

// frame is one picture of a rollout in lines of at most width columns, at most height of them (0: as many as it
// takes). Where it does not fit, hosts are left out first, then parts of incidents; what it waits for stays.
type frame struct {
	p             palette
	g             glyphs
	width, height int
}

// minFrame is the smallest terminal that a frame is laid out for; smaller ones show its upper left part.
const (
	minFrameWidth  = 40
	minFrameHeight = 10
)

func (f frame) draw(w watched, now time.Time) []string {
	width := max(f.width, minFrameWidth)
	head := f.head(w, now, width)
	stages := f.stages(w.rollout, now, width)
	incidents := f.incidents(w.incidents, width)
	foot := f.foot(now, width)
	left := 0 // lines for hosts, with their empty line
	if f.height > 0 {
		h := max(f.height, minFrameHeight)
		const leastHosts = 2
		if room := h - len(head) - len(stages) - len(foot) - leastHosts; len(incidents) > room {
			incidents = incidents[:max(room, 0)]
		}
		left = max(h-len(head)-len(stages)-len(incidents)-len(foot), 0)
	}
	lines := slices.Concat(head, stages, f.hosts(w.rollout, now, left), incidents, foot)
	if f.height > 0 && len(lines) > f.height {
		lines = lines[:f.height]
	}
	for i := range lines {
		lines[i] = cutEnd(lines[i], f.width, f.g)
	}
	return lines
}

func (f frame) head(w watched, now time.Time, width int) []string {
	r := w.rollout
	lines := []string{f.p.strong("rollout "+clean(r.ID)) + "  " + clean(string(r.Kernel.ID)) + "  " + f.p.state(clean(r.Status))}
	if r.StatusWhy != "" {
		for _, l := range wrap(clean(statusText(r)), width) {
			lines = append(lines, f.p.like(r.Status, l))
		}
	}
	if next := waitsFor(r); next != "" {
		lines = append(lines, f.hanging("waits for ", clean(next), width)...)
	}
	if !w.away.since.IsZero() {
		lines = append(lines, f.p.bad("the control plane has not answered for "+shortDuration(now.Sub(w.away.since))+"; asking on"))
	}
	return append(lines, "")
}

// hanging wraps text behind a faint name.
func (f frame) hanging(name, text string, width int) []string {
	var lines []string
	for i, l := range wrap(text, width-lipgloss.Width(name)) {
		if i == 0 {
			lines = append(lines, f.p.faint(name)+l)
		} else {
			lines = append(lines, strings.Repeat(" ", lipgloss.Width(name))+l)
		}
	}
	return lines
}

// stages draws one bar for each stage, and one for all of them.
func (f frame) stages(r operator.Rollout, now time.Time, width int) []string {
	names := len("all hosts")
	for _, st := range r.Stages {
		names = max(names, lipgloss.Width(clean(st.Name)))
	}
	committed, total := progressOf(r)
	numbers := len(fmt.Sprintf("%d/%d", total, total))
	const stateWidth = 22 // "soaking, 59 min left"
	barSpace := min(max(width-names-numbers-stateWidth-6, 6), 40)
	row := func(name string, done, of int, state string) string {
		share := 0.0
		if of > 0 {
			share = float64(done) / float64(of)
		}
		drawn := f.p.active(bar(share, barSpace, f.g))
		if of > 0 && done == of {
			drawn = f.p.good(bar(share, barSpace, f.g))
		}
		return fmt.Sprintf("%-*s  %s  %*s  %s", names, name, drawn, numbers, fmt.Sprintf("%d/%d", done, of), state)
	}
	var lines []string
	for _, st := range r.Stages {
		if st.Skipped != "" {
			lines = append(lines, fmt.Sprintf("%-*s  %s", names, clean(st.Name), f.p.faint("skipped: "+clean(st.Skipped))))
			continue
		}
		lines = append(lines, row(clean(st.Name), st.Committed, st.Hosts, stageState(r, st, now, f.p)))
	}
	left := timeLeft(r, now)
	if strings.HasPrefix(left, "about") {
		left += " left"
	}
	if over(r) && !r.EndedAt.IsZero() {
		left = "took " + shortDuration(r.EndedAt.Sub(r.StartedAt))
	}
	return append(lines, row("all hosts", committed, total, left), "")
}

// hosts lists those that something happens to in left lines; 0 means as many as it takes.
func (f frame) hosts(r operator.Rollout, now time.Time, left int) []string {
	if len(r.Hosts) == 0 {
		return nil
	}
	lines := []string{f.p.faint("hosts  ") + countsText(r, f.g)}
	busy := slices.DeleteFunc(slices.Clone(r.Hosts), func(h operator.RolloutHost) bool { return slices.Contains(quietStates, h.State) })
	slices.SortStableFunc(busy, func(x, y operator.RolloutHost) int {
		// The furthest first: ends, which are trouble here, stand above what is under way.
		return cmp.Or(cmp.Compare(stateRank(y.State), stateRank(x.State)), compareNames(x.ID, y.ID))
	})
	shown := busy
	if left > 0 {
		room := max(left-2, 0) // the counts and an empty line
		if len(busy) > room {
			shown = busy[:max(room-1, 0)]
		}
	}
	names, states := 0, 0
	for _, h := range shown {
		names, states = max(names, lipgloss.Width(clean(string(h.ID)))), max(states, lipgloss.Width(h.State))
	}
	for _, h := range shown {
		state := f.p.state(clean(h.State)) + strings.Repeat(" ", max(states-lipgloss.Width(clean(h.State)), 0))
		line := fmt.Sprintf("  %-*s  %s  %6s", names, clean(string(h.ID)), state, sinceText(h, now))
		if why := hostWhy(h); why != "" {
			line += "  " + clean(why)
		}
		lines = append(lines, line)
	}
	if more := len(busy) - len(shown); more > 0 && left != 2 {
		lines = append(lines, fmt.Sprintf("  and %d more", more))
	}
	return append(lines, "")
}

func (f frame) incidents(list []operator.Incident, width int) []string {
	var lines []string
	for _, in := range list {
		lines = append(lines, f.p.bad("incident "+clean(in.ID))+"  "+joined(in.Hosts, ", "))
		for _, l := range wrap(clean(in.Saw), width-2) {
			lines = append(lines, "  "+l)
		}
		for _, c := range in.Choices {
			lines = append(lines, "  "+f.p.active(clean(c.Command))+f.p.faint("  "+clean(c.What)))
		}
		lines = append(lines, "")
	}
	return lines
}

func (f frame) foot(now time.Time, width int) []string {
	if f.height == 0 {
		return nil // what stays on the screen needs no help
	}
	return []string{f.p.faint(cutEnd(timeText(now)+" "+f.g.dot+" Ctrl-C leaves, the rollout goes on", width, f.g))}
}
