package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernwave/kernwave/internal/agent/agenttest"
)

// TestKillBoth has the control plane die again and again at drawn writes, agents at drawn points of their own, and,
// each time that the control plane dies, some agents with it; while every story happens on a few hosts.
func TestKillBoth(t *testing.T) {
	rounds := uint64(1)
	if *killAll {
		rounds = 10
	}
	if testing.Short() {
		t.Skip("one round takes half a minute; the short run kills agents and servers one at a time")
	}
	for seed := *killSeed; seed < *killSeed+rounds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { killBoth(t, seed) })
	}
}

func killBoth(t *testing.T, seed uint64) {
	began := time.Now()
	const hostsOfAStory, agentDeaths, serverDeaths = 4, 3, 12
	var mu sync.Mutex
	rnd := rand.New(rand.NewPCG(seed, 1))
	draw := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return rnd.IntN(n)
	}
	r := newRigOf(t, "faultserver")
	r.addKernel(newRelease)
	r.must("budget", "set", "label:datacenter", fmt.Sprint(budget))
	var hosts []*fake
	of := map[*fake]story{}
	for range hostsOfAStory {
		for _, s := range stories() {
			name := fmt.Sprintf("h%d", len(hosts))
			f := r.install(name, name, s.apps, s.machine)
			deaths := 0
			f.kept = keep(func(bool) *proc {
				if deaths++; deaths > agentDeaths {
					return f.launch()
				}
				when := []string{agenttest.Before, agenttest.Half, agenttest.After}[draw(3)]
				return f.launch("--cut", fmt.Sprintf("%s any %d", when, 1+draw(40)))
			})
			hosts, of[f] = append(hosts, f), s
		}
	}
	r.untilHosts(len(hosts))
	// From here on the server dies, too.
	r.endServer()
	deaths := 0
	r.kept = keep(func(again bool) *proc {
		if again {
			for _, f := range hosts {
				if draw(3) == 0 {
					f.kept.kill()
				}
			}
		}
		deaths++
		args := r.serverArgs()
		if deaths <= serverDeaths {
			args = append(args, "--armed", "--cut", fmt.Sprintf("any %d", 1+draw(60)))
		}
		return startProc(r.t, r.server.out, r.args[0], args...)
	})
	for _, f := range hosts {
		key := fmt.Sprintf("%d-%s", seed, f.name)
		r.until("the rollout of "+f.name+" started", func() bool {
			out, err := r.cli("rollout", "start", newRelease, "-q", "--selector", "workload="+f.name, "--soak", "1s",
				"--waves", "100", "--trial-deadline", "1m", "--idempotency-key", key)
			f.rollout = strings.TrimSpace(out)
			return err == nil
		})
	}
	r.untilEnded(func(f *fake) bool { return of[f].pauses }, hosts)
	x := r.stopAndRead()
	var outs []span
	agents := 0
	for _, f := range hosts {
		wrong, out := f.prove(x, of[f].end(false))
		outs = append(outs, out)
		agents += f.kept.deaths()
		if len(wrong) > 0 {
			t.Errorf("seed %d, %s, %s, killed %d times:\n  %s\n%s", seed, f.name, of[f].name, f.kept.deaths(), strings.Join(wrong, "\n  "), tailOf(f.out.String()))
		}
	}
	if n := most(outs); n > budget {
		t.Errorf("seed %d: %d hosts were out of service at once, the budget is %d", seed, n, budget)
	}
	if agents < len(hosts) || r.kept.deaths() < serverDeaths/2 {
		t.Errorf("seed %d: agents died %d times, the server %d: too few to show anything", seed, agents, r.kept.deaths())
	}
	t.Logf("seed %d: %d hosts, agents died %d times, the server %d times, in %s", seed, len(hosts), agents, r.kept.deaths(), time.Since(began).Round(time.Second))
}
