package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kernwave/kernwave/internal/operator"
)

// barWidth is a stage's progress bar in a table.
const barWidth = 20

// maxHostRows is how many hosts or exclusions are listed where not all were asked for.
const maxHostRows = 15

func (a *app) printRollout(r operator.Rollout, all bool) error {
	p, g := a.paletteFor(a.Out), a.glyphs()
	s := &sheet{}
	s.line("rollout", p.strong(clean(r.ID)), prefixed("note: ", clean(r.Spec.Note)))
	s.line("kernel", clean(string(r.Kernel.ID)))
	s.line("status", p.like(r.Status, clean(statusText(r))))
	if !r.StartedAt.IsZero() {
		s.line("started", timeText(r.StartedAt)+", "+ago(r.StartedAt, a.Now()), prefixed("by ", clean(r.StartedBy)))
	}
	if !r.EndedAt.IsZero() {
		s.line("ended", timeText(r.EndedAt)+", after "+shortDuration(r.EndedAt.Sub(r.StartedAt)))
	}
	s.line("selector", clean(r.Spec.Selector))
	s.line("waits for", clean(r.Next))
	s.line("time left", timeLeft(r, a.Now()))
	if err := s.print(a.Out, p, g, a.width()); err != nil {
		return err
	}
	fmt.Fprintln(a.Out)
	if err := stageTable(r, a.Now(), p, g).print(a.Out, p, g, a.width()); err != nil {
		return err
	}
	if len(r.Types) > 0 {
		fmt.Fprintln(a.Out)
		if err := typeTable(r).print(a.Out, p, g, a.width()); err != nil {
			return err
		}
	}
	return a.printRolloutHosts(r, all)
}

func stageTable(r operator.Rollout, now time.Time, p palette, g glyphs) *table {
	t := &table{head: []string{"STAGE", "COMMITTED", "", "STATE"}, prose: true}
	for _, st := range r.Stages {
		share := 0.0
		if st.Hosts > 0 {
			share = float64(st.Committed) / float64(st.Hosts)
		}
		committed, drawn := fmt.Sprintf("%d of %d", st.Committed, st.Hosts), p.active(bar(share, barWidth, g))
		if st.Skipped != "" {
			committed, drawn = "-", ""
		}
		t.add(clean(st.Name), committed, drawn, stageState(r, st, now, p))
	}
	return t
}

// stageState says how one stage stands, in a few words.
func stageState(r operator.Rollout, st operator.Stage, now time.Time, p palette) string {
	switch {
	case st.Skipped != "":
		return "skipped: " + clean(st.Skipped)
	case !st.EndedAt.IsZero():
		return p.good("done")
	case st.BeganAt.IsZero():
		return "waiting"
	case st.SoakUntil.After(now):
		return p.active("soaking") + ", " + shortDuration(st.SoakUntil.Sub(now)) + " left"
	case over(r):
		return "not finished"
	}
	return p.state(clean(r.Status))
}

func typeTable(r operator.Rollout) *table {
	t := &table{head: []string{"HOST TYPE", "COMMITTED", "CANARIES", "APPROVED BECAUSE"}, shrink: []int{2, 0}, prose: true}
	for _, ty := range r.Types {
		approval := orElse(clean(ty.Approval), "not yet")
		if ty.LeftOut != "" {
			approval = "left out: " + clean(ty.LeftOut)
		}
		t.add(clean(string(ty.ID)), fmt.Sprintf("%d of %d", ty.Committed, ty.Hosts), orElse(joined(ty.Canaries, ","), "-"), approval)
	}
	return t
}

// quietStates are those of hosts to which nothing happens now.
var quietStates = []string{"waiting", "committed", "rolled-back"}

func (a *app) printRolloutHosts(r operator.Rollout, all bool) error {
	p := a.paletteFor(a.Out)
	hosts := slices.Clone(r.Hosts)
	if !all {
		hosts = slices.DeleteFunc(hosts, func(h operator.RolloutHost) bool { return slices.Contains(quietStates, h.State) })
	}
	slices.SortStableFunc(hosts, func(x, y operator.RolloutHost) int {
		return cmp.Or(cmp.Compare(x.Stage, y.Stage), compareNames(x.ID, y.ID))
	})
	shown := hosts
	if !all {
		shown = hosts[:min(maxHostRows, len(hosts))]
	}
	if len(shown) > 0 {
		fmt.Fprintln(a.Out)
		t := &table{head: []string{"HOST", "STAGE", "STATE", "SINCE", "WHY"}, shrink: []int{0}, prose: true}
		for _, h := range shown {
			t.add(clean(string(h.ID)), clean(nameOfStage(r, h.Stage)), p.state(clean(h.State)), sinceText(h, a.Now()), orElse(clean(hostWhy(h)), "-"))
		}
		if err := t.print(a.Out, p, a.glyphs(), a.width()); err != nil {
			return err
		}
	}
	if len(shown) < len(r.Hosts) {
		_, err := fmt.Fprintf(a.Out, "\n%s (--all lists them)\n", countsText(r, a.glyphs()))
		return err
	}
	return a.printExcluded(r, all)
}

