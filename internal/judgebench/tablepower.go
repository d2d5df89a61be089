package judgebench

import (
	"fmt"
	"io"
	"math"
)

// publishedPower is the published mean power over 8 signals: mix and oracle after 1, 4 and 24 hours.
var publishedPower = map[string][6]string{
	"2|0.05":  {".15", ".31", ".26", ".41", ".30", ".51"},
	"2|0.1":   {".28", ".52", ".39", ".65", ".50", ".77"},
	"2|0.25":  {".49", ".84", ".71", ".90", ".81", ".92"},
	"3|0.02":  {".10", ".19", ".15", ".24", ".19", ".33"},
	"3|0.05":  {".19", ".42", ".36", ".56", ".44", ".69"},
	"3|0.1":   {".40", ".67", ".57", ".81", ".71", ".84"},
	"3|0.25":  {".62", ".87", ".84", ".91", ".86", ".95"},
	"5|0.02":  {".09", ".21", ".19", ".27", ".26", ".41"},
	"5|0.05":  {".23", ".46", ".36", ".63", ".49", ".72"},
	"5|0.1":   {".40", ".77", ".66", ".85", ".82", ".88"},
	"10|0.01": {".05", ".16", ".11", ".21", ".19", ".27"},
	"10|0.05": {".29", ".53", ".49", ".72", ".62", ".83"},
	"10|0.1":  {".60", ".84", ".80", ".90", ".85", ".92"},
	"50|0.01": {".12", ".30", ".22", ".37", ".28", ".53"},
	"50|0.02": {".28", ".54", ".50", ".66", ".75", ".82"},
	"50|0.05": {".75", ".86", ".88", ".87", ".88", ".92"},
}

// meanPower is the mean over signals of what was found by a minute.
func (t *Tally) meanPower(judge string, n int, size float64, minute int) (mean float64, ok bool) {
	sum := 0.0
	for _, p := range Profiles {
		var v float64
		if judge == "oracle" {
			vs := t.Values[key("oracle", "power", n, size, minute, p.Name)]
			if len(vs) == 0 {
				return 0, false
			}
			for _, x := range vs {
				v += x / float64(len(vs))
			}
		} else {
			c := t.foundBy(key("power", judge, n, size, p.Name), minute)
			if c.N == 0 {
				return 0, false
			}
			v = c.Rate()
		}
		sum += v / float64(len(Profiles))
	}
	return sum, true
}

func (t *Tally) tablePower(w io.Writer) {
	if len(t.judgesOf("power")) == 0 {
		return
	}
	fmt.Fprint(w, "\n## Power: found by then, decided as one of 96 cells, mean over the signals\n\n")
	head(w, "canaries", "size", "hours", "kernwave", "mix", "spend", "oracle", "published mix / oracle", "half found: kernwave, mix (min)")
	for _, n := range powerTreated {
		for _, size := range powerSizes[n] {
			for l, minute := range powerMinutes {
				if _, ok := t.meanPower("oracle", n, size, minute); !ok {
					continue
				}
				cells := []string{fmt.Sprint(n), fmt.Sprintf("+%.0f %%", 100*size), fmt.Sprint(minute / 60)}
				for _, j := range []string{"kernwave", "mix", "spend", "oracle"} {
					v, ok := t.meanPower(j, n, size, minute)
					if !ok {
						cells = append(cells, "-")
					} else {
						cells = append(cells, number(v))
					}
				}
				p, ok := publishedPower[key(n, size)]
				if ok {
					cells = append(cells, p[2*l]+" / "+p[2*l+1])
				} else {
					cells = append(cells, "")
				}
				half := ""
				if l == 0 {
					half = t.half("kernwave", n, size) + ", " + t.half("mix", n, size)
				}
				row(w, append(cells, half)...)
			}
		}
	}
	fmt.Fprint(w, "\nPower at +10 %, 3 canaries, 4 hours, by signal\n\n")
	head(w, "signal", "kernwave", "mix", "oracle")
	for _, p := range Profiles {
		o, vs := 0.0, t.Values[key("oracle", "power", 3, 0.1, 240, p.Name)]
		for _, v := range vs {
			o += v / float64(len(vs))
		}
		row(w, p.Name, percent(t.foundBy(key("power", "kernwave", 3, 0.1, p.Name), 240)), percent(t.foundBy(key("power", "mix", 3, 0.1, p.Name), 240)), number(100*o)+" %")
	}
	fmt.Fprint(w, "\n")
	head(w, "judge", "wrong pass, last look", "wrong pass, any look", "found when as large as the stated MDE", "covered at all looks")
	for _, j := range []string{"kernwave", "mix", "spend"} {
		k := key("power", j)
		honest := t.Counts[key(k, "honest")]
		row(w, j, percent(t.Counts[key(k, "wrong-pass-last")]), percent(t.Counts[key(k, "wrong-pass-any")]),
			fmt.Sprintf("%d/%d", honest.K, honest.N), percent(t.sum(k, "cover-all")))
	}
}

