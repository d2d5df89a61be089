package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent/agenttest"
)

var (
	killAll  = flag.Bool("kill.all", false, "kill tests: take every point of every story, instead of every point of the good update and some of the rest")
	killSeed = flag.Uint64("kill.seed", 1, "kill tests: which points are taken where not all are")
)

const (
	// budget is how many hosts may be out of service at once in the kill tests; abreast how many are there at all.
	budget, abreast = 10, 30
	// sampled is how many points of a story are taken where not all are.
	sampled = 24
)

// story is one way that an operation can go.
type story struct {
	name    string
	machine func(*agenttest.Machine)
	apps    map[string]string
	ends    []fleet.Phase
	boots   int
	pauses  bool // the rollout is paused while the host drains
}

// stories are the ways that are killed. In a killed one, too, only an agent that lost its machine's power may end in
// another way than it would have.
func stories() []story {
	return []story{
		{name: "good", ends: []fleet.Phase{fleet.PhaseCommitted}, boots: 2},
		{name: "panic", ends: []fleet.Phase{fleet.PhaseFellBack}, boots: 3, machine: func(m *agenttest.Machine) {
			m.Kernels = map[string]agenttest.Behaviour{newRelease: {Panic: "Kernel panic - not syncing: no root"}}
		}},
		{name: "failed-check", ends: []fleet.Phase{fleet.PhaseReverted}, boots: 3, apps: map[string]string{
			"10-check.yaml": "check: {argv: ['false']}\n",
		}},
		{name: "cancelled", ends: []fleet.Phase{fleet.PhaseCancelled}, boots: 1, pauses: true, apps: map[string]string{
			"10-slow.yaml": "drain: {argv: [sh, -c, 'while ! test -e ROOT/let-go; do sleep 0.1; done'], timeout: 5m}\nundrain: {argv: ['true']}\n",
		}},
	}
}

func (s story) maySkip(t *testing.T) {
	if testing.Short() && s.name != "good" {
		t.Skip("the short run kills in the good update only")
	}
}

// release is what a host runs after its operation.
var release = map[fleet.Phase]string{
	fleet.PhaseCommitted: newRelease, fleet.PhaseReverted: oldRelease, fleet.PhaseFellBack: oldRelease,
	fleet.PhaseCancelled: oldRelease, fleet.PhaseFailed: oldRelease, fleet.PhaseRefused: oldRelease,
}

func (s story) end(power bool) end {
	e := end{phases: s.ends, release: release, boots: s.boots, power: power}
	if power { // it may have cost the operation, which is then said, and a boot
		e.boots++
		e.phases = append(slices.Clone(s.ends), fleet.PhaseFailed, fleet.PhaseFellBack, fleet.PhaseReverted, fleet.PhaseCancelled)
	}
	return e
}

// death is how one host's agent is killed.
type death struct {
	cut   agenttest.Cut
	power bool
}

func (d death) String() string {
	if d.power {
		return d.cut.String() + ", with the power"
	}
	return d.cut.String()
}

// deaths are all that there are at the points of a story.
func deaths(points []agenttest.Point) (out []death) {
	for _, p := range points {
		out = append(out, death{agenttest.Cut{When: agenttest.Before, Point: p}, false},
			death{agenttest.Cut{When: agenttest.After, Point: p}, false}, death{agenttest.Cut{When: agenttest.After, Point: p}, true})
		if strings.HasPrefix(p.What, "write ") {
			out = append(out, death{agenttest.Cut{When: agenttest.Half, Point: p}, false}, death{agenttest.Cut{When: agenttest.Half, Point: p}, true})
		}
	}
	return out
}

// TestKillTheAgent ends the agent's process with kill -9 before, after and in the middle of each thing that it does to
// its disk and its machine in a whole operation, its own enrolment included, with and without the machine's power;
// and starts it again, as systemd would.
func TestKillTheAgent(t *testing.T) {
	for _, s := range stories() {
		t.Run(s.name, func(t *testing.T) {
			s.maySkip(t)
			began := time.Now()
			points := countAgentPoints(t, s)
			all := deaths(points)
			take := sample(all, s.name == "good")
			for chunk := range slices.Chunk(take, abreast) {
				killAgents(t, s, chunk)
				if t.Failed() {
					break
				}
			}
			t.Logf("%s: %d points, %d of %d ways to die at them, in %s", s.name, len(points), len(take), len(all), time.Since(began).Round(time.Second))
		})
	}
}

// sample takes all, or, of the stories that are not killed at each point each time, what the seed says.
func sample[T any](all []T, important bool) []T {
	r := rand.New(rand.NewPCG(*killSeed, 0))
	n := sampled
	switch {
	case *killAll:
		return all
	case testing.Short():
		n = 8
	case important:
		return all
	}
	var out []T
	for _, i := range r.Perm(len(all))[:min(n, len(all))] {
		out = append(out, all[i])
	}
	return out
}

