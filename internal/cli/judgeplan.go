package cli

import (
	"fmt"
	"math"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/kernwave/kernwave/internal/judgecase"
	"github.com/kernwave/kernwave/judge"
)

func (a *app) judgePlanCommand() *cobra.Command {
	var history string
	var cells int
	cmd := &cobra.Command{
		Use: "plan --history FILE", Short: "how many canaries and hours a change needs to be seen",
		Long: `Reads the history of host types, as cases whose arms, t0 and looks are ignored, and forecasts for each signal with how
many canaries and hours a change as large as its margin would be found with a probability of 80 %. Changes are imagined
at many times of the history, so it must be one in which nothing changed. Where a type is too small, it says
what cannot be seen there. Hours count from when the hosts have settled, 15 minutes after their reboot.`,
		Example: `  kernwave judge plan --history last-week.ndjson.gz
  kernwave judge plan --history last-week.ndjson.gz --signals 320 -o json`,
		Args: arguments(),
		RunE: func(*cobra.Command, []string) error {
			if history == "" {
				return &usageError{"judge plan needs --history", "name a file of cases, or - for the standard input"}
			}
			if cells < 0 {
				return &usageError{fmt.Sprintf("--signals %d is not allowed", cells), "use 1 or more"}
			}
			in, err := a.openCases(history)
			if err != nil {
				return err
			}
			defer in.Close()
			plans, err := judgecase.Plan(in, cells)
			if err != nil {
				return &advised{fmt.Errorf("%s: %w", in.name, plainPathError(err)), "mend the line: a plan from half of the types would promise too much"}
			}
			if a.json() {
				return printJSON(a.Out, "judge_plan", map[string]any{"types": plansJSON(plans)})
			}
			return a.printPlans(plans)
		},
	}
	cmd.Flags().StringVar(&history, "history", "", "`FILE` of cases, also compressed with gzip; - is the standard input")
	cmd.Flags().IntVar(&cells, "signals", 0, "how `MANY` signals of all types the rollout will judge together (default: those of the file)")
	completeFiles(cmd, "history")
	return cmd
}

type hoursJSON struct {
	Hours    *float64 `json:"hours"`
	Canaries *int     `json:"canaries"` // null: no number is enough
	MDE      *float64 `json:"mde_rel"`
}

func plansJSON(plans []judgecase.TypePlan) any {
	type signal struct {
		Signal  string      `json:"signal"`
		Margin  float64     `json:"margin_rel"`
		Best    *hoursJSON  `json:"best"`
		ByHours []hoursJSON `json:"by_hours"`
		Cannot  string      `json:"cannot,omitempty"`
	}
	type hostType struct {
		Case     string   `json:"case"`
		HostType string   `json:"host_type"`
		Hosts    int      `json:"hosts"`
		Hours    *float64 `json:"history_hours"`
		Signals  []signal `json:"signals"`
	}
	one := func(h judge.HoursForecast) hoursJSON {
		out := hoursJSON{Hours: judgecase.Rounded(h.Hours), MDE: judgecase.Rounded(h.MDE)}
		if h.Canaries > 0 {
			out.Canaries = &h.Canaries
		}
		return out
	}
	out := []hostType{}
	for _, p := range plans {
		t := hostType{p.Case, p.HostType, p.Hosts, judgecase.Rounded(p.Hours), []signal{}}
		for _, f := range p.Signals {
			s := signal{Signal: f.Signal, Margin: f.Margin, Cannot: f.Cannot, ByHours: []hoursJSON{}}
			for _, h := range f.ByHours {
				s.ByHours = append(s.ByHours, one(h))
			}
			if f.Best != nil {
				b := one(*f.Best)
				s.Best = &b
			}
			t.Signals = append(t.Signals, s)
		}
		out = append(out, t)
	}
	return out
}

// planColumns are the lengths of the after that the table shows.
var planColumns = [...]float64{1, 4, 12, 24}

func (a *app) printPlans(plans []judgecase.TypePlan) error {
	p := a.paletteFor(a.Out)
	t := &table{head: []string{"HOST TYPE", "HOSTS", "SIGNAL", "MARGIN"}, shrink: []int{0, 2}, prose: true}
	for _, h := range planColumns {
		t.head = append(t.head, fmt.Sprintf("IN %g H", h))
	}
	t.head = append(t.head, "NOT TO BE SEEN")
	for _, plan := range plans {
		for _, f := range plan.Signals {
			cells := []string{clean(plan.HostType), strconv.Itoa(plan.Hosts), clean(f.Signal), percentText(f.Margin)}
			for _, h := range planColumns {
				cells = append(cells, canariesText(p, f, h))
			}
			t.add(append(cells, clean(f.Cannot))...)
		}
	}
	if err := a.printList(t); err != nil {
		return err
	}
	a.note("IN 4 H: so many canaries find the margin in four hours, four times out of five; in brackets what the most canaries find where none are enough; -: the history is too short to say (it must be twice as long)", "")
	return nil
}

func canariesText(p palette, f judge.Forecast, hours float64) string {
	for _, h := range f.ByHours {
		switch {
		case h.Hours != hours:
		case h.Canaries > 0:
			return p.good(strconv.Itoa(h.Canaries))
		case math.IsInf(h.MDE, 1):
			return p.warn("(none)")
		default:
			return p.warn("(" + percentText(h.MDE) + ")")
		}
	}
	return "-"
}
