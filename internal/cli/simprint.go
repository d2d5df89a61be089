package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kernwave/kernwave/internal/sim"
)

// printSimulation is one page for people.
func (a *app) printSimulation(r sim.Result, s sim.Scenario) error {
	p, g := a.paletteFor(a.Out), a.glyphs()
	head := &sheet{}
	head.line("scenario", p.strong(clean(r.Scenario)), fmt.Sprintf("seed %d", r.Seed))
	head.line("shows", clean(strings.TrimSpace(s.About)))
	if r.Broken != nil {
		head.line("promises", p.bad(fmt.Sprintf("promise %d is BROKEN", r.Broken.Promise)), "see below")
	} else {
		head.line("promises", p.good("kept"), checksText(r.Seen))
	}
	head.line("fleet", fmt.Sprintf("%s of %s", count(r.Hosts, "host"), count(len(s.Fleet.Types), "type")))
	head.line("time", fmt.Sprintf("%s simulated in %s", spanText(r.Virtual), secondsText(r.RealSec)))
	if err := head.print(a.Out, p, g, a.width()); err != nil {
		return err
	}
	for i, ro := range r.Rollouts {
		fmt.Fprintln(a.Out)
		if err := a.printRolloutEnd(ro, i+1, p, g); err != nil {
			return err
		}
	}
	if err := a.printHarm(r, p, g); err != nil {
		return err
	}
	fmt.Fprintln(a.Out)
	foot := &sheet{}
	foot.line("longest outage", outageText(r.Outage))
	foot.line("faults", orElse(countsLine(r.Faults, g), "none"))
	foot.line("seen", countsLine(forPeople(r.Seen), g))
	if err := foot.print(a.Out, p, g, a.width()); err != nil {
		return err
	}
	return a.printBroken(r.Broken, p)
}

func (a *app) printRolloutEnd(ro sim.RolloutEnd, n int, p palette, g glyphs) error {
	s := &sheet{}
	if ro.Refused != "" {
		s.line(fmt.Sprintf("rollout %d", n), p.bad("refused"), clean(ro.Refused))
		return s.print(a.Out, p, g, a.width())
	}
	s.line("rollout", p.strong(clean(ro.ID)))
	s.line("ended", p.like(ro.Status, clean(orElse(ro.Status, "unknown"))), prefixed("after ", durationOr(ro.Lasted, "")))
	s.line("because", clean(ro.Why))
	if ro.Excluded > 0 {
		s.line("left out", count(ro.Excluded, "host")+", selected, but not able to take part")
	}
	for _, pa := range ro.Pauses {
		what := clockText(pa.At)
		if pa.After > 0 {
			what += ", " + spanText(pa.After) + " after the first harm"
		}
		s.line("paused", what+": "+clean(pa.Why))
	}
	if err := s.print(a.Out, p, g, a.width()); err != nil {
		return err
	}
	if len(ro.Stages) > 0 {
		fmt.Fprintln(a.Out)
		t := &table{head: []string{"STAGE", "HOSTS", "COMMITTED", "HARMED", "BEGAN", "LASTED"}}
		for _, st := range ro.Stages {
			t.add(stageRow(st, p)...)
		}
		if err := t.print(a.Out, p, g, a.width()); err != nil {
			return err
		}
	}
	if len(ro.Types) > 0 {
		fmt.Fprintln(a.Out)
		t := &table{head: []string{"HOST TYPE", "HOSTS", "COMMITTED", "HARMED", "APPROVED"}}
		for _, ty := range ro.Types {
			approved := "no"
			switch {
			case ty.LeftOut:
				approved = p.warn("left out")
			case ty.Approved:
				approved = p.good("yes")
			}
			t.add(clean(ty.Name), fmt.Sprint(ty.Hosts), fmt.Sprint(ty.Committed), harmText(ty.Harmed, p), approved)
		}
		return t.print(a.Out, p, g, a.width())
	}
	return nil
}

func stageRow(st sim.StageEnd, p palette) []string {
	began, lasted := "never", "-"
	if st.Began > 0 {
		began, lasted = clockText(st.Began), "not over"
		if st.Ended > 0 {
			lasted = spanText(st.Ended - st.Began)
		}
	}
	return []string{clean(st.Name), fmt.Sprint(st.Hosts), fmt.Sprint(st.Committed), harmText(st.Harmed, p), began, lasted}
}

func harmText(n int, p palette) string {
	if n == 0 {
		return "0"
	}
	return p.bad(fmt.Sprint(n))
}

func (a *app) printHarm(r sim.Result, p palette, g glyphs) error {
	fmt.Fprintln(a.Out)
	if len(r.Harmed) == 0 {
		_, err := fmt.Fprintln(a.Out, "no host was harmed by the new kernel")
		return err
	}
	back := 0
	for _, h := range r.Harmed {
		if h.Back {
			back++
		}
	}
	fmt.Fprintf(a.Out, "%s harmed by the new kernel, %d back in service:\n", count(len(r.Harmed), "host"), back)
	t := &table{head: []string{"HOST", "AT", "HOW", "CAUGHT", "OUT FOR", "AT THE END"}, shrink: []int{0}}
	for _, h := range r.Harmed[:min(maxHostRows, len(r.Harmed))] {
		end := p.good("in service") + ", " + clean(h.Runs) + " kernel"
		if !h.Back {
			end = p.bad("out") + prefixed(", ", prefixedSuffix(clean(h.Runs), " kernel"))
		}
		t.add(clean(h.Host), clockText(h.At), clean(h.How), clean(orElse(h.Caught, "never")), durationOr(h.Out, "-"), end)
	}
	if err := t.print(a.Out, p, g, a.width()); err != nil {
		return err
	}
	if n := len(r.Harmed) - maxHostRows; n > 0 {
		fmt.Fprintf(a.Out, "and %d more (-o json lists them)\n", n)
	}
	return nil
}

