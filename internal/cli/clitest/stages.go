package clitest

import (
	"fmt"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
)

// planOf is what a control plane would answer: the first host of each type is its canary.
func planOf(hosts []operator.Host, k fleet.Kernel, spec operator.RolloutSpec) operator.Rollout {
	if spec.Soak == nil {
		hour := time.Hour
		spec.Soak = &hour
	}
	spec.ReturnWithin, spec.TrialDeadline = 15*time.Minute, 10*time.Minute
	r := operator.Rollout{
		Spec: spec, Kernel: k, Status: "planned", Next: "canaries web-1 and db-1 try the kernel, one after another",
		Types: []operator.Type{
			{ID: TypeWeb, Hosts: 5, Canaries: []fleet.HostID{"web-1"}},
			{ID: TypeDB, Hosts: 2, Canaries: []fleet.HostID{"db-1"}},
		},
		Excluded: []operator.Out{
			{Host: "web-4", Why: "in maintenance: disk is being replaced, ticket 4711"},
			{Host: "db-3", Why: "its agent is parked: the journal of operation op-12 is damaged at byte 512"},
		},
		Stages: []operator.Stage{
			{Number: 0, Name: "canaries", Hosts: 2},
			{Number: 1, Name: "wave 1 (1 %)", Percent: 1, Skipped: "it adds nobody: canaries are 28 %"},
			{Number: 2, Name: "wave 2 (5 %)", Percent: 5, Skipped: "it adds nobody: canaries are 28 %"},
			{Number: 3, Name: "wave 3 (25 %)", Percent: 25, Skipped: "it adds nobody: canaries are 28 %"},
			{Number: 4, Name: "wave 4 (100 %)", Percent: 100, Hosts: 5},
		},
	}
	return r
}

// running is rollout r-7: canaries done, the last wave under way.
func running() operator.Rollout {
	soak := 10 * time.Minute
	r := planOf(nil, kernel(NewRelease, "6.12.117-1~deb12u1", 68_904_312, 0), operator.RolloutSpec{Kernel: NewRelease, Soak: &soak, Note: "CVE-2026-1234"})
	r.ID, r.Status, r.StartedBy, r.StartedAt, r.Stage = "r-7", "running", "ada", before(34*time.Minute), 4
	r.CanaryRun = "c-7"
	r.Next = "web-2 to pass its trial; budget of type " + string(TypeWeb) + " lets one host out at a time"
	r.Stages[0].Committed, r.Stages[0].BeganAt, r.Stages[0].EndedAt = 2, before(34*time.Minute), before(11*time.Minute)
	r.Stages[0].SoakUntil = before(11 * time.Minute)
	r.Stages[4].BeganAt = before(11 * time.Minute)
	r.Types[0].Committed, r.Types[0].Approval = 1, "trial passed on web-1"
	r.Types[1].Committed, r.Types[1].Approval = 1, "trial passed on db-1"
	trial := operation("op-41", "web-2", fleet.PhaseTrial, 2*time.Minute)
	r.Hosts = []operator.RolloutHost{
		{ID: "web-1", Type: TypeWeb, State: "committed"},
		{ID: "db-1", Type: TypeDB, State: "committed"},
		{ID: "web-2", Type: TypeWeb, Stage: 4, State: "trial", Operation: &trial},
		{ID: "web-3", Type: TypeWeb, Stage: 4, State: "waiting"},
		{ID: "web-5", Type: TypeWeb, Stage: 4, State: "held", Why: "silent for 11 min"},
		{ID: "web-10", Type: TypeWeb, Stage: 4, State: "waiting"},
		{ID: "db-2", Type: TypeDB, Stage: 4, State: "waiting"},
	}
	return r
}

func finished() operator.Rollout {
	r := running()
	r.ID, r.Kernel, r.Spec.Kernel, r.Spec.Note = "r-6", kernel("6.1.0-45-cloud-amd64", "6.1.158-1", 29_415_000, 0), "6.1.0-45-cloud-amd64", ""
	r.Status, r.StatusWhy, r.Next = "done", "", ""
	r.StartedAt, r.EndedAt = before(26*24*time.Hour), before(26*24*time.Hour-3*time.Hour)
	for i := range r.Stages {
		if r.Stages[i].Skipped == "" {
			r.Stages[i].Committed, r.Stages[i].BeganAt, r.Stages[i].EndedAt = r.Stages[i].Hosts, r.StartedAt, r.EndedAt
		}
	}
	for i := range r.Hosts {
		r.Hosts[i] = operator.RolloutHost{ID: r.Hosts[i].ID, Type: r.Hosts[i].Type, State: "committed"}
	}
	for i := range r.Types {
		r.Types[i].Committed = r.Types[i].Hosts
	}
	return r
}

