package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kernwave/kernwave/internal/sim"
)

// aBadResult has something of everything.
func aBadResult() (sim.Result, sim.Scenario) {
	s := sim.Scenario{Name: "night", About: "Shows the page.", Fleet: sim.Fleet{Types: []sim.Type{{Name: "web", Hosts: 20}, {Name: "db", Hosts: 5}}}}
	r := sim.Result{
		Scenario: "night", Seed: 7, Hosts: 25, Virtual: 27*time.Hour + 5*time.Minute, RealSec: 1.26,
		Rollouts: []sim.RolloutEnd{
			{
				ID: "r-1", Status: "paused", Why: "db-0003 fell back", Lasted: 2 * time.Hour, Excluded: 2,
				Pauses: []sim.Pause{{At: 26 * time.Hour, Why: "db-0003 fell back", After: 95 * time.Second}},
				Stages: []sim.StageEnd{
					{Name: "canaries", Hosts: 2, Committed: 1, Harmed: 1, Began: 2 * time.Minute, Ended: 10 * time.Minute},
					{Name: "wave 1 (25 %)", Hosts: 5, Began: 11 * time.Minute},
					{Name: "wave 2 (100 %)", Hosts: 18},
				},
				Types: []sim.TypeEnd{{Name: "web", Hosts: 20, Committed: 1, Approved: true}, {Name: "db", Hosts: 5, Harmed: 2, LeftOut: true}},
			},
			{Refused: "another rollout has those hosts"},
		},
		Harmed: []sim.Harm{
			{Host: "db-0003", Type: "db", At: 3 * time.Minute, How: "panic", Caught: "canaries", Back: true, Out: 70 * time.Second, Runs: "old"},
			{Host: "db-0004", Type: "db", At: 25 * time.Hour, How: "hang", Runs: "new"},
		},
		Outage: sim.Outage{Host: "db-0004", For: 125 * time.Minute, Why: "hung", Open: true},
		Faults: map[string]int{"kill": 3, "lose": 12345, "die": 0},
		Seen:   map[string]int{sim.SeenChecks: 1234567, "check-in": 4000, "phase-trial": 3, "grant": 2},
		Broken: &sim.Broken{
			Promise: 1, What: "server-1 lets web-0001 leave service, while web-0002 is out", Expected: "at most 1 host of type web", At: 26 * time.Hour,
			Hosts: []string{"web-0001", "web-0002"}, Trace: []string{"1d 02:00:00.000  web-0002  is \x1b[2Jsilent", "1d 02:00:00.000  server-1  records grant.given"},
			Replay: "kernwave sim run night.yaml --seed 7",
		},
	}
	return r, s
}

// TestPrintSimulation: go test ./internal/cli -run PrintSimulation -update
func TestPrintSimulation(t *testing.T) {
	var out, errs bytes.Buffer
	a := &app{Process: testProcess(&out, &errs), output: "table"}
	r, s := aBadResult()
	if err := a.printSimulation(r, s); err != nil {
		t.Fatal(err)
	}
	out.WriteString("\n=== many\n\n")
	sum := newSummary(5, 10)
	for _, seed := range []uint64{8, 6, 7, 5} { // as they happen to end
		one := r
		one.Seed = seed
		if seed < 7 {
			one.Broken = nil
		}
		sum.add(one)
	}
	if err := a.printSummary(sum); err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/simulation.txt"
	if *update {
		if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), out.String()); diff != "" {
		t.Error(diff)
	}
}

// TestSummaryDependsOnNoOrder: what runs beside what must not show, and nothing behind the first broken promise counts.
func TestSummaryDependsOnNoOrder(t *testing.T) {
	var want []byte
	for i, order := range [][]uint64{{1, 2, 3, 4, 5}, {5, 4, 3, 2, 1}, {4, 1, 5, 2, 3}} {
		sum := newSummary(1, 9)
		for _, seed := range order {
			r, _ := aBadResult()
			r.Seed = seed
			if seed != 3 && seed != 5 {
				r.Broken = nil
			}
			sum.add(r)
		}
		sum.finish()
		got, err := json.Marshal(sum)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			want = got
		}
		if string(got) != string(want) {
			t.Errorf("order %v:\n%s\nwant\n%s", order, got, want)
		}
		if sum.Done != 3 || sum.Broken == nil || sum.Broken.Seed != 3 || sum.upto() != 2 {
			t.Errorf("order %v: %d done, broken %+v", order, sum.Done, sum.Broken)
		}
	}
}

func TestBrokenPromiseIsExitCodeOne(t *testing.T) {
	r, _ := aBadResult()
	if code, ok := errors.AsType[quietExit](exitOf(r.Broken)); !ok || code != ExitFailed {
		t.Errorf("exit code %d", code)
	}
	if err := exitOf(nil); err != nil {
		t.Error(err)
	}
}

func TestShellWord(t *testing.T) {
	for in, want := range map[string]string{"never-boots": "never-boots", "a b.yaml": "'a b.yaml'", "it's": `'it'\''s'`, "": "''", "./x/y.yaml": "./x/y.yaml", "$(x)": "'$(x)'"} {
		if got := shellWordOf(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

// TestPlaces: a panic of the simulated control plane is told in one line, with where it was.
func TestPlaces(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Fatal("nothing panicked")
		}
		if got := placesOf(debug.Stack()); !strings.HasPrefix(got, "at cli/simprint_test.go:") || strings.Contains(got, "\n") {
			t.Errorf("%q", got)
		}
	}()
	var m map[string]int
	m["a"] = 1
}
