package sim

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// random draws a scenario: see Random.
func random(seed uint64) Scenario {
	c := newChance(seed, "scenario")
	s := Scenario{Name: fmt.Sprintf("random-%d", seed), About: "drawn at random", For: 5 * time.Hour}
	n := 20 + int(280*math.Pow(c.Float64(), 4)) // half of them below 40
	s.Fleet = Fleet{Datacenters: 1 + c.IntN(3), Racks: 1 + c.IntN(6)}
	types := 1 + c.IntN(min(5, n/8))
	for i := range types {
		t := Type{Name: fmt.Sprintf("%c%d", 'a'+i, i+1), Hosts: n / types, Workload: []string{"web", "db", "cache"}[c.IntN(3)]}
		t.Boot = time.Duration(20+c.IntN(100)) * time.Second
		t.Prepare = time.Duration(5+c.IntN(60)) * time.Second
		if c.yes(0.5) { // long on its way out of service: a stop, a kill, a silence often come in between
			t.Drain = time.Duration(10+c.IntN(110)) * time.Second
		}
		if c.yes(0.15) {
			t.Watchdog = -1
		}
		if c.yes(0.2) {
			t.Unable = c.IntN(3)
		}
		if c.yes(0.45) {
			t.Kernel = randomKernel(c)
		}
		s.Fleet.Types = append(s.Fleet.Types, t)
	}
	s.Budgets = []Budget{{"type", 1 + c.IntN(max(n/types/6, 1))}}
	if c.yes(0.4) {
		s.Budgets = append(s.Budgets, Budget{"label:rack", 1 + c.IntN(3)})
	}
	if c.yes(0.3) {
		s.Budgets = append(s.Budgets, Budget{"label:datacenter", 1 + c.IntN(n/4)})
	}
	idle := time.Duration(90+c.IntN(300)) * time.Second
	s.Control = Control{
		GrantLife: time.Duration(30+c.IntN(60)) * time.Second, IdlePace: idle, SilentAfter: 2*idle + time.Duration(c.IntN(120))*time.Second,
	}
	s.Control.OperationPace = s.Control.GrantLife / time.Duration(4+c.IntN(4))
	soak := time.Duration(c.IntN(20)) * time.Minute
	s.Rollouts = []Rollout{{
		At: 2*idle + time.Minute, Soak: &soak, Canaries: 1 + c.IntN(2),
		ReturnWithin: time.Duration(5+c.IntN(15)) * time.Minute, TrialDeadline: time.Duration(4+c.IntN(8)) * time.Minute,
	}}
	if c.yes(0.5) {
		s.Rollouts[0].Waves = []int{10 + c.IntN(40), 100}
	}
	s.Operator = Operator{OnPause: OnPauseRandom, After: time.Duration(2+c.IntN(15)) * time.Minute, PowerCycleAfter: time.Duration(10+c.IntN(60)) * time.Minute, ResumeRestored: true}
	s.Actions = randomActions(c, s)
	s.Faults = randomFaults(c)
	s.Rollouts = randomRollouts(newChance(seed, "together"), s)
	return s
}

// randomRollouts makes several of the one rollout, in a third of the fleets: one for each datacenter or workload, side by side
// or one after the other, or another one of everything, which is refused while the first is open.
func randomRollouts(c chance, s Scenario) []Rollout {
	first := s.Rollouts[0]
	if !c.yes(0.33) {
		return s.Rollouts
	}
	var selectors []string
	switch c.IntN(5) {
	case 0:
		selectors = []string{"", ""}
	case 1, 2:
		for _, t := range s.Fleet.Types {
			if sel := "workload=" + t.Workload; !slices.Contains(selectors, sel) {
				selectors = append(selectors, sel)
			}
		}
	default:
		for i := range s.Fleet.Datacenters {
			selectors = append(selectors, fmt.Sprintf("datacenter=dc-%d", i+1))
		}
	}
	apart := time.Duration(c.IntN(3)) * 30 * time.Minute
	var rs []Rollout
	for _, sel := range selectors {
		r := first
		r.Selector = sel
		r.At += c.upTo(apart)
		rs = append(rs, r)
	}
	return rs
}

// randomKernel draws one way, seldom two, in which a kernel is bad.
func randomKernel(c chance) KernelFault {
	var f KernelFault
	for range 1 + c.IntN(8)/7 {
		switch c.IntN(9) {
		case 0:
			return KernelFault{Boots: "panic"}
		case 1:
			return KernelFault{Boots: "hang"}
		case 2:
			f.BootsOneIn = 2 + c.IntN(3)
		case 3:
			f.CrashEvery = time.Duration(5+c.IntN(300)) * time.Minute
		case 4:
			f.HangAfter = time.Duration(5+c.IntN(300)) * time.Minute
		case 5:
			after := time.Duration(c.IntN(3)) * time.Minute
			f.NetworkLostAfter = &after
		case 6:
			f.FailChecks = 0.1 + 0.9*c.Float64()
		case 7:
			f.SlowBoot = time.Duration(1+c.IntN(14)) * time.Minute
		case 8:
			f.WrongRelease = true
		}
	}
	return f
}

