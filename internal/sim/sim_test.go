package sim

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	seeds = flag.Int("seeds", 0, "how many random fleets TestFleet plays (0: KERNWAVE_SIM_SEEDS, or 40 with -short and 1000 without)")
	seed  = flag.Uint64("seed", 1, "the first seed of TestFleet")
	show  = flag.Bool("show", false, "print what TestFleet sees; with one fleet everything that happens")
)

// TestMain collects garbage as kernwave sim does: less often.
func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	os.Exit(m.Run())
}

// TestFleet plays random small fleets with every fault. No promise may be broken in any of them.
func TestFleet(t *testing.T) {
	n := *seeds
	if n == 0 {
		n, _ = strconv.Atoi(os.Getenv("KERNWAVE_SIM_SEEDS"))
	}
	if n == 0 {
		n = 1000
		if testing.Short() {
			n = 40
		}
	}
	faults, seen := map[string]int{}, map[string]int{}
	statuses := map[string]int{}
	var hosts int
	var virtual time.Duration
	var slowest float64
	var slow uint64
	began := time.Now()
	n = play(t, "-seeds", n, Random, func(s uint64, res Result) {
		for k, v := range res.Faults {
			faults[k] += v
		}
		for k, v := range res.Seen {
			seen[k] += v
		}
		for _, r := range res.Rollouts {
			statuses[r.Status]++
			if *show && r.Status == "running" {
				t.Logf("seed %d: running at %s: %s", s, clock(res.Virtual), r.Why)
			}
		}
		hosts += res.Hosts
		virtual += res.Virtual
		if res.RealSec > slowest {
			slowest, slow = res.RealSec, s
		}
	})
	t.Logf("%d fleets with %d hosts, %s of virtual time in %.1f s; the slowest was seed %d with %.1f s", n, hosts, virtual.Round(time.Hour), time.Since(began).Seconds(), slow, slowest)
	t.Logf("faults: %s", counts(faults))
	t.Logf("seen: %s", counts(seen))
	t.Logf("rollouts: %s", counts(statuses))
}

// play runs the scenarios of n seeds from -seed on, as many at a time as there are processors, and has tell called with each result,
// one at a time. No promise may be broken in any. It returns how many it had time for: a test that is cut off says nothing of what it found.
func play(t *testing.T, flag string, n int, scenario func(seed uint64) Scenario, tell func(seed uint64, res Result)) int {
	t.Helper()
	end, limited := t.Deadline()
	end = end.Add(-time.Minute)
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := make(chan uint64)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for s := range next {
				o := Options{Seed: s}
				if *show && n == 1 {
					o.Trace = os.Stdout
				}
				res, err := Run(t.Context(), scenario(s), o) // an error, too, for a scenario that is not valid
				mu.Lock()
				if err != nil {
					t.Errorf("seed %d: %v", s, err)
				}
				if res.Broken != nil {
					t.Errorf("seed %d: %v\ngo test ./internal/sim -run %s %s 1 -seed %d", s, res.Broken, t.Name(), flag, s)
				}
				tell(s, res)
				mu.Unlock()
			}
		})
	}
	defer wg.Wait()
	defer close(next)
	for i := range n {
		if limited && time.Now().After(end) {
			t.Errorf("%d of %d were played when the time of the test was nearly over: give it more with -timeout, or ask for fewer with %s", i, n, flag)
			return i
		}
		next <- *seed + uint64(i)
	}
	return n
}

func counts(m map[string]int) string {
	var parts []string
	for k, v := range m {
		parts = append(parts, fmt.Sprintf("%s %d", k, v))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// TestFaultHitsAsManyHostsAsItSays: a fault of 25 hosts hits 25, none twice; and one of 10 hosts of 25 hits 10.
func TestFaultHitsAsManyHostsAsItSays(t *testing.T) {
	for _, n := range []int{1, 10, 25} {
		s := Scenario{
			Name:     "dead",
			Fleet:    Fleet{Types: []Type{{Name: "web", Hosts: 25}}},
			Rollouts: []Rollout{{}},
			Faults:   []Fault{{What: FaultDie, At: 3 * time.Minute, Hosts: n}},
			For:      10 * time.Minute,
		}
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
		for seed := range uint64(4) {
			res, err := Run(t.Context(), s, Options{Seed: seed})
			if err != nil {
				t.Fatal(err)
			}
			if res.Faults["die"] != n {
				t.Errorf("seed %d: %d hosts died, the scenario says %d", seed, res.Faults["die"], n)
			}
		}
	}
}

// TestReplay: the same seed gives the same result and the same trace, byte by byte.
func TestReplay(t *testing.T) {
	for s := range uint64(8) {
		var once [2]string
		for i := range once {
			var trace bytes.Buffer
			res, err := Run(t.Context(), Random(s), Options{Seed: s, Trace: &trace})
			if err != nil {
				t.Fatal(err)
			}
			res.RealSec = 0
			b, err := json.Marshal(res)
			if err != nil {
				t.Fatal(err)
			}
			once[i] = trace.String() + string(b)
		}
		if once[0] != once[1] {
			a, b := strings.Split(once[0], "\n"), strings.Split(once[1], "\n")
			for i := range min(len(a), len(b)) {
				if a[i] != b[i] {
					t.Fatalf("seed %d: two runs differ at line %d:\n%s\n%s", s, i, a[i], b[i])
				}
			}
			t.Fatalf("seed %d: two runs differ in length: %d and %d lines", s, len(a), len(b))
		}
	}
}

// TestLostDisksTakeNoRoom: a control plane that is put back from backups over and over, and cloned, leaves only the
// directories that somebody may still start on.
func TestLostDisksTakeNoRoom(t *testing.T) {
	for _, f := range []Fault{
		{What: FaultRestore, Every: 2 * time.Minute, By: time.Minute, For: time.Second},
		{What: FaultCloneData, Every: 2 * time.Minute, By: time.Minute, For: 10 * time.Second},
	} {
		w, err := newWorld(Scenario{
			Name: "backups", For: 2 * time.Hour,
			Fleet:    Fleet{Types: []Type{{Name: "web", Hosts: 3}}},
			Rollouts: []Rollout{{}},
			Operator: Operator{ResumeRestored: true, After: time.Minute},
			Faults:   []Fault{f},
		}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.play(t.Context()); err != nil {
			t.Error(err)
		}
		dirs, err := os.ReadDir(w.tmp)
		if err != nil {
			t.Error(err)
		}
		if w.res.Faults[f.What] < 20 || len(dirs) > 3 || w.res.Broken != nil {
			t.Errorf("%s happened %d times, and %d data directories are left: %v", f.What, w.res.Faults[f.What], len(dirs), w.res.Broken)
		}
		if err := w.close(); err != nil {
			t.Error(err)
		}
	}
}
