package cli

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kernwave/kernwave/internal/judgecase"
	"github.com/kernwave/kernwave/judge"
)

func (a *app) judgeExplainCommand() *cobra.Command {
	var cases string
	cmd := &cobra.Command{
		Use: "explain --cases FILE CASE SIGNAL", Short: "show how the verdict on one signal comes about",
		Long: `Judges the rollout of a case, and shows one signal of it as a person would check it: the verdict at each look, what
each host contributes, and a plot of treated hosts and controls before and after, with the interval of the effect and
the margin.`,
		Example: `  kernwave judge explain --cases cases.ndjson r0/web latency_p99
  kernwave judge explain --cases cases.ndjson.gz r0/web latency_p99 -o json`,
		Args: arguments("CASE", "SIGNAL"),
		RunE: func(_ *cobra.Command, args []string) error {
			if cases == "" {
				return &usageError{"judge explain needs --cases", "name a file of cases, or - for the standard input"}
			}
			in, err := a.openCases(cases)
			if err != nil {
				return err
			}
			defer in.Close()
			e, err := judgecase.Explain(in, args[0], args[1])
			if errors.Is(err, judgecase.ErrNotThere) {
				return &usageError{fmt.Sprintf("%s: %v", in.name, err), "name a case and one of its signals"}
			}
			if err != nil {
				return &advised{fmt.Errorf("%s: %w", in.name, plainPathError(err)), "mend the line, or name another case"}
			}
			if a.json() {
				return printJSON(a.Out, "judge_explanation", explanationJSON(e))
			}
			return a.printExplanation(e)
		},
	}
	cmd.Flags().StringVar(&cases, "cases", "", "`FILE` of cases, also compressed with gzip; - is the standard input")
	completeFiles(cmd, "cases")
	return cmd
}

// curvePoints is into how many points a curve goes for programs.
const curvePoints = 96

func explanationJSON(e judgecase.Explanation) any {
	type host struct {
		ID       string   `json:"id"`
		Arm      string   `json:"arm"`
		Before   *float64 `json:"before"`
		Expected *float64 `json:"expected"`
		After    *float64 `json:"after"`
		Change   *float64 `json:"change_rel"`
		Noise    *float64 `json:"noise_log"`
		Samples  int      `json:"samples_after"`
		Out      string   `json:"out,omitempty"`
	}
	type point struct {
		At      int64    `json:"at"`
		Treated *float64 `json:"treated_rel"`
		Low     *float64 `json:"control_low_rel"`
		Middle  *float64 `json:"control_middle_rel"`
		High    *float64 `json:"control_high_rel"`
	}
	num := judgecase.Rounded
	w := e.Working
	hosts := make([]host, len(w.Hosts))
	for i, h := range w.Hosts {
		arm := "control"
		if h.Treated {
			arm = "treated"
		}
		hosts[i] = host{h.ID, arm, num(h.Before), num(h.Expected), num(h.After), num(h.Change), num(h.Noise), h.Samples, h.Out}
	}
	var curve []point
	for _, p := range e.Case.Curve(e.Signal, curvePoints) {
		curve = append(curve, point{p.From, num(p.Treated), num(p.Low), num(p.Middle), num(p.High)})
	}
	lines := make([]judgecase.Verdict, len(e.Verdicts))
	for i, v := range e.Verdicts {
		lines[i] = judgecase.Line(v)
	}
	s := e.Case.Signals[e.Signal]
	return map[string]any{
		"case": e.Case.ID, "host_type": e.Case.HostType, "signal": s.Name, "unit": s.Unit, "bad_direction": s.BadDirection, "margin_rel": s.MarginRel,
		"t0": e.Case.T0, "family": e.Family, "verdicts": lines, "hosts": hosts, "curve": curve,
		"controls_middle_rel": num(w.Middle), "host_scale_log": num(w.Scale), "standard_error_log": num(w.Error),
		"evidence": map[string]any{"level": num(w.Level), "jumps": num(w.Jumps), "trend": num(w.Trend)},
	}
}

