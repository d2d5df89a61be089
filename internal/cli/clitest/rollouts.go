package clitest

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/wire"
)

type kernelService struct {
	s *Server
}

func (k *kernelService) AddKernel(_ context.Context, r *connect.Request[kwv1.AddKernelRequest]) (*connect.Response[kwv1.Kernel], error) {
	k.s.mu.Lock()
	defer k.s.mu.Unlock()
	added := wire.KernelFromProto(r.Msg.GetKernel())
	for _, p := range added.Packages {
		if _, ok := k.s.blobs[p.SHA256]; !ok {
			return nil, refuse(connect.CodeFailedPrecondition, "add kernel "+string(added.ID), "", "package "+p.Name+" has not been uploaded", "upload it first")
		}
	}
	for _, have := range k.s.f.Kernels {
		if have.ID == added.ID && have.Checksum() != added.Checksum() {
			return nil, refuse(connect.CodeAlreadyExists, "add kernel "+string(added.ID), "", "there is another kernel of that name", "choose another name with --name")
		}
	}
	added.AddedAt, added.AddedBy = Now, "ada"
	for _, have := range k.s.f.Kernels {
		if have.ID == added.ID {
			return answer(wire.KernelToProto(have))
		}
	}
	k.s.f.Kernels = append(k.s.f.Kernels, added)
	return answer(wire.KernelToProto(added))
}

func (k *kernelService) ListKernels(context.Context, *connect.Request[kwv1.ListKernelsRequest]) (*connect.Response[kwv1.ListKernelsResponse], error) {
	k.s.mu.Lock()
	defer k.s.mu.Unlock()
	res := &kwv1.ListKernelsResponse{}
	for _, kernel := range k.s.f.Kernels {
		res.Kernels = append(res.Kernels, wire.KernelToProto(kernel))
	}
	for _, a := range k.s.f.Approvals {
		res.Approvals = append(res.Approvals, wire.ApprovalToProto(a))
	}
	return answer(res)
}

type rolloutService struct {
	s *Server
}

// plan makes a rollout of what it is asked, over the whole fleet: the first host of each type is its canary.
func (r *rolloutService) plan(p *kwv1.RolloutSpec) (operator.Rollout, error) {
	spec := wire.RolloutSpecFromProto(p)
	for _, k := range r.s.f.Kernels {
		if k.ID == spec.Kernel {
			return planOf(r.s.f.Hosts, k, spec), nil
		}
	}
	return operator.Rollout{}, refuse(connect.CodeNotFound, "plan rollout", "", fmt.Sprintf("there is no kernel %q", spec.Kernel), "kernwave kernel list")
}

func (r *rolloutService) PlanRollout(_ context.Context, q *connect.Request[kwv1.PlanRolloutRequest]) (*connect.Response[kwv1.Rollout], error) {
	plan, err := r.plan(q.Msg.GetSpec())
	if err != nil {
		return nil, err
	}
	return answer(wire.RolloutToProto(plan))
}

func (r *rolloutService) StartRollout(_ context.Context, q *connect.Request[kwv1.StartRolloutRequest]) (*connect.Response[kwv1.Rollout], error) {
	plan, err := r.plan(q.Msg.GetSpec())
	if err != nil {
		return nil, err
	}
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	key := q.Msg.GetIdempotencyKey()
	if key == "" {
		return nil, refuse(connect.CodeInvalidArgument, "start rollout", "", "no idempotency key", "send one")
	}
	if r.s.starts[key] == "" {
		r.s.starts[key] = fmt.Sprintf("r-%d", 8+len(r.s.starts))
	}
	plan.ID, plan.Status, plan.StartedBy, plan.StartedAt = r.s.starts[key], "running", "ada", Now
	return answer(wire.RolloutToProto(plan))
}

func (r *rolloutService) GetRollout(_ context.Context, q *connect.Request[kwv1.GetRolloutRequest]) (*connect.Response[kwv1.Rollout], error) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.s.questions++
	if n := r.s.questions; n >= r.s.f.AwayFrom && n < r.s.f.AwayTo {
		return nil, refuse(connect.CodeUnavailable, "show the rollout", "", "the control plane is starting", "wait a moment")
	}
	v, err := r.find(q.Msg.GetId())
	if err != nil {
		return nil, err
	}
	r.s.asked[v.ID]++
	return answer(wire.RolloutToProto(v))
}

// find gives the version of a rollout that it has got to.
func (r *rolloutService) find(id string) (operator.Rollout, error) {
	for _, versions := range r.s.f.Rollouts {
		if versions[0].ID == id {
			return versions[min(r.s.asked[id], len(versions)-1)], nil
		}
	}
	return operator.Rollout{}, refuse(connect.CodeNotFound, "find rollout "+id, "", "there is no such rollout", "check the name")
}

func (r *rolloutService) ListRollouts(context.Context, *connect.Request[kwv1.ListRolloutsRequest]) (*connect.Response[kwv1.ListRolloutsResponse], error) {
	res := &kwv1.ListRolloutsResponse{}
	for _, versions := range r.s.f.Rollouts {
		v := versions[0]
		v.Hosts = nil
		res.Rollouts = append(res.Rollouts, wire.RolloutToProto(v))
	}
	return answer(res)
}

func (r *rolloutService) ChangeRollout(_ context.Context, q *connect.Request[kwv1.ChangeRolloutRequest]) (*connect.Response[kwv1.Rollout], error) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	v, err := r.find(q.Msg.GetId())
	if err != nil {
		return nil, err
	}
	switch action := q.Msg.GetAction(); action {
	case operator.ActionPause:
		v.Status, v.StatusWhy, v.Next = "paused", prefixed("paused by ada", q.Msg.GetWhy()), "someone to resume or abort it"
	case operator.ActionResume:
		if v.Status != "paused" {
			return nil, refuse(connect.CodeFailedPrecondition, "resume rollout "+v.ID, "", "it is "+v.Status+", not paused", "kernwave rollout status "+v.ID)
		}
		v.Status, v.StatusWhy = "running", ""
	case operator.ActionAbort:
		v.Status, v.StatusWhy, v.Next = "aborting", prefixed("aborted by ada", q.Msg.GetWhy()), "2 hosts to come back"
	case operator.ActionRollback:
		v.Status, v.StatusWhy, v.Next = "rolling-back", prefixed("rolled back by ada", q.Msg.GetWhy()), "the first host to go back"
	case operator.ActionRetry, operator.ActionSkip:
		if !contains(v, fleet.HostID(q.Msg.GetHost())) {
			return nil, refuse(connect.CodeNotFound, action+" host "+q.Msg.GetHost(), "", "it is not part of rollout "+v.ID, "check the name")
		}
	case operator.ActionLeaveOut:
		for _, t := range v.Types {
			if string(t.ID) == q.Msg.GetType() {
				return answer(wire.RolloutToProto(v))
			}
		}
		return nil, refuse(connect.CodeNotFound, "leave out type "+q.Msg.GetType(), "", "it is not part of rollout "+v.ID, "check the name")
	}
	return answer(wire.RolloutToProto(v))
}

func prefixed(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + why
}

func contains(r operator.Rollout, id fleet.HostID) bool {
	for _, h := range r.Hosts {
		if h.ID == id {
			return true
		}
	}
	return false
}
