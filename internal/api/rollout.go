package api

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/wire"
)

// rolloutService passes rollouts to the control plane; it checks only their form.
type rolloutService struct{ *Server }

// maxSpec bounds the lists and texts of a rollout's spec.
const maxSpec = 1000

// PlanRollout says what a rollout would do.
func (s rolloutService) PlanRollout(ctx context.Context, req *connect.Request[kwv1.PlanRolloutRequest]) (*connect.Response[kwv1.Rollout], error) {
	spec, err := readSpec("plan the rollout", req.Msg.GetSpec())
	if err != nil {
		return nil, err
	}
	return rolloutAnswer(s.Control.PlanRollout(ctx, callerOf(ctx).account.Name, spec, s.Now()))
}

// StartRollout starts one.
func (s rolloutService) StartRollout(ctx context.Context, req *connect.Request[kwv1.StartRolloutRequest]) (*connect.Response[kwv1.Rollout], error) {
	const op = "start the rollout"
	spec, err := readSpec(op, req.Msg.GetSpec())
	if err != nil {
		return nil, err
	}
	if n := len(req.Msg.GetIdempotencyKey()); n > 200 {
		return nil, refuse(operator.ErrInvalid, op, "", fmt.Sprintf("the idempotency key has %d characters, at most 200 are kept", n), "use a shorter one")
	}
	r, err := s.Control.StartRollout(ctx, callerOf(ctx).account.Name, spec, req.Msg.GetIdempotencyKey(), s.Now())
	s.Control.Poke()
	return rolloutAnswer(r, err)
}

// GetRollout shows one with its hosts.
func (s rolloutService) GetRollout(ctx context.Context, req *connect.Request[kwv1.GetRolloutRequest]) (*connect.Response[kwv1.Rollout], error) {
	return rolloutAnswer(s.Control.Rollout(ctx, req.Msg.GetId(), s.Now()))
}

// ListRollouts lists them, newest first.
func (s rolloutService) ListRollouts(ctx context.Context, _ *connect.Request[kwv1.ListRolloutsRequest]) (*connect.Response[kwv1.ListRolloutsResponse], error) {
	rs, err := s.Control.Rollouts(ctx, s.Now())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&kwv1.ListRolloutsResponse{Rollouts: list(rs, wire.RolloutToProto)}), nil
}

// ChangeRollout does one of the actions.
func (s rolloutService) ChangeRollout(ctx context.Context, req *connect.Request[kwv1.ChangeRolloutRequest]) (*connect.Response[kwv1.Rollout], error) {
	const op = "change the rollout"
	m := req.Msg
	c := operator.Change{Rollout: m.GetId(), Action: m.GetAction(), Host: fleet.HostID(m.GetHost()), Type: fleet.HostTypeID(m.GetType()), Why: m.GetWhy()}
	needsHost, needsType := false, false
	switch c.Action {
	case operator.ActionPause, operator.ActionResume, operator.ActionAbort, operator.ActionRollback:
	case operator.ActionRetry, operator.ActionSkip:
		needsHost = true
	case operator.ActionLeaveOut:
		needsType = true
	default:
		return nil, refuse(operator.ErrInvalid, op, "", fmt.Sprintf("there is no action %q", clip(c.Action, 40)), "use pause, resume, abort, rollback, retry, skip or leave-out")
	}
	switch {
	case needsHost && c.Host == "":
		return nil, refuse(operator.ErrInvalid, op, "", c.Action+" needs a host", "name the host")
	case needsType && c.Type == "":
		return nil, refuse(operator.ErrInvalid, op, "", c.Action+" needs a host type", "name the type; kernwave rollout status lists them")
	case !needsHost && c.Host != "" || !needsType && c.Type != "":
		// "pause for this host only" is not what would happen.
		return nil, refuse(operator.ErrInvalid, op, c.Host, c.Action+" is about the whole rollout, or about something else than what is named", "leave the host or the type out")
	}
	if err := checkWhy(op, c.Why); err != nil {
		return nil, err
	}
	r, err := s.Control.ChangeRollout(ctx, callerOf(ctx).account.Name, c, s.Now())
	s.Control.Poke()
	return rolloutAnswer(r, err)
}

func rolloutAnswer(r operator.Rollout, err error) (*connect.Response[kwv1.Rollout], error) {
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(wire.RolloutToProto(r)), nil
}

func readSpec(op string, p *kwv1.RolloutSpec) (operator.RolloutSpec, error) {
	s := wire.RolloutSpecFromProto(p)
	bad := func(why, next string) (operator.RolloutSpec, error) {
		return operator.RolloutSpec{}, refuse(operator.ErrInvalid, op, "", why, next)
	}
	switch {
	case s.Kernel == "":
		return bad("no kernel is named", "name one; kernwave kernel list shows them")
	case len(s.Selector) > maxSpec || len(s.Note) > maxSpec:
		return bad(fmt.Sprintf("the selector or the note has more than %d characters", maxSpec), "say it shorter")
	case len(s.Waves) > 100 || len(s.LeaveOut) > maxSpec:
		return bad("it has too many waves or types to leave out", "use fewer")
	}
	return s, nil
}
