package judgebench

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options say how much of a part is played, and where it begins.
type Options struct {
	Seed    uint64
	From, N int           // rollouts From to From+N-1
	Every   time.Duration // between the looks of part aa; 0: a minute
	Workers int           // 0: one per processor. Figures do not depend on it
	Only    []string      // judges by name; nil: all of the part
}

// part plays one rollout with judges of its own and counts.
type part func(t *Tally, rollout int)

// Parts are what can be played, by name, with what it is about.
var Parts = []struct{ Name, About string }{
	{"aa", "unchanged rollouts, a look a minute for 4 hours: our judge"},
	{"rivals", "unchanged rollouts: every rival"},
	{"aa-uneasy", "as aa, of hosts whose noise comes and goes: the far tail is that of published servers"},
	{"rivals-uneasy", "as rivals, of such hosts: those that compare hosts"},
	{"power", "changes of the level by size, canaries and hours, beside the oracle"},
	{"mde", "changes as large as the smallest that the judge says it would find"},
	{"plan", "changes as large as the margin, with the canaries and hours that planning asks for"},
	{"special", "leak, variance, tail"},
	{"nuisance", "what must not be called a regression, or a pass"},
}

// Run plays a part.
func Run(name string, o Options) (*Tally, error) {
	var open func(worker int) part
	switch name {
	case "aa", "aa-uneasy":
		open = func(int) part { return unchanged(name, o, []Judge{&ours{fast: true}}) }
	case "rivals":
		open = func(int) part { return unchanged(name, o, append(newPooled(), newHostLevel()...)) }
	case "rivals-uneasy":
		open = func(int) part { return unchanged(name, o, newHostLevel()) }
	case "power":
		open = func(int) part { return power(o) }
	case "mde":
		open = func(int) part { return honesty(o) }
	case "plan":
		open = func(int) part { return planned(o) }
	case "special":
		open = func(int) part { return special(o) }
	case "nuisance":
		open = func(int) part { return nuisance(o) }
	default:
		return nil, fmt.Errorf("there is no part %s", name)
	}
	workers := o.Workers
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	tallies := make([]*Tally, o.N)
	next := make(chan int)
	var wg sync.WaitGroup
	for w := range min(workers, max(1, o.N)) {
		wg.Go(func() {
			play := open(w)
			for i := range next {
				tallies[i] = newTally()
				play(tallies[i], o.From+i)
			}
		})
	}
	for i := range o.N {
		next <- i
	}
	close(next)
	wg.Wait()
	sum := newTally()
	for _, t := range tallies {
		sum.Add(t)
	}
	return sum, nil
}

func (o Options) wants(j Judge) bool { return o.Only == nil || slices.Contains(o.Only, j.Name()) }

// unchanged plays rollouts in which nothing changes.
func unchanged(name string, o Options, judges []Judge) part {
	spec := Spec{Uneasy: strings.HasSuffix(name, "-uneasy")}
	if o.Every > 0 {
		spec.Looks = Every(o.Every, 4*time.Hour)
		name = fmt.Sprintf("%s, a look every %.0f min", name, o.Every.Minutes())
	}
	m := NewMaker(spec, o.Seed)
	return func(t *Tally, rollout int) {
		for j := range m.Spec().Types {
			typ := m.Type(rollout, j)
			for _, jd := range judges {
				if o.wants(jd) {
					jd.See(typ, nil)
				}
			}
		}
		for _, jd := range judges {
			if o.wants(jd) {
				t.unchanged(key(name, jd.Name()), jd.Decide(false), m, rollout)
			}
		}
	}
}

// oneLook are the levels at which the p-value of the last look alone is counted.
var oneLook = []float64{0.05, 0.01, 0.002, 0.0005}

func (t *Tally) unchanged(k string, seen [][]Seen, m *Maker, rollout int) {
	any := false
	for j, cells := range seen {
		treated := m.treated(rollout, j)
		for i, s := range cells {
			sig := m.Spec().Signals[i]
			any = any || s.Found >= 0
			t.count(key(k, "found", sig, treated), s.Found >= 0)
			t.count(key(k, "single", sig, treated), s.Single)
			t.count(key(k, "now", sig, treated), s.Now <= 0.05)
			for _, level := range oneLook {
				t.count(key(k, "one-look", level), s.Now <= level)
			}
			t.count(key(k, "pass", sig, treated), s.Pass)
			t.count(key(k, "cover-last", sig, treated), s.CoverLast)
			t.count(key(k, "cover-all", sig, treated), s.CoverAll)
		}
	}
	t.count(key(k, "rollouts"), any)
}

// treated is how many hosts of a type are treated.
func (m *Maker) treated(rollout, j int) int {
	d := &dice{src: stream(m.seed, uint64(rollout), uint64(j), forType)}
	return m.spec.Treated[d.below(len(m.spec.Treated))]
}