// printBroken stands at the end, where eyes are.
func (a *app) printBroken(b *sim.Broken, p palette) error {
	if b == nil {
		return nil
	}
	fmt.Fprintf(a.Out, "\n%s\n", p.bad(fmt.Sprintf("PROMISE %d BROKEN at %s", b.Promise, clockText(b.At))))
	s := &sheet{}
	s.line("seen", clean(b.What))
	s.line("expected", clean(b.Expected))
	s.line("hosts", clean(strings.Join(b.Hosts, ", ")))
	if err := s.print(a.Out, p, a.glyphs(), a.width()); err != nil {
		return err
	}
	if len(b.Trace) > 0 {
		fmt.Fprintln(a.Out, "\nhow it came to that:")
		for _, l := range b.Trace {
			fmt.Fprintln(a.Out, "  "+clean(l))
		}
	}
	if b.Replay == "" {
		return nil
	}
	_, err := fmt.Fprintf(a.Out, "\nsee it again: %s\n", clean(b.Replay))
	return err
}

// printSummary is the page for many seeds.
func (a *app) printSummary(s *summary) error {
	p, g := a.paletteFor(a.Out), a.glyphs()
	sh := &sheet{}
	last := s.First + uint64(max(s.Done, 1)-1)
	sh.line("scenario", p.strong(clean(s.Scenario)))
	sh.line("seeds", fmt.Sprintf("%d to %d", s.First, last), fmt.Sprintf("%d of %d", s.Done, s.Asked))
	if b := s.firstBroken(); b != nil {
		sh.line("promises", p.bad(fmt.Sprintf("promise %d is BROKEN by seed %d", b.Promise, s.Broken.Seed)), "see below")
	} else {
		sh.line("promises", p.good(fmt.Sprintf("kept by all %d", s.Done)), checksText(s.Seen))
	}
	sh.line("rollouts", countsLine(s.Ended, g))
	harmed := "none"
	if s.Harmed > 0 {
		harmed = fmt.Sprintf("at most %s in one seed (%d), %d in all, %d not back at the end", count(s.MostHarmed, "host"), s.MostHarmedSeed, s.Harmed, s.NotBack)
	}
	sh.line("harmed", harmed)
	sh.line("slowest stop", durationOr(s.SlowestStop, ""))
	sh.line("longest outage", durationOr(s.LongestOutage, "none"))
	sh.line("faults", orElse(countsLine(s.Faults, g), "none"))
	sh.line("seen", countsLine(forPeople(s.Seen), g))
	sh.line("time", fmt.Sprintf("%s of %s simulated in %s", spanText(s.Virtual), count(s.Hosts, "host"), secondsText(s.RealSec)))
	if err := sh.print(a.Out, p, g, a.width()); err != nil {
		return err
	}
	return a.printBroken(s.firstBroken(), p)
}

// checksText says how often the promises were looked at.
func checksText(seen map[string]int) string {
	if n := seen[sim.SeenChecks]; n > 0 {
		return fmt.Sprintf("1, 2, 3, 4, 6 and 7, looked at %s times", thousands(n))
	}
	return ""
}

// forPeople leaves out what only -o json needs: each kind of event, each phase.
func forPeople(seen map[string]int) map[string]int {
	few := map[string]int{}
	for k, n := range seen {
		if k != sim.SeenChecks && !slices.ContainsFunc([]string{"event-", "phase-", "acknowledged-", "harm-"}, func(p string) bool { return strings.HasPrefix(k, p) }) {
			few[k] = n
		}
	}
	return few
}

func countsLine(m map[string]int, g glyphs) string {
	var parts []string
	for _, k := range sortedCounts(m) {
		parts = append(parts, fmt.Sprintf("%s %s", thousands(m[k]), clean(k)))
	}
	return strings.Join(parts, " "+g.dot+" ")
}

// thousands prints a number with separators.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func outageText(o sim.Outage) string {
	if o.Host == "" {
		return "none"
	}
	text := fmt.Sprintf("%s, %s", spanText(o.For), clean(o.Host))
	if o.Why != "" {
		text += ": " + clean(o.Why)
	}
	if o.Open {
		text += "; it still was out at the end"
	}
	return text
}

func durationOr(d time.Duration, none string) string {
	if d <= 0 {
		return none
	}
	return spanText(d)
}

// spanText is a length of virtual time, to the second: 1h23m45s.
func spanText(d time.Duration) string { return sim.Short(d.Round(time.Second)) }

func prefixedSuffix(s, suffix string) string {
	if s == "" {
		return ""
	}
	return s + suffix
}

func secondsText(s float64) string {
	if s < 10 {
		return fmt.Sprintf("%.1f s", s)
	}
	return shortDuration(time.Duration(s * float64(time.Second)))
}

// clockText is a moment of the simulation, since its beginning: 1d 02:03:04.
func clockText(d time.Duration) string {
	days := ""
	if n := d / (24 * time.Hour); n > 0 {
		days = fmt.Sprintf("%dd ", n)
		d -= n * 24 * time.Hour
	}
	return fmt.Sprintf("%s%02d:%02d:%02d", days, d/time.Hour, d/time.Minute%60, d/time.Second%60)
}
