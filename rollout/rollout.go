// Package rollout decides what should happen next to bring one kernel to one
// selection of hosts: which hosts want an operation, what each operation is
// told, when a stage is over, when to pause. It grants nothing (grant does),
// does no I/O, reads no clock and draws no random number.
//
//	plan, err := rollout.MakePlan(spec, kernel, hosts, approved, salt)
//	ds, wake := rollout.Step(view, now)      // save ds in one transaction, then act
//	why := rollout.Explain(view, "web-1", now) // the same code, for one host
//
// This package may still change before Kernwave 1.0.
package rollout

import (
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// ID names a rollout, for people: r-7.
type ID string

// Rollout is one kernel to one selection of hosts: what was asked, what was planned then, and where it stands.
type Rollout struct {
	ID    ID
	Spec  Spec
	Plan  Plan
	State State
}

// Goal is which way a rollout goes.
type Goal string

const (
	GoalForward  Goal = "forward"  // to the new kernel
	GoalAbort    Goal = "abort"    // finish what is open by going back; committed hosts stay
	GoalRollback Goal = "rollback" // as abort, then the previous kernel to the committed hosts
)

// Outcome is how a rollout ended. Empty: it has not.
type Outcome string

const (
	OutcomeDone       Outcome = "done"
	OutcomeAborted    Outcome = "aborted"
	OutcomeRolledBack Outcome = "rolled-back"
)

// State is where a rollout stands. It changes only by decisions of Step and by people's actions (action.go).
type State struct {
	Goal Goal `json:"goal"`
	// Paused says why the rollout wants nothing. Empty: it is not paused.
	Paused  string    `json:"paused,omitempty"`
	Outcome Outcome   `json:"outcome,omitempty"`
	EndedAt time.Time `json:"ended_at,omitzero"`
	// Stage is the one that runs: 0 the canaries, then the waves.
	Stage  int          `json:"stage"`
	Stages []StageState `json:"stages"`
	// LeftOut are the types that a person left out, with who and why.
	LeftOut map[fleet.HostTypeID]string `json:"left_out,omitempty"`
	// Skipped are the hosts that a person gave up on in this rollout, with who and why.
	Skipped map[fleet.HostID]string `json:"skipped,omitempty"`
	// Held are the hosts that wait for a person (retry or skip), with why. A host that rolled back is never offered
	// the kernel again without one.
	Held map[fleet.HostID]string `json:"held,omitempty"`
	// Settled is the last operation of each host whose problem was taken note of.
	Settled map[fleet.HostID]fleet.OperationID `json:"settled,omitempty"`
}

// StageState is where one stage stands. The zero value has not begun.
type StageState struct {
	BeganAt   time.Time `json:"began_at,omitzero"`
	SoakUntil time.Time `json:"soak_until,omitzero"` // set when its last host was done
	EndedAt   time.Time `json:"ended_at,omitzero"`
	Skipped   string    `json:"skipped,omitempty"` // why it had nothing to do
}

// Status is one word for people: running, paused, aborting, rolling-back, done, aborted, rolled-back.
func (s State) Status() string {
	switch {
	case s.Outcome != "":
		return string(s.Outcome)
	case s.Paused != "":
		return "paused"
	case s.Goal == GoalAbort:
		return "aborting"
	case s.Goal == GoalRollback:
		return "rolling-back"
	}
	return "running"
}

// View is everything that Step looks at. Snapshot is a plain one.
type View interface {
	Rollout() *Rollout
	// Stopped says why everything is stopped; empty: it is not. A stop works like a pause of every rollout.
	Stopped() string
	// Operations are this rollout's on one host, oldest first. At most the last one has not ended.
	Operations(fleet.HostID) []fleet.Operation
	// Host is what is known of a host now. Status and Unheard are those of its fields, which Step asks of every open
	// operation each time.
	Host(fleet.HostID) HostNow
	Status(fleet.HostID) fleet.Status
	Unheard(fleet.HostID) time.Time
	// Approved says on which evidence the kernel is approved for a type now.
	Approved(fleet.HostTypeID) (evidence string, ok bool)
}

// HostNow is what matters of one host at the moment.
type HostNow struct {
	Status fleet.Status
	// Unheard is since when nothing was heard from the host; zero: it is not silent.
	Unheard   time.Time
	InService bool
	// NotInServiceWhy explains InService == false; Parked is the agent's reason to refuse everything.
	NotInServiceWhy string
	Parked          string
	// Distrusted is why it is in doubt which machine this is; empty: it is not.
	Distrusted string
	Release    string
	// Default is the release that the next plain boot runs; empty: cannot tell.
	Default string
	// Type is what the host is now; empty: not known. A plan keeps the one that it had then.
	Type fleet.HostTypeID
	// BusyWith is another owner's open operation on the host. A host has one operation at a time.
	BusyWith string
}

// Snapshot is a View made of maps: complete, so that the next step is the same wherever it is loaded.
type Snapshot struct {
	R         *Rollout
	Stop      string
	Ops       map[fleet.HostID][]fleet.Operation
	Hosts     map[fleet.HostID]HostNow
	Approvals map[fleet.HostTypeID]string
}

func (s Snapshot) Rollout() *Rollout                           { return s.R }
func (s Snapshot) Stopped() string                             { return s.Stop }
func (s Snapshot) Operations(h fleet.HostID) []fleet.Operation { return s.Ops[h] }
func (s Snapshot) Host(h fleet.HostID) HostNow                 { return s.Hosts[h] }
func (s Snapshot) Status(h fleet.HostID) fleet.Status          { return s.Hosts[h].Status }
func (s Snapshot) Unheard(h fleet.HostID) time.Time            { return s.Hosts[h].Unheard }
func (s Snapshot) Approved(t fleet.HostTypeID) (string, bool)  { e, ok := s.Approvals[t]; return e, ok }