func randomActions(c chance, s Scenario) (as []Action) {
	at := func() time.Duration { return s.Rollouts[0].At + c.upTo(2*time.Hour) }
	host := func() string {
		t := s.Fleet.Types[c.IntN(len(s.Fleet.Types))]
		return fmt.Sprintf("%s-%04d", t.Name, 1+c.IntN(t.Hosts))
	}
	for range c.IntN(4) { // several: each is a moment at which a host may be about to reboot
		t := at()
		as = append(as, Action{At: t, Do: DoPause}, Action{At: t + c.upTo(20*time.Minute), Do: DoResume})
	}
	if c.yes(0.3) {
		t := at()
		as = append(as, Action{At: t, Do: DoStop}, Action{At: t + c.upTo(20*time.Minute), Do: DoLift})
	}
	if c.yes(0.4) {
		t, h := at(), host()
		as = append(as, Action{At: t, Do: DoMaintenance, Host: h}, Action{At: t + c.upTo(time.Hour), Do: DoActivate, Host: h})
	}
	if c.yes(0.1) {
		as = append(as, Action{At: at(), Do: DoRetire, Host: host()})
	}
	if c.yes(0.15) {
		as = append(as, Action{At: at(), Do: []string{DoAbort, DoRollback}[c.IntN(2)]})
	}
	if c.yes(0.2) {
		as = append(as, Action{At: at(), Do: DoBudget, Budget: Budget{"type", 1 + c.IntN(4)}})
	}
	return as
}

// randomFaults draws which faults there are and how often. Each kind is in most scenarios, but seldom all at once: a
// fleet on which nothing works shows little.
func randomFaults(c chance) (fs []Fault) {
	minutes := func(n int) time.Duration { return time.Duration(1+c.IntN(n)) * time.Minute }
	add := func(p float64, f Fault) {
		if c.yes(p) {
			f.At = c.upTo(40 * time.Minute)
			fs = append(fs, f)
		}
	}
	add(0.6, Fault{What: FaultLose, Share: 0.1 * c.Float64()})
	add(0.5, Fault{What: FaultDelay, Share: 0.2 * c.Float64(), By: time.Duration(1+c.IntN(30)) * time.Second})
	add(0.6, Fault{What: FaultRepeat, Share: 0.3 * c.Float64(), By: minutes(30)})
	add(0.6, Fault{What: FaultSilent, Every: minutes(60), For: minutes(30), Hosts: 1 + c.IntN(3)})
	add(0.4, Fault{What: FaultPowerCut, Every: minutes(90)})
	add(0.3, Fault{What: FaultCrash, Every: minutes(120)})
	add(0.2, Fault{What: FaultHang, Every: minutes(240)})
	add(0.2, Fault{What: FaultDie, Every: minutes(240)})
	add(0.4, Fault{What: FaultKillAgent, Every: minutes(30)})
	add(0.3, Fault{What: FaultUnready, Every: minutes(90), For: minutes(20)})
	add(0.3, Fault{What: FaultDrainFails, Every: minutes(60), For: minutes(20)})
	add(0.3, Fault{What: FaultClock, Every: minutes(60), By: time.Duration(1-2*c.IntN(2)) * time.Duration(1+c.IntN(400)) * 24 * time.Hour, Hosts: 1 + c.IntN(4)})
	add(0.7, Fault{What: FaultKill, Every: minutes(40), For: time.Duration(c.IntN(120)) * time.Second})
	add(0.3, Fault{What: FaultSlowStore, Every: minutes(90), For: minutes(5), By: time.Duration(10+c.IntN(1500)) * time.Millisecond})
	add(0.3, Fault{What: FaultFailingStore, Every: minutes(90), For: minutes(5), Share: 0.5 * c.Float64()})
	add(0.3, Fault{What: FaultTwoLeaders, Every: minutes(120), For: minutes(4)})
	add(0.25, Fault{What: FaultRestore, By: minutes(60), For: minutes(5)})
	add(0.2, Fault{What: FaultCloneData, By: minutes(60), For: minutes(20)})
	add(0.2, Fault{What: FaultCloneImage})
	add(0.15, Fault{What: FaultOldDisk, By: minutes(60)})
	return fs
}
