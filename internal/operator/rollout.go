package operator

import (
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// RolloutSpec is what an operator asks for. Zero values stand for the defaults named in each comment.
type RolloutSpec struct {
	Kernel        fleet.KernelID     `json:"kernel"`
	Selector      string             `json:"selector,omitempty"`          // "": all hosts that the kernel fits
	Waves         []int              `json:"waves,omitempty"`             // per cent, rising, the last 100; empty: 1, 5, 25, 100
	Soak          *time.Duration     `json:"soak_ns,omitempty"`           // nil: 1 h; 0 is a soak of nothing
	Canaries      int                `json:"canaries,omitempty"`          // per host type; 0: 1
	ReturnWithin  time.Duration      `json:"return_within_ns,omitempty"`  // 0: 15 min
	TrialDeadline time.Duration      `json:"trial_deadline_ns,omitempty"` // 0: 10 min
	LeaveOut      []fleet.HostTypeID `json:"leave_out,omitempty"`
	Note          string             `json:"note,omitempty"`
}

// What an operator can do to a rollout.
const (
	ActionPause    = "pause"
	ActionResume   = "resume"
	ActionAbort    = "abort"     // drained hosts undrain, hosts in trial revert, committed ones stay
	ActionRollback = "rollback"  // the previous kernel to the committed hosts
	ActionRetry    = "retry"     // one host again; needs Host
	ActionSkip     = "skip"      // one host not at all; needs Host
	ActionLeaveOut = "leave-out" // one host type not at all; needs Type
)

// Change is one of the actions, with what it is about.
type Change struct {
	Rollout string
	Action  string
	Host    fleet.HostID     // retry, skip
	Type    fleet.HostTypeID // leave-out
	Why     string
}

// Rollout is a rollout as operators see it; a plan is one without an id.
type Rollout struct {
	ID        string       `json:"id,omitempty"`
	Spec      RolloutSpec  `json:"spec"`
	Kernel    fleet.Kernel `json:"kernel"`
	Status    string       `json:"status"` // planned, running, paused, aborting, rolling-back, done, aborted, rolled-back
	StatusWhy string       `json:"status_why,omitempty"`
	StartedBy string       `json:"started_by,omitempty"`
	StartedAt time.Time    `json:"started_at,omitzero"`
	EndedAt   time.Time    `json:"ended_at,omitzero"`
	Stage     int          `json:"stage"`
	Stages    []Stage      `json:"stages,omitempty"`
	Types     []Type       `json:"types,omitempty"`
	// Hosts is empty in lists.
	Hosts    []RolloutHost `json:"hosts,omitempty"`
	Excluded []Out         `json:"excluded,omitempty"` // selected, but cannot take part, and why
	Next     string        `json:"next,omitempty"`     // one sentence: what the rollout waits for
	// CanaryRun is the id of stage 0.
	CanaryRun string `json:"canary_run,omitempty"`
}

// Stage is the canary run or one wave.
type Stage struct {
	Number    int       `json:"number"` // 0: canaries
	Name      string    `json:"name"`   // canaries, wave 1 (5 %)
	Percent   int       `json:"percent,omitempty"`
	Hosts     int       `json:"hosts"` // that this stage adds
	Committed int       `json:"committed"`
	BeganAt   time.Time `json:"began_at,omitzero"`
	SoakUntil time.Time `json:"soak_until,omitzero"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
	Skipped   string    `json:"skipped,omitempty"` // why; empty: not skipped
}

// Type is one host type's part in a rollout.
type Type struct {
	ID          fleet.HostTypeID `json:"id"`
	Description string           `json:"description,omitempty"`
	Hosts       int              `json:"hosts"`
	Committed   int              `json:"committed"`
	Canaries    []fleet.HostID   `json:"canaries,omitempty"`
	Approval    string           `json:"approval,omitempty"` // evidence; empty: not approved
	LeftOut     string           `json:"left_out,omitempty"` // who and why; empty: in
}

// RolloutHost is one host's part in a rollout.
type RolloutHost struct {
	ID    fleet.HostID     `json:"id"`
	Type  fleet.HostTypeID `json:"type"`
	Stage int              `json:"stage"`
	State string           `json:"state"` // waiting, the phase of its operation, committed, held, skipped, left-out
	Why   string           `json:"why,omitempty"`
	// Operation is the newest one of this rollout; nil: none yet.
	Operation *fleet.Operation `json:"operation,omitempty"`
}
