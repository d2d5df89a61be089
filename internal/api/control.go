package api

import (
	"context"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
)

// Control is the control plane as its API needs it; internal/control implements it. The API has authenticated and
// authorised the caller before, and checks the form of what it passes on. An error that
// says what the caller did wrong wraps one of the operator.Err… sentinels; see [codeOf].
type Control interface {
	AgentControl
	OperatorControl

	// Poke says that something changed: tick soon. It never blocks.
	Poke()
}

// AgentControl is what agents need. host, and r.Host, are what the certificate speaks for, and belong to a host that
// is enrolled, not revoked and not retired.
type AgentControl interface {
	// CheckIn takes what is and returns what should be. It must be quick: a whole fleet calls it.
	CheckIn(ctx context.Context, r fleet.Report, now time.Time) (fleet.Desired, error)
	// ConfirmReboot answers the last-moment question. A no is an answer, not an error.
	ConfirmReboot(ctx context.Context, host fleet.HostID, op fleet.OperationID, g fleet.GrantID, now time.Time) (fleet.Confirmation, error)
	// Superseded says which other control plane is obeyed, and by whom; empty: none that anybody knows of.
	Superseded() string
	// Unfreeze ends the freeze of a host that is one machine again, with its event, in the caller's transaction.
	Unfreeze(tx store.Tx, h *fleet.Host, who, why string, now time.Time) error
}

// OperatorControl is what operators need beyond what the API reads from the store by itself. who is the operator's
// name. Whatever changes something appends its event (who, what, why) in the same transaction.
type OperatorControl interface {
	// Hosts lists the hosts that selector chooses ("": all, retired ones too), by id.
	Hosts(ctx context.Context, selector string, now time.Time) ([]operator.Host, error)
	// Host returns one host and its operations, newest first; [store.ErrNotFound] if there is none.
	Host(ctx context.Context, id fleet.HostID, now time.Time) (operator.Host, []fleet.Operation, error)
	// WhyHost says why a host is not updated: the binding constraint.
	WhyHost(ctx context.Context, id fleet.HostID, now time.Time) (operator.Why, error)
	SetHostStatus(ctx context.Context, who string, id fleet.HostID, s fleet.Status, why string, now time.Time) (operator.Host, error)
	// UnfreezeHost records a person's word that only one machine uses the host's certificate now.
	UnfreezeHost(ctx context.Context, who string, id fleet.HostID, why string, now time.Time) (operator.Host, error)

	// PlanRollout says what StartRollout would do, and stores nothing.
	PlanRollout(ctx context.Context, who string, spec operator.RolloutSpec, now time.Time) (operator.Rollout, error)
	// StartRollout starts one. The same operator's key again returns the rollout that it started; an empty key is none.
	StartRollout(ctx context.Context, who string, spec operator.RolloutSpec, key string, now time.Time) (operator.Rollout, error)
	Rollout(ctx context.Context, id string, now time.Time) (operator.Rollout, error)
	Rollouts(ctx context.Context, now time.Time) ([]operator.Rollout, error) // newest first, without Hosts
	ChangeRollout(ctx context.Context, who string, c operator.Change, now time.Time) (operator.Rollout, error)

	Budgets(ctx context.Context, now time.Time) ([]operator.Budget, []operator.GroupUse, error)
	// SetBudget sets one; Limit 0 removes a label's.
	SetBudget(ctx context.Context, who string, b operator.Budget, now time.Time) error

	// MayLift says why the stop must not be lifted now: the state is being rebuilt after a restore, or another control
	// plane is obeyed. Accept says that a person lifts it all the same.
	MayLift(ctx context.Context, now time.Time) error
	Accept()

	// Status never fails: it is what one looks at when the store is sick. Its numbers may then be old.
	Status(now time.Time) operator.Status
}
