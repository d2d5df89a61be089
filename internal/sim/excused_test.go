package sim

import "testing"

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