func (a *app) printExplanation(e judgecase.Explanation) error {
	p := a.paletteFor(a.Out)
	s := e.Case.Signals[e.Signal]
	last := e.Verdicts[len(e.Verdicts)-1]
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s", p.strong(clean(e.Case.ID)), p.strong(clean(s.Name)))
	if s.Unit != "" {
		fmt.Fprintf(&b, " (%s)", clean(s.Unit))
	}
	fmt.Fprintf(&b, "; worse is %s, harmless up to %s\n", map[string]string{"increase": "more", "decrease": "less"}[s.BadDirection], percentText(s.MarginRel))
	for _, line := range wrap(clean(last.Why), a.width()) {
		b.WriteString(outcomeColour(p, last.Outcome, line) + "\n")
	}
	b.WriteString("\n" + a.curvePlot(e, p) + "\n")
	if _, err := fmt.Fprint(a.Out, b.String()); err != nil {
		return err
	}
	looks := &table{head: []string{"LOOK", "VERDICT", "EFFECT", "INTERVAL", "P", "WOULD BE FOUND"}}
	t0 := time.Unix(e.Case.T0, 0)
	for _, v := range e.Verdicts {
		looks.add(sinceChangeText(v.Look.Sub(t0)), outcomeColour(p, v.Outcome, v.Outcome.String()), signedPercent(v.Effect),
			signedPercent(v.Low)+" to "+signedPercent(v.High), fmt.Sprintf("%.2g", v.P), percentText(v.MDE))
	}
	if err := looks.print(a.Out, p, a.glyphs(), a.width()); err != nil {
		return err
	}
	fmt.Fprintln(a.Out)
	hosts := &table{head: []string{"HOST", "ARM", "BEFORE", "EXPECTED", "AFTER", "CHANGE", "BY CHANCE", "NOTE"}, shrink: []int{0, 7}}
	for _, treated := range []bool{true, false} {
		for _, h := range e.Working.Hosts {
			if h.Treated != treated {
				continue
			}
			arm := "control"
			if treated {
				arm = p.active("treated")
			}
			hosts.add(clean(h.ID), arm, numberText(h.Before), numberText(h.Expected), numberText(h.After), signedPercent(h.Change),
				"±"+percentText(h.Noise), clean(h.Out))
		}
	}
	if err := hosts.print(a.Out, p, a.glyphs(), a.width()); err != nil {
		return err
	}
	w := e.Working
	text := fmt.Sprintf(`EXPECTED is BEFORE times what the controls did at the same times; BY CHANCE is a host's own scale. The evidence for a change for the worse, in times likelier than none: %s by the level, %s by jumps from sample to sample, %s by a drift. They are averaged (80 : 10 : 10); the largest average over all looks is 1/P. %s are judged together: a regression needs P below 0.05/%d or, beside others, a little more.`,
		timesText(w.Level), timesText(w.Jumps), timesText(w.Trend), counted(e.Family, "signal"), e.Family)
	if last.Placebo.Replays > 0 {
		text += fmt.Sprintf(" In replays of changes that did not happen, %d of %d alarmed at a level of 5 %%.", last.Placebo.Alarms, last.Placebo.Replays)
	}
	if last.Needs != (judge.Needs{}) && last.Outcome == judge.Inconclusive {
		text += " To find the margin: " + needsText(last.Needs) + "."
	}
	_, err := fmt.Fprintln(a.Out, "\n"+strings.Join(wrap(text, orWidth(a.width(), 100)), "\n"))
	return err
}

func orWidth(width, other int) int {
	if width <= 0 {
		return other
	}
	return width
}

func needsText(n judge.Needs) string {
	var ways []string
	if n.Hours > 0 {
		ways = append(ways, fmt.Sprintf("%.1f hours with the same hosts", n.Hours))
	}
	if n.Hosts > 0 {
		ways = append(ways, fmt.Sprintf("%d treated hosts in the same time", n.Hosts))
	}
	return strings.Join(ways, ", or ")
}

func outcomeColour(p palette, o judge.Outcome, s string) string {
	switch o {
	case judge.Pass:
		return p.good(s)
	case judge.Regression:
		return p.bad(s)
	}
	return p.warn(s)
}

func percentText(x float64) string {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return "-"
	}
	return fmt.Sprintf("%.3g %%", 100*x)
}

func signedPercent(x float64) string {
	switch {
	case math.IsNaN(x):
		return "-"
	case math.IsInf(x, 0):
		return "unbounded"
	}
	return fmt.Sprintf("%+.3g %%", 100*x)
}

func numberText(x float64) string {
	if math.IsNaN(x) {
		return "-"
	}
	return fmt.Sprintf("%.4g", x)
}

func timesText(x float64) string {
	switch {
	case math.IsNaN(x):
		return "0"
	case x > 1e6:
		return "more than a million"
	}
	return fmt.Sprintf("%.3g", x)
}

// sinceChangeText is a time since the change began.
func sinceChangeText(d time.Duration) string {
	sign := "+"
	if d < 0 {
		sign, d = "-", -d
	}
	return fmt.Sprintf("%s%d:%02d h", sign, int(d.Hours()), int(d.Minutes())%60)
}
