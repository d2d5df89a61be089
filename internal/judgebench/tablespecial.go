package judgebench

import (
	"fmt"
	"io"
	"slices"
)

var publishedSpecial = map[string]string{
	"leak|0.005":   "spend 66 %, at 5 %/96 49 %; Kayenta 53 %, ratio 9 %",
	"leak|0.02":    "spend 99 %, at 5 %/96 95 %; Kayenta 85 %, ratio 41 %",
	"variance|0.5": "spend 12 %, at 5 %/96 1 %; Kayenta 27 %, ratio 22 %",
	"variance|1":   "spend 36 %, at 5 %/96 5 %; Kayenta 23 %, ratio 28 %",
	"tail|0.3":     "spend 100 %, at 5 %/96 99 %; Kayenta 100 %, ratio 100 %",
}

func (t *Tally) tablePlan(w io.Writer) {
	if t.sum("plan").N == 0 {
		return
	}
	fmt.Fprintf(w, "\n## Planned: margin of %s 5 %%, types of %d hosts with a day of history, changed by 5 %%\n\n", plannedSignal, plannedHosts)
	head(w, "asked for", "types where it can be seen", "canaries, median", "hours, median", "found", "passed at some look")
	for _, name := range []string{"fewest", "4h"} {
		k := key("plan", name)
		p := t.Counts[key(k, "possible")]
		row(w, map[string]string{"fewest": "the fewest canaries", "4h": "4 hours"}[name], fmt.Sprintf("%d of %d", p.K, p.N), fmt.Sprint(t.median(key(k, "canaries"))), fmt.Sprint(t.median(key(k, "hours"))),
			percent(t.Counts[key(k, "found")]), percent(t.Counts[key(k, "pass")]))
	}
}

func (t *Tally) tableSpecial(w io.Writer) {
	judges := []string{"kernwave", "mix", "spend", "Kayenta", "Kayenta, allowed: the margin", "ratio of means, margin"}
	first := true
	for _, s := range specials {
		k := key("special", s.effect.Kind, s.effect.Size)
		if t.sum(k).N == 0 {
			continue
		}
		if first {
			fmt.Fprint(w, "\n## Slow and hidden harm: found within 4 hours, 2, 3 or 5 canaries; as one of 96 cells (as a single one)\n\n")
			head(w, append(append([]string{"regression", "signal"}, judges...), "half found (min)", "published")...)
			first = false
		}
		for i, sig := range append(slices.Clone(s.signals), "") {
			if sig == "" && len(s.signals) < 3 {
				continue
			}
			cells := []string{fmt.Sprintf("%s %g", s.effect.Kind, s.effect.Size), sig}
			parts := []string{sig}
			if sig == "" {
				cells[1], parts = "all", nil
			}
			for _, j := range judges {
				found, single := t.sum(key(k, j), append(parts, "found")...), t.sum(key(k, j), append(parts, "single")...)
				cells = append(cells, percent(found)+" ("+percent(single)+")")
			}
			half := "-"
			if m := t.halfFound(key(k, "kernwave", sig)); m >= 0 && sig != "" {
				half = fmt.Sprint(m)
			}
			pub := ""
			if i == len(s.signals) || len(s.signals) < 3 {
				pub = publishedSpecial[key(s.effect.Kind, s.effect.Size)]
			}
			if s.effect.Kind == Tail && sig == "app_latency_p50" {
				pub = "must not be found"
			}
			row(w, append(cells, half, pub)...)
		}
	}
}

func (t *Tally) tableNuisance(w io.Writer) {
	judges := []string{"kernwave", "mix", "spend", "Kayenta", "Kayenta, allowed: the margin", "ratio of means, margin"}
	first := true
	for _, e := range nuisances {
		k := key("nuisance", e.Kind, e.Size)
		if t.sum(k).N == 0 {
			continue
		}
		if first {
			fmt.Fprint(w, "\n## What must not be called a regression: host types with one (cells with one), of how many host types\n\n")
			head(w, append(append([]string{"nuisance"}, judges...), "of", "kernwave: pass at some look")...)
			first = false
		}
		cells := []string{fmt.Sprintf("%s %g", e.Kind, e.Size)}
		var of int64
		for _, j := range judges {
			types := t.Counts[key(k, j, "type")]
			found := t.sum(key(k, j), "found")
			of = max(of, types.N)
			cells = append(cells, fmt.Sprintf("%d (%d)", types.K, found.K))
		}
		row(w, append(cells, fmt.Sprint(of), percent(t.sum(key(k, "kernwave"), "pass-any")))...)
	}
}
