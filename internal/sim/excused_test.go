package sim

import (
	"testing"
	"time"
)

// TestCanaryThatComesBackIsNotWaitedFor: a person takes a canary out while its type is tried, the other one speaks for
// the type, and the first comes back in a later wave. Nothing was promised about it.
func TestCanaryThatComesBackIsNotWaitedFor(t *testing.T) {
	res, err := Run(t.Context(), Random(1122), Options{Seed: 1122})
	if err != nil {
		t.Fatal(err)
	}
	if res.Broken != nil {
		t.Error(res.Broken)
	}
	if res.Seen["event-host.maintenance"] == 0 || res.Seen["event-host.active"] == 0 {
		t.Error("no host was taken out and brought back: look for another seed")
	}
}

// TestNobodyKnowsOfATrialBeforeBothWerePutBack: the disk of a host that went back from the kernel is put back to what it
// was before, and so is the store. Where only one of them is, the other still knows.
func TestNobodyKnowsOfATrialBeforeBothWerePutBack(t *testing.T) {
	res, err := Run(t.Context(), Random(1916), Options{Seed: 1916})
	if err != nil {
		t.Fatal(err)
	}
	if res.Broken != nil {
		t.Error(res.Broken)
	}
	if res.Faults["old-disk"] == 0 || res.Faults["restore"] == 0 || len(res.Harmed) == 0 {
		t.Error("no host and no store were put back: look for another seed")
	}
}

// TestStandInGoesOnWhenACanaryComesBack: all canaries of a type were given up and another host tries the kernel in their
// place when a person brings one of them back.
func TestStandInGoesOnWhenACanaryComesBack(t *testing.T) {
	res, err := Run(t.Context(), Random(5864), Options{Seed: 5864})
	if err != nil {
		t.Fatal(err)
	}
	if res.Broken != nil {
		t.Error(res.Broken)
	}
	if res.Seen["event-host.maintenance"] == 0 || res.Seen["event-host.active"] == 0 || res.Seen["event-rollout.skip"] == 0 {
		t.Error("no canary was given up and brought back: look for another seed")
	}
}

// TestEachStoreHearsOneOfTwoMachines: a host's image is cloned while a copy of the data directory answers half of the machines.
// Where each control plane hears only one of the two machines, neither can know.
func TestEachStoreHearsOneOfTwoMachines(t *testing.T) {
	res, err := Run(t.Context(), Random(13767), Options{Seed: 13767})
	if err != nil {
		t.Fatal(err)
	}
	if res.Broken != nil {
		t.Error(res.Broken)
	}
	if res.Faults["clone-data"] == 0 || res.Faults["clone-image"] == 0 {
		t.Error("no store and no host were cloned: look for another seed")
	}
}

// TestRetryIsForWhatWasSeen: a person says retry of a host that went back, and then its disk is put back to what it was when the
// trial began: it goes back once more, from the same operation. That is no news, and the retry still holds.
func TestRetryIsForWhatWasSeen(t *testing.T) {
	s := Scenario{
		Name:     "twice",
		Fleet:    Fleet{Types: []Type{{Name: "web", Hosts: 1, Kernel: KernelFault{Boots: "hang"}}}},
		Rollouts: []Rollout{{}},
		Actions:  []Action{{At: 15 * time.Minute, Do: DoRetry, Host: "web-0001"}, {At: 30 * time.Minute, Do: DoResume}},
		Faults:   []Fault{{What: FaultOldDisk, At: 5 * time.Minute, By: 15 * time.Minute, Host: "web-0001"}},
		For:      time.Hour,
	}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	twice := 0
	for seed := range uint64(20) {
		res, err := Run(t.Context(), s, Options{Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		if res.Broken != nil {
			t.Errorf("seed %d: %v", seed, res.Broken)
		}
		if res.Seen["phase-fell-back"] > 2 { // the retry falls back too
			twice++
		}
	}
	if twice == 0 {
		t.Error("in no seed was the disk put back to a moment in the trial: choose other times")
	}
}