// hostWhy is what is known about why a host is where it is.
func hostWhy(h operator.RolloutHost) string {
	if h.Why == "" && h.Operation != nil && h.Operation.Problem != nil {
		return h.Operation.Problem.What
	}
	return h.Why
}

func sinceText(h operator.RolloutHost, now time.Time) string {
	if h.Operation == nil || h.Operation.PhaseSince.IsZero() {
		return "-"
	}
	return shortDuration(now.Sub(h.Operation.PhaseSince))
}

// printPlan shows what a rollout would do.
func (a *app) printPlan(r operator.Rollout, all bool) error {
	p, g := a.paletteFor(a.Out), a.glyphs()
	_, total := progressOf(r)
	s := &sheet{}
	s.line("kernel", p.strong(clean(string(r.Kernel.ID))), "version "+clean(r.Kernel.Version))
	s.line("hosts", fmt.Sprintf("%s of %s", count(total, "host"), count(len(r.Types), "type")), prefixed("selector ", clean(r.Spec.Selector)))
	if r.Spec.Soak != nil {
		s.line("soak", shortDuration(*r.Spec.Soak), "after each stage")
	}
	if r.Spec.ReturnWithin > 0 {
		s.line("return", "within "+shortDuration(r.Spec.ReturnWithin), "or the rollout pauses")
	}
	if r.Spec.TrialDeadline > 0 {
		s.line("trial", "checks pass within "+shortDuration(r.Spec.TrialDeadline)+" of the boot", "or the host goes back by itself")
	}
	s.line("note", clean(r.Spec.Note))
	s.line("first", clean(r.Next))
	if err := s.print(a.Out, p, g, a.width()); err != nil {
		return err
	}
	fmt.Fprintln(a.Out)
	stages := &table{head: []string{"STAGE", "HOSTS", "TOTAL", ""}, prose: true}
	upto := 0
	for _, st := range r.Stages {
		upto += st.Hosts
		stages.add(clean(st.Name), fmt.Sprint(st.Hosts), fmt.Sprint(upto), prefixed("skipped: ", clean(st.Skipped)))
	}
	if err := stages.print(a.Out, p, g, a.width()); err != nil {
		return err
	}
	fmt.Fprintln(a.Out)
	types := &table{head: []string{"HOST TYPE", "HOSTS", "CANARIES", ""}, shrink: []int{2, 0}, prose: true}
	for _, ty := range r.Types {
		canaries := joined(ty.Canaries, ",")
		note := prefixed("approved: ", clean(ty.Approval))
		if ty.LeftOut != "" {
			note = "left out: " + clean(ty.LeftOut)
		}
		types.add(clean(string(ty.ID)), fmt.Sprint(ty.Hosts), orElse(canaries, "-"), note)
	}
	if err := types.print(a.Out, p, g, a.width()); err != nil {
		return err
	}
	return a.printExcluded(r, all)
}

func (a *app) printExcluded(r operator.Rollout, all bool) error {
	if len(r.Excluded) == 0 {
		return nil
	}
	shown := r.Excluded
	if !all {
		shown = shown[:min(maxHostRows, len(shown))]
	}
	fmt.Fprintf(a.Out, "\n%s cannot take part:\n", count(len(r.Excluded), "host"))
	t := &table{head: []string{"HOST", "WHY"}, prose: true}
	for _, x := range shown {
		t.add(clean(string(x.Host)), clean(x.Why))
	}
	if err := t.print(a.Out, a.paletteFor(a.Out), a.glyphs(), a.width()); err != nil {
		return err
	}
	if len(shown) < len(r.Excluded) {
		fmt.Fprintf(a.Out, "and %d more (--all lists them)\n", len(r.Excluded)-len(shown))
	}
	return nil
}

// countsText counts hosts by state: "12 waiting · 1 trial · 5 committed".
func countsText(r operator.Rollout, g glyphs) string {
	counts := map[string]int{}
	var states []string
	for _, h := range r.Hosts {
		if counts[h.State] == 0 {
			states = append(states, h.State)
		}
		counts[h.State]++
	}
	slices.SortFunc(states, func(x, y string) int { return cmp.Or(cmp.Compare(stateRank(x), stateRank(y)), cmp.Compare(x, y)) })
	return strings.Join(each(states, func(s string) string { return fmt.Sprintf("%d %s", counts[s], clean(s)) }), " "+g.dot+" ")
}