// step copies a rollout and changes the copy.
func step(r operator.Rollout, change func(*operator.Rollout)) operator.Rollout {
	c := r
	c.Stages = append([]operator.Stage{}, r.Stages...)
	c.Types = append([]operator.Type{}, r.Types...)
	c.Hosts = append([]operator.RolloutHost{}, r.Hosts...)
	change(&c)
	return c
}

// phase moves host i to p, a while ago.
func phase(r *operator.Rollout, i int, p fleet.Phase) {
	o := operation(fmt.Sprintf("op-%d", 50+i), string(r.Hosts[i].ID), p, 20*time.Second)
	r.Hosts[i].State, r.Hosts[i].Operation, r.Hosts[i].Why = string(p), &o, ""
	if p == fleet.PhaseCommitted {
		r.Stages[r.Hosts[i].Stage].Committed++
	}
}

// Finishing is [Small], with a rollout r-7 that ends well while it is looked at.
func Finishing() Fleet {
	f := Small()
	versions := []operator.Rollout{running()}
	then := func(change func(*operator.Rollout)) {
		versions = append(versions, step(versions[len(versions)-1], change))
	}
	then(func(r *operator.Rollout) { phase(r, 2, fleet.PhasePassed) })
	then(func(r *operator.Rollout) { phase(r, 2, fleet.PhaseCommitted); phase(r, 3, fleet.PhaseDraining) })
	then(func(*operator.Rollout) {}) // nothing new: nothing is printed
	then(func(r *operator.Rollout) {
		phase(r, 3, fleet.PhaseRebooting)
		r.Next = "web-3 to return, for 20 s; it may take 15 min"
	})
	then(func(r *operator.Rollout) { r.Next = "web-3 to return, for 22 s; it may take 15 min" })
	then(func(r *operator.Rollout) {
		for _, i := range []int{3, 4, 5, 6} {
			phase(r, i, fleet.PhaseCommitted)
		}
		r.Stages[4].SoakUntil, r.Next = Now.Add(10*time.Minute), "the soak of wave 4"
	})
	then(func(r *operator.Rollout) {
		r.Status, r.Next, r.EndedAt = "done", "", Now
		r.Stages[4].EndedAt = Now
	})
	f.Rollouts[0] = versions
	return f
}

// Restarting is [Finishing], where the control plane is away for a while in the middle.
func Restarting() Fleet {
	f := Finishing()
	f.AwayFrom, f.AwayTo = 3, 6
	return f
}

// Panicking is [Small], where the canary of one type fell back and rollout r-7 is paused.
func Panicking() Fleet {
	f := Small()
	r := step(running(), func(r *operator.Rollout) {
		r.Status, r.StatusWhy, r.Stage = "paused", "db-1 came back on "+OldRelease+" (incident i-3)", 0
		r.Next = "a person to resume, abort or roll back; see incident i-3"
		r.Types[1].Committed, r.Types[1].Approval = 0, ""
		r.Stages[0].Committed, r.Stages[0].EndedAt, r.Stages[0].SoakUntil = 1, time.Time{}, time.Time{}
		r.Stages[4].BeganAt = time.Time{}
		op := fellBack("op-40", "db-1")
		op.PhaseSince = before(90 * time.Second)
		r.Hosts[1] = operator.RolloutHost{ID: "db-1", Type: TypeDB, State: "held", Why: op.Problem.What, Operation: &op}
		for i := 2; i < len(r.Hosts); i++ {
			r.Hosts[i].State, r.Hosts[i].Operation, r.Hosts[i].Why = "waiting", nil, ""
		}
	})
	f.Rollouts[0] = []operator.Rollout{r}
	f.Incidents = []operator.Incident{openIncident(), closedIncident()}
	return f
}

// Aborted is [Small], where rollout r-7 is ended by a person while it is looked at.
func Aborted() Fleet {
	f := Small()
	first := running()
	f.Rollouts[0] = []operator.Rollout{first, step(first, func(r *operator.Rollout) {
		phase(r, 2, fleet.PhaseReverting)
		r.Status, r.StatusWhy, r.Next = "aborting", "aborted by ada: errors in the shop", "web-2 to come back"
	}), step(first, func(r *operator.Rollout) {
		r.Hosts[2].State, r.Hosts[2].Operation = "reverted", nil
		r.Status, r.StatusWhy, r.Next, r.EndedAt = "aborted", "aborted by ada: errors in the shop", "", Now
	})}
	return f
}

// Sick is [Small] with a store that does not work.
func Sick() Fleet {
	f := Small()
	f.StoreError = "write the store: disk I/O error"
	return f
}
