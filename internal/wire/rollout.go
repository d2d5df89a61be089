package wire

import (
	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
)

// RolloutToProto converts a rollout as operators see it.
func RolloutToProto(r operator.Rollout) *kwv1.Rollout {
	return &kwv1.Rollout{
		Id: r.ID, Spec: RolloutSpecToProto(r.Spec), Kernel: KernelToProto(r.Kernel), Status: r.Status, StatusWhy: r.StatusWhy,
		StartedBy: r.StartedBy, StartedAt: TimeToProto(r.StartedAt), EndedAt: TimeToProto(r.EndedAt), Stage: int32(r.Stage),
		Stages: list(r.Stages, stageToProto), Types: list(r.Types, typeToProto), Hosts: list(r.Hosts, rolloutHostToProto),
		Excluded: list(r.Excluded, func(o operator.Out) *kwv1.ExcludedHost {
			return &kwv1.ExcludedHost{Id: string(o.Host), Why: o.Why}
		}),
		Next: r.Next, CanaryRun: r.CanaryRun,
	}
}

// RolloutFromProto converts a rollout as operators see it.
func RolloutFromProto(p *kwv1.Rollout) operator.Rollout {
	return operator.Rollout{
		ID: p.GetId(), Spec: RolloutSpecFromProto(p.GetSpec()), Kernel: KernelFromProto(p.GetKernel()), Status: p.GetStatus(),
		StatusWhy: p.GetStatusWhy(), StartedBy: p.GetStartedBy(), StartedAt: TimeFromProto(p.GetStartedAt()),
		EndedAt: TimeFromProto(p.GetEndedAt()), Stage: int(p.GetStage()),
		Stages: list(p.GetStages(), stageFromProto), Types: list(p.GetTypes(), typeFromProto), Hosts: list(p.GetHosts(), rolloutHostFromProto),
		Excluded: list(p.GetExcluded(), func(e *kwv1.ExcludedHost) operator.Out {
			return operator.Out{Host: fleet.HostID(e.GetId()), Why: e.GetWhy()}
		}),
		Next: p.GetNext(), CanaryRun: p.GetCanaryRun(),
	}
}

func stageToProto(s operator.Stage) *kwv1.Stage {
	return &kwv1.Stage{
		Number: int32(s.Number), Name: s.Name, Percent: int32(s.Percent), Hosts: int32(s.Hosts), Committed: int32(s.Committed),
		BeganAt: TimeToProto(s.BeganAt), SoakUntil: TimeToProto(s.SoakUntil), EndedAt: TimeToProto(s.EndedAt), Skipped: s.Skipped,
	}
}

func stageFromProto(p *kwv1.Stage) operator.Stage {
	return operator.Stage{
		Number: int(p.GetNumber()), Name: p.GetName(), Percent: int(p.GetPercent()), Hosts: int(p.GetHosts()), Committed: int(p.GetCommitted()),
		BeganAt: TimeFromProto(p.GetBeganAt()), SoakUntil: TimeFromProto(p.GetSoakUntil()), EndedAt: TimeFromProto(p.GetEndedAt()),
		Skipped: p.GetSkipped(),
	}
}

func typeToProto(t operator.Type) *kwv1.RolloutType {
	return &kwv1.RolloutType{
		Id: string(t.ID), Description: t.Description, Hosts: int32(t.Hosts), Committed: int32(t.Committed),
		Canaries: list(t.Canaries, text[fleet.HostID]), Approval: t.Approval, LeftOut: t.LeftOut,
	}
}

func typeFromProto(p *kwv1.RolloutType) operator.Type {
	return operator.Type{
		ID: fleet.HostTypeID(p.GetId()), Description: p.GetDescription(), Hosts: int(p.GetHosts()), Committed: int(p.GetCommitted()),
		Canaries: list(p.GetCanaries(), from[fleet.HostID]), Approval: p.GetApproval(), LeftOut: p.GetLeftOut(),
	}
}

func rolloutHostToProto(h operator.RolloutHost) *kwv1.RolloutHost {
	p := &kwv1.RolloutHost{Id: string(h.ID), Type: string(h.Type), Stage: int32(h.Stage), State: h.State, Why: h.Why}
	if h.Operation != nil {
		p.Operation = OperationToProto(*h.Operation)
	}
	return p
}

func rolloutHostFromProto(p *kwv1.RolloutHost) operator.RolloutHost {
	h := operator.RolloutHost{
		ID: fleet.HostID(p.GetId()), Type: fleet.HostTypeID(p.GetType()), Stage: int(p.GetStage()), State: p.GetState(), Why: p.GetWhy(),
	}
	if p.GetOperation() != nil {
		o := OperationFromProto(p.GetOperation())
		h.Operation = &o
	}
	return h
}