// half is when half of all cells were found.
func (t *Tally) half(judge string, n int, size float64) string {
	all := map[int]int64{}
	for _, p := range Profiles {
		for m, c := range t.Times[key("power", judge, n, size, p.Name)] {
			all[m] += c
		}
	}
	sum := &Tally{Times: map[string]map[int]int64{"": all}}
	if m := sum.halfFound(""); m >= 0 && len(all) > 0 {
		return fmt.Sprint(m)
	}
	return "-"
}

// publishedMDE is the published smallest effect found with 80 % probability after 4 hours, in percent: of spend, of the
// oracle at 96 cells, of the oracle with one cell; for 2, 3, 5, 10 and 50 canaries.
var publishedMDE = map[string][5]string{
	"cpu_util":        {"26 (15) [8.7]", "14 (8.6) [5.1]", "8.6 (4.9) [2.9]", "9.2 (5.7) [3.4]", "4.4 (2.7) [1.6]"},
	"mem_psi_some":    {"138 (53) [29]", "136 (44) [25]", "47 (24) [14]", "33 (22) [13]", "19 (13) [7.6]"},
	"mem_used":        {"1.5 (0.9) [0.5]", "1.9 (1.0) [0.6]", "0.9 (0.4) [0.3]", "0.5 (0.4) [0.2]", "0.2 (0.1) [0.1]"},
	"io_latency_ms":   {"25 (12) [6.8]", "16 (10) [5.9]", "16 (9.8) [5.8]", "8.2 (5.6) [3.3]", "5.2 (3.6) [2.1]"},
	"net_throughput":  {"27 (12) [7.0]", "8.3 (5.5) [3.3]", "14 (6.7) [4.0]", "8.3 (5.2) [3.1]", "2.6 (1.8) [1.1]"},
	"app_error_rate":  {"13 (6.1) [3.6]", "10 (6.4) [3.8]", "6.4 (4.0) [2.4]", "5.0 (3.4) [2.0]", "2.0 (1.3) [0.8]"},
	"app_latency_p50": {"3.0 (1.7) [1.0]", "3.6 (2.1) [1.3]", "3.1 (1.9) [1.1]", "1.5 (1.0) [0.6]", "0.7 (0.5) [0.3]"},
	"app_latency_p99": {"26 (11) [6.5]", "12 (6.2) [3.7]", "9.5 (5.0) [3.0]", "5.6 (3.7) [2.2]", "2.9 (2.0) [1.2]"},
}

func (t *Tally) tableMDE(w io.Writer) {
	if len(t.judgesOf("power")) > 0 {
		fmt.Fprint(w, "\n## Smallest effect found with 80 % probability after 4 hours, percent, median of types: kernwave says so after 24 h {}, oracle (96 cells) [one cell]; below: published spend (oracle) [one cell]\n\n")
		head(w, "signal", "2 canaries", "3", "5", "10", "50")
		for _, p := range Profiles {
			own := []string{p.Name}
			for _, n := range powerTreated {
				own = append(own, fmt.Sprintf("{%s} (%s) [%s]", short(t.median(key("power", "kernwave", "mde", n, p.Name))),
					short(t.median(key("oracle", "mde-96", n, p.Name, 240))), short(t.median(key("oracle", "mde-1", n, p.Name, 240)))))
			}
			row(w, own...)
			pub := publishedMDE[p.Name]
			row(w, append([]string{"published"}, pub[:]...)...)
		}
	}
	if len(t.judgesOf("mde")) == 0 {
		return
	}
	fmt.Fprint(w, "\n## A change as large as the smallest that the judge says it would find in 80 % after 4 hours: found\n\n")
	head(w, "judge", "all", "3 canaries", "5", "10")
	for _, j := range t.judgesOf("mde") {
		row(w, j, percent(t.sum(key("mde", j))), percent(t.sum(key("mde", j, 3))), percent(t.sum(key("mde", j, 5))), percent(t.sum(key("mde", j, 10))))
	}
}

func short(v float64) string {
	switch {
	case math.IsNaN(v):
		return "-"
	case math.IsInf(v, 0):
		return "none"
	case v < 0.1:
		return fmt.Sprintf("%.1f", 100*v)
	}
	return fmt.Sprintf("%.0f", 100*v)
}
