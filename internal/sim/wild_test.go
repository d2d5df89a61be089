package sim

import (
	"flag"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"
)

var wildSeeds = flag.Int("wild", 0, "how many scenarios TestWild plays (0: 30 with -short and 200 without)")

// wild draws any scenario that may be written: each key is left out, at one end of what is allowed, or anywhere
// between, however little sense it makes. Random draws what a fleet may look like; this what a person may write.
func wild(seed uint64) Scenario {
	c := newChance(seed, "wild")
	// dur draws from lo to hi, small ones as often as large ones, or leaves it out.
	dur := func(lo, hi time.Duration) time.Duration {
		switch c.IntN(10) {
		case 0, 1, 2, 3:
			return 0
		case 4:
			return lo
		case 5:
			return hi
		}
		return time.Duration(float64(lo) * math.Pow(float64(hi)/float64(lo), c.Float64())).Truncate(time.Millisecond)
	}
	some := func(lo, hi time.Duration) time.Duration {
		for {
			if d := dur(lo, hi); d != 0 {
				return d
			}
		}
	}
	s := Scenario{Name: fmt.Sprintf("wild-%d", seed), For: some(30*time.Minute, 30*time.Hour)}
	until := s.For
	s.Fleet = Fleet{Datacenters: c.IntN(4), Racks: c.IntN(5)}
	for i := range 1 + c.IntN(4) {
		t := Type{
			Name: fmt.Sprintf("t%d", i), Hosts: 1 + int(40*math.Pow(c.Float64(), 3)), Workload: []string{"", "web", "db"}[c.IntN(3)],
			Boot: dur(least, time.Hour), Prepare: dur(least, 2*time.Hour), Drain: dur(least, time.Hour), Checks: dur(least, 30*time.Minute),
			Watchdog: dur(least, time.Hour),
		}
		if c.yes(0.2) {
			t.Watchdog = -time.Second
		}
		if c.yes(0.2) {
			t.Unable = c.IntN(t.Hosts + 1)
		}
		switch c.IntN(5) {
		case 0:
			t.Kernel.Boots = []string{BootsAlways, BootsPanic, BootsHang}[c.IntN(3)]
		case 1, 2:
			k := &t.Kernel
			k.CrashEvery, k.HangAfter, k.SlowBoot = dur(least, maxMean), dur(least, maxMean), dur(least, 2*time.Hour)
			k.BootsOneIn = []int{0, 0, 1, 2, 3, 1000}[c.IntN(6)]
			if c.yes(0.3) {
				after := dur(least, 6*time.Hour)
				k.NetworkLostAfter = &after
			}
			k.FailChecks = []float64{0, 0, 0.3, 1}[c.IntN(4)]
			k.WrongRelease = c.yes(0.1)
		}
		s.Fleet.Types = append(s.Fleet.Types, t)
	}
	for _, by := range []string{"type", "label:rack", "label:datacenter", "label:workload"} {
		if c.yes(0.4) {
			s.Budgets = append(s.Budgets, Budget{by, []int{1, 1, 2, 5, 50, maxHosts}[c.IntN(6)]})
		}
	}
	host := func() string {
		t := s.Fleet.Types[c.IntN(len(s.Fleet.Types))]
		return hostName(t.Name, 1+c.IntN(t.Hosts))
	}
	typ := func() string { return s.Fleet.Types[c.IntN(len(s.Fleet.Types))].Name }
	for range 1 + c.IntN(12)/9 {
		r := Rollout{
			Selector: []string{"", "", "", "", "", "", "workload=web", "workload=db", "datacenter=dc-1", "workload=web,datacenter=dc-1"}[c.IntN(10)],
			Waves:    [][]int{nil, {100}, {1, 100}, {50, 51, 99, 100}}[c.IntN(4)], Canaries: []int{0, 1, 2, 10, 100}[c.IntN(5)],
			ReturnWithin: dur(30*time.Second, 3*time.Hour), TrialDeadline: dur(30*time.Second, 3*time.Hour),
		}
		if c.yes(0.3) {
			r.At = c.upTo(until / 4)
		}
		if c.yes(0.9) {
			soak := dur(time.Second, 2*time.Hour)
			r.Soak = &soak
		}
		s.Rollouts = append(s.Rollouts, r)
	}
	for range c.IntN(8) {
		a := Action{At: c.upTo(until), Do: ActionKinds[c.IntN(len(ActionKinds))]}
		k := actionKinds[a.Do]
		if k.rollout {
			a.Rollout = c.IntN(len(s.Rollouts) + 1)
		}
		if c.yes(0.3) {
			a.At = dur(time.Second, until/4)
			a.When = append(slices.Clone(rolloutStatuses), "canaries", "wave 1")[c.IntN(len(rolloutStatuses)+2)]
		}
		if k.host {
			a.Host = host()
		}
		if k.typ {
			a.Type = typ()
		}
		if k.budget {
			a.Budget = Budget{[]string{"type", "label:rack", "label:workload"}[c.IntN(3)], 1 + c.IntN(5)}
			if a.Budget.By != "type" && c.yes(0.3) {
				a.Budget.Limit = 0
			}
		}
		s.Actions = append(s.Actions, a)
	}
	s.Operator = Operator{
		OnPause: append(slices.Clone(onPause), "", OnPauseRandom)[c.IntN(len(onPause)+2)], After: dur(least, 2*time.Hour),
		PowerCycleAfter: dur(least, 2*time.Hour), ResumeRestored: c.yes(0.7),
	}
	s.Control.GrantLife = dur(10*time.Second, time.Hour)
	life := s.Control.GrantLife
	if life == 0 {
		life = 30 * time.Second
	}
	s.Control.OperationPace = dur(100*time.Millisecond, life/4)
	s.Control.IdlePace = dur(time.Second, 10*time.Minute)
	idle := s.Control.IdlePace
	if idle == 0 {
		idle = 30 * time.Second
	}
	s.Control.SilentAfter = dur(2*idle, 24*time.Hour)
	likely := 0.35 * c.Float64() * c.Float64()
	for _, what := range FaultKinds {
		if !c.yes(likely) {
			continue
		}
		f, k := Fault{What: what, At: c.upTo(until / 2), Every: dur(20*time.Second, 6*time.Hour)}, faultKinds[what]
		if k.share != unused {
			f.Share = []float64{0.001, 0.05, 0.3, 0.9, 1}[c.IntN(5)]
		}
		switch {
		case k.clock:
			f.By = some(time.Second, maxClock) * time.Duration(1-2*c.IntN(2))
		case k.by == must || k.by == may && c.yes(0.5):
			f.By = some(time.Millisecond, 24*time.Hour)
		}
		if what == FaultSlowStore {
			f.By = some(time.Millisecond, time.Minute)
		}
		if (what == FaultRestore || what == FaultCloneData) && f.Every > 0 {
			f.By = min(f.By, maxBackups*f.Every)
		}
		if k.lasts == must || k.lasts == may && c.yes(0.7) {
			f.For = some(100*time.Millisecond, 3*time.Hour)
		}
		if k.hosts {
			switch c.IntN(4) {
			case 0:
				f.Host = host()
			case 1:
				f.Types = []string{typ()}
			case 2:
				f.Hosts = 1 + c.IntN(s.Fleet.Types[0].Hosts)
			}
		}
		s.Faults = append(s.Faults, f)
	}
	// What was drawn may be played in a second or in an hour: many check-ins at a short pace are cut short.
	pace := s.Control.OperationPace
	if pace == 0 {
		pace = 2 * time.Second
	}
	hosts := 0
	for _, t := range s.Fleet.Types {
		hosts += t.Hosts
	}
	if most := max(min(idle, 4*pace)*time.Duration(40_000/hosts), 3*time.Hour); s.For > most {
		s = within(s, most)
	}
	return s
}

// within leaves out what happens later.
func within(s Scenario, most time.Duration) Scenario {
	s.For = most
	for i := range s.Rollouts {
		s.Rollouts[i].At = min(s.Rollouts[i].At, most/4)
	}
	s.Actions = slices.DeleteFunc(s.Actions, func(a Action) bool { return a.At >= most })
	s.Faults = slices.DeleteFunc(s.Faults, func(f Fault) bool { return f.At >= most })
	return s
}

// TestWild plays scenarios that no sensible person would write. They are valid: no promise may be broken, and they end.
func TestWild(t *testing.T) {
	n := *wildSeeds
	if n == 0 {
		n = 200
		if testing.Short() {
			n = 30
		}
	}
	statuses := map[string]int{}
	var virtual time.Duration
	n = play(t, "-wild", n, wild, func(s uint64, res Result) {
		for _, r := range res.Rollouts {
			if r.Status == "" {
				r.Status = "refused"
			}
			statuses[r.Status]++
		}
		if res.RealSec > 10 {
			t.Logf("seed %d took %.1f s", s, res.RealSec)
		}
		virtual += res.Virtual
	})
	t.Logf("%d scenarios, %s of virtual time; rollouts: %s", n, virtual.Round(time.Hour), counts(statuses))
}
