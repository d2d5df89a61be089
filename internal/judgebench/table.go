package judgebench

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// ReadTallies adds up files of tallies.
func ReadTallies(files []string) (*Tally, error) {
	sum := newTally()
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		t, err := ReadTally(bufio.NewReader(f))
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		sum.Add(t)
	}
	return sum, nil
}

// Table prints what was counted as tables of Markdown, each beside the published figure where there is one.
func (t *Tally) Table(w io.Writer) error {
	b := bufio.NewWriter(w)
	t.tableUnchanged(b)
	t.tablePower(b)
	t.tableMDE(b)
	t.tablePlan(b)
	t.tableSpecial(b)
	t.tableNuisance(b)
	return b.Flush()
}

// sum adds the counts under all keys that begin with head and have all of the parts.
func (t *Tally) sum(head string, parts ...string) Count {
	var c Count
	for k, v := range t.Counts {
		if !strings.HasPrefix(k, head+"|") {
			continue
		}
		own := strings.Split(k[len(head)+1:], "|")
		if !slices.ContainsFunc(parts, func(p string) bool { return !slices.Contains(own, p) }) {
			c.K, c.N = c.K+v.K, c.N+v.N
		}
	}
	return c
}

func percent(c Count) string {
	switch {
	case c.N == 0:
		return "-"
	case c.K == 0:
		return "0"
	case c.Rate() < 0.01:
		return fmt.Sprintf("%.2f %%", 100*c.Rate())
	}
	return fmt.Sprintf("%.1f %%", 100*c.Rate())
}

func row(w io.Writer, cells ...string) {
	fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
}

func head(w io.Writer, cells ...string) {
	row(w, cells...)
	row(w, slices.Repeat([]string{"---"}, len(cells))...)
}

// published are the figures of the table of unchanged rollouts of the published measurements: per cell at the last
// look, at any look, and rollouts with a false alarm.
var published = map[string][3]string{
	"Kayenta":                                {"33.0 %", "34.3 %", "100 % (30/30)"},
	"Kayenta, as many controls as canaries":  {"36.4 %", "37.4 %", "100 %"},
	"Kayenta, allowed: the margin":           {"12.2 %", "13.9 %", "100 %"},
	"ratio of means, margin":                 {"12.2 %", "18.4 %", "100 %"},
	"ratio of means, 2 x margin":             {"2.9 %", "5.2 %", "98-100 %"},
	"ratio of means, last 5 min, 3 in a row": {"16.2 %", "26.2 %", "100 %"},
	fixedName:                                {"4.0 %", "12.3 %", "42 % (71/170)"},
	"spend":                                  {"1.3 %", "1.3 %", "7.1 % (12/170)"},
	"mix":                                    {"0.7 %", "0.7 %", "2.4 % (4/170)"},
}

// judgesOf are the judges that a part has counts of, ours first.
func (t *Tally) judgesOf(part string) []string {
	var out []string
	for k := range t.Counts {
		if f := strings.Split(k, "|"); f[0] == part && len(f) > 2 {
			out = append(out, f[1])
		}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	if i := slices.Index(out, "kernwave"); i > 0 {
		out = slices.Insert(slices.Delete(out, i, i+1), 0, "kernwave")
	}
	return out
}

func (t *Tally) tableUnchanged(w io.Writer) {
	var parts []string
	for k := range t.Counts {
		if p := strings.Split(k, "|")[0]; strings.HasPrefix(p, "aa") || strings.HasPrefix(p, "rivals") {
			parts = append(parts, p)
		}
	}
	slices.Sort(parts)
	for _, part := range slices.Compact(parts) {
		judges := t.judgesOf(part)
		if len(judges) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n## Nothing changed (%s)\n\nWrong per cell: at a single-cell level of 5 %%.\n\n", part)
		head(w, "judge", "wrong per cell, last look", "published", "any look", "published", "rollouts with a false regression", "at most (95 %, one-sided)", "published",
			"covered, last look", "covered, all looks", "pass at the end")
		for _, j := range judges {
			k := key(part, j)
			r := t.Counts[key(k, "rollouts")]
			last := t.sum(key(k, "now"))
			cover := []string{percent(t.sum(key(k, "cover-last"))), percent(t.sum(key(k, "cover-all")))}
			if pooledName(j) {
				cover = []string{"no interval", ""}
			}
			p := published[j]
			row(w, j, percent(last), p[0], percent(t.sum(key(k, "single"))), p[1], fmt.Sprintf("%s (%d/%d)", percent(r), r.K, r.N),
				fmt.Sprintf("%.1f %%", 100*r.Upper()), p[2], cover[0], cover[1], percent(t.sum(key(k, "pass"))))
		}
		t.tableOneLook(w, part)
		t.tableStrata(w, part)
	}
}

// fixedName is the rival whose p-value is right at one look.
const fixedName = "host t, BH, no peeking correction"

// publishedOneLook is how often the p-value of a fixed time was at most each of oneLook, against that level.
var publishedOneLook = []string{"0.8", "0.9", "0.8", "about 1.5"}

// tableOneLook says how far into its tail the p-value of the last look alone is right.
func (t *Tally) tableOneLook(w io.Writer, part string) {
	if t.Counts[key(part, fixedName, "one-look", oneLook[0])].N == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s at the last look alone: how often its p-value is at most so much, against that\n\n", fixedName)
	names, here, there := []string{"p-value"}, []string{"here"}, []string{"published"}
	for i, level := range oneLook {
		names = append(names, strconv.FormatFloat(level, 'g', -1, 64))
		here = append(here, number(t.Counts[key(part, fixedName, "one-look", level)].Rate()/level))
		there = append(there, publishedOneLook[i])
	}
	head(w, names...)
	row(w, here...)
	row(w, there...)
}

// tableStrata says of each signal and number of canaries how often our intervals were right at all looks, and how
// many cells passed.
func (t *Tally) tableStrata(w io.Writer, part string) {
	for _, j := range t.judgesOf(part) {
		if j != "kernwave" && j != "mix" {
			continue
		}
		fmt.Fprintf(w, "\n%s: covered at all looks, and passed at the end\n\n", j)
		head(w, "signal", "2 treated", "3", "5", "false, single cell", "false, in the family")
		for _, p := range Profiles {
			cells := []string{p.Name}
			for _, n := range []string{"2", "3", "5"} {
				cells = append(cells, percent(t.sum(key(part, j, "cover-all", p.Name), n))+", "+percent(t.sum(key(part, j, "pass", p.Name), n)))
			}
			cells = append(cells, percent(t.sum(key(part, j, "single", p.Name))), percent(t.sum(key(part, j, "found", p.Name))))
			row(w, cells...)
		}
	}
}

// pooledName says whether a judge is one that knows alarms only.
func pooledName(name string) bool {
	return slices.ContainsFunc(newPooled(), func(j Judge) bool { return j.Name() == name })
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) }
