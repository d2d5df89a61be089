package cli

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/kernwave/kernwave/internal/operator"
)

// quietFor is how long nothing may change before a line says so: who reads a log wants to know that it is alive.
const quietFor = time.Minute

// lineWatch prints one line for each change.
type lineWatch struct {
	a     *app
	last  watched
	begun bool
	said  time.Time // when the last line was printed
}

func (l *lineWatch) show(w watched, now time.Time) error {
	var lines []string
	if !l.begun {
		lines = firstLines(w.rollout)
		l.last = watched{rollout: w.rollout}
		l.begun = true
	}
	lines = append(lines, changes(l.last, w, now)...)
	l.last = w
	if len(lines) == 0 && now.Sub(l.said) >= quietFor && w.away.since.IsZero() {
		lines = []string{"no change for " + shortDuration(now.Sub(l.said)) + atWork(w.rollout, now)}
	}
	if len(lines) > 0 {
		l.said = now
	}
	for _, line := range lines {
		if _, err := fmt.Fprintf(l.a.Out, "%s  %s\n", timeText(now), clean(line)); err != nil {
			return err
		}
	}
	return nil
}

func (l *lineWatch) close(watched, time.Time) error { return nil }

// firstLines say how a rollout stands when one begins to watch.
func firstLines(r operator.Rollout) []string {
	committed, total := progressOf(r)
	lines := []string{
		fmt.Sprintf("rollout %s: kernel %s, %d of %s committed",
			r.ID, r.Kernel.ID, committed, count(total, "host")),
		"rollout " + r.ID + " is " + statusText(r),
	}
	for _, st := range r.Stages {
		lines = append(lines, stageChange(operator.Stage{}, st)...)
	}
	for _, h := range r.Hosts {
		if !slices.Contains(quietStates, h.State) {
			lines = append(lines, hostLine(h, ""))
		}
	}
	if next := waitsFor(r); next != "" {
		lines = append(lines, "waits for: "+next)
	}
	return lines
}

// atWork names some of the hosts that have something open, and how long they have been at it.
func atWork(r operator.Rollout, now time.Time) string {
	const most = 4
	var parts []string
	for _, h := range r.Hosts {
		if h.Operation == nil || h.Operation.Phase.Ended() {
			continue
		}
		if len(parts) == most {
			parts = append(parts, "and others")
			break
		}
		parts = append(parts, fmt.Sprintf("%s %s for %s", h.ID, h.State, shortDuration(now.Sub(h.Operation.PhaseSince))))
	}
	if len(parts) == 0 {
		return ""
	}
	return ": " + strings.Join(parts, ", ")
}

// changes says in one line each what became different.
func changes(from, to watched, now time.Time) []string {
	var lines []string
	if gone, back := from.away.since.IsZero() && !to.away.since.IsZero(), !from.away.since.IsZero() && to.away.since.IsZero(); gone {
		lines = append(lines, "the control plane does not answer; asking on")
	} else if back {
		lines = append(lines, "the control plane answers again, after "+shortDuration(now.Sub(from.away.since)))
	}
	a, b := from.rollout, to.rollout
	lines = append(lines, hostChanges(a, b)...)
	before := map[int]operator.Stage{}
	for _, st := range a.Stages {
		before[st.Number] = st
	}
	types := map[string]operator.Type{}
	for _, t := range a.Types {
		types[string(t.ID)] = t
	}
	for _, t := range b.Types {
		was := types[string(t.ID)]
		if t.Approval != "" && was.Approval == "" {
			lines = append(lines, fmt.Sprintf("host type %s is approved: %s", t.ID, t.Approval))
		}
		if t.LeftOut != "" && was.LeftOut == "" {
			lines = append(lines, fmt.Sprintf("host type %s is left out: %s", t.ID, t.LeftOut))
		}
	}
	for _, st := range b.Stages {
		lines = append(lines, stageChange(before[st.Number], st)...)
	}
	known := map[string]bool{}
	for _, i := range from.incidents {
		known[i.ID] = true
	}
	for _, i := range to.incidents {
		if !known[i.ID] {
			lines = append(lines, incidentLines(i)...)
		}
	}
	if a.Status != b.Status {
		committed, total := progressOf(b)
		lines = append(lines, fmt.Sprintf("rollout %s is %s (%d of %s committed)", b.ID, statusText(b), committed, count(total, "host")))
	}
	if next := waitsFor(b); next != "" && sameWords(next) != sameWords(waitsFor(a)) {
		lines = append(lines, "waits for: "+next)
	}
	return lines
}

// sameWords leaves the digits out: a sentence that only counts down is not news.
func sameWords(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, s)
}

func hostChanges(a, b operator.Rollout) []string {
	var lines []string
	before := map[string]string{}
	for _, h := range a.Hosts {
		before[string(h.ID)] = h.State
	}
	for _, h := range b.Hosts {
		if was := before[string(h.ID)]; was != h.State {
			lines = append(lines, hostLine(h, was))
		}
	}
	return lines
}

// hostLine says where one host is, and where it was before.
func hostLine(h operator.RolloutHost, was string) string {
	line := fmt.Sprintf("%s: %s", h.ID, h.State)
	if was != "" && was != "waiting" {
		line += " (was " + was + ")"
	}
	if why := hostWhy(h); why != "" && h.State != "waiting" {
		line += ": " + why
	}
	return line
}

func stageChange(a, b operator.Stage) []string {
	switch {
	case b.Skipped != "" && a.Skipped == "":
		return []string{fmt.Sprintf("%s: skipped, %s", b.Name, b.Skipped)}
	case !b.EndedAt.IsZero() && a.EndedAt.IsZero():
		return []string{fmt.Sprintf("%s: done, %d of %s committed", b.Name, b.Committed, count(b.Hosts, "host"))}
	case !b.SoakUntil.IsZero() && a.SoakUntil.IsZero():
		return []string{fmt.Sprintf("%s: soaks until %s", b.Name, timeText(b.SoakUntil))}
	case !b.BeganAt.IsZero() && a.BeganAt.IsZero():
		return []string{fmt.Sprintf("%s: begins with %s", b.Name, count(b.Hosts, "host"))}
	}
	return nil
}

func incidentLines(i operator.Incident) []string {
	lines := []string{fmt.Sprintf("incident %s on %s: %s", i.ID, joined(i.Hosts, ", "), i.Saw)}
	if i.Evidence == "" && i.NoEvidence != "" {
		lines = append(lines, "  no evidence: "+i.NoEvidence)
	}
	for _, c := range i.Choices {
		lines = append(lines, "  can do: "+c.Command+" ("+c.What+")")
	}
	return lines
}

// jsonWatch prints an object whenever something changed.
type jsonWatch struct {
	out  io.Writer
	last []byte
}

func (j *jsonWatch) show(w watched, _ time.Time) error {
	if !w.away.since.IsZero() {
		return nil
	}
	b, err := encode("rollout", map[string]any{"rollout": w.rollout, "incidents": each(w.incidents, func(i operator.Incident) operator.Incident { return i })})
	if err != nil || bytes.Equal(b, j.last) {
		return err
	}
	j.last = b
	_, err = j.out.Write(append(b, '\n'))
	return err
}

func (j *jsonWatch) close(watched, time.Time) error { return nil }