// countAgentPoints lets a story happen without a death and lists what the agent did.
func countAgentPoints(t *testing.T, s story) (points []agenttest.Point) {
	t.Helper()
	f := killAgents(t, s, []death{{}})[0]
	if t.Failed() {
		t.FailNow()
	}
	data, err := os.ReadFile(f.pointsFile())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		p, err := agenttest.ParsePoint(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		points = append(points, p)
	}
	if len(points) < 30 {
		t.Fatalf("a whole operation passes %d points only: this test looks at nothing", len(points))
	}
	return points
}

func (f *fake) pointsFile() string { return filepath.Join(f.root, "points") }

// killAgents lets the story happen on one host for each death, all at once, under one budget, and proves what came
// of it.
func killAgents(t *testing.T, s story, ds []death) (hosts []*fake) {
	t.Helper()
	r := newRig(t)
	r.addKernel(newRelease)
	r.must("budget", "set", "label:datacenter", fmt.Sprint(budget))
	for i, d := range ds {
		f := r.install(fmt.Sprintf("h%d", i), fmt.Sprintf("h%d", i), s.apps, s.machine)
		f.keep(d)
		hosts = append(hosts, f)
	}
	r.untilHosts(len(hosts))
	for _, f := range hosts {
		f.rollout = r.startOn(f)
	}
	r.untilEnded(func(*fake) bool { return s.pauses }, hosts)
	x := r.stopAndRead()
	var outs []span
	for i, f := range hosts {
		wrong, out := f.prove(x, s.end(ds[i].power))
		outs = append(outs, out)
		switch n := f.kept.deaths(); {
		case ds[i] == death{} && n > 0, n > 1:
			wrong = append(wrong, fmt.Sprintf("the agent ended %d times", n))
		case ds[i] != death{} && n == 0:
			wrong = append(wrong, "the point was never reached")
		}
		if len(wrong) > 0 {
			t.Errorf("%s, killed %s:\n  %s\n%s", s.name, ds[i], strings.Join(wrong, "\n  "), tailOf(f.out.String()))
		}
	}
	if n := most(outs); n > budget {
		t.Errorf("%d hosts were out of service at once, the budget is %d", n, budget)
	}
	for _, f := range hosts {
		f.end()
	}
	return hosts
}

// keep starts the host's agent, which dies as d says, and goes on starting it.
func (f *fake) keep(d death) {
	args := []string{"--points", f.pointsFile()}
	if d != (death{}) {
		args = append(args, "--cut", d.cut.String(), fmt.Sprintf("--power=%v", d.power))
	}
	f.kept = keep(func(again bool) *proc {
		if again {
			return f.launch()
		}
		return f.launch(args...)
	})
}

// startOn starts a rollout of the new kernel to one host and returns its id.
func (r *rig) startOn(f *fake) string {
	r.t.Helper()
	return strings.TrimSpace(r.must("rollout", "start", newRelease, "-q", "--selector", "workload="+f.name,
		"--soak", "1s", "--waves", "100", "--trial-deadline", "1m"))
}

// untilEnded waits until the hosts' operations have ended and the server knows. It pauses the rollout of those that
// pauses says while they drain.
func (r *rig) untilEnded(pauses func(*fake) bool, hosts []*fake) {
	r.t.Helper()
	paused := map[string]bool{}
	left := slices.Clone(hosts)
	r.until("every operation at its end", func() bool {
		left = slices.DeleteFunc(left, func(f *fake) bool {
			last := f.last()
			if pauses(f) && last.Phase == fleet.PhaseDraining && !paused[f.name] {
				if _, err := r.cli("rollout", "pause", f.rollout); err == nil { // else it is not up; the next time
					paused[f.name] = true
				}
			}
			return last.Phase.Ended()
		})
		return len(left) == 0
	})
	r.until("the server to know", func() bool {
		out, err := r.cli("hosts", "-o", "json")
		if err != nil {
			return false
		}
		var seen struct {
			Hosts []struct {
				ID  string
				Now struct {
					InService bool `json:"in_service"`
				}
				Operation *struct{ Phase fleet.Phase }
			}
		}
		if err := json.Unmarshal([]byte(out), &seen); err != nil {
			r.t.Fatal(err)
		}
		known := map[string]bool{}
		for _, h := range seen.Hosts {
			known[h.ID] = h.Now.InService && (h.Operation == nil || h.Operation.Phase.Ended()) // open ones are listed
		}
		return !slices.ContainsFunc(hosts, func(f *fake) bool { return !known[f.name] })
	})
	r.until("every grant at its end", func() bool {
		out, err := r.cli("status", "-o", "json")
		return err == nil && noGrants.MatchString(out)
	})
}

var noGrants = regexp.MustCompile(`"live_grants": ?0\b`)
