package wire

import (
	"google.golang.org/protobuf/types/known/durationpb"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
)

// OperatorHostToProto converts a host as operators see it.
func OperatorHostToProto(h operator.Host) *kwv1.Host {
	p := HostToProto(h.Host)
	p.LastSeen, p.Silent = TimeToProto(h.LastSeen), h.Silent
	if h.Operation != nil {
		p.Operation = OperationToProto(*h.Operation)
	}
	return p
}

// OperatorHostFromProto converts a host as operators see it.
func OperatorHostFromProto(p *kwv1.Host) operator.Host {
	h := operator.Host{Host: HostFromProto(p), LastSeen: TimeFromProto(p.GetLastSeen()), Silent: p.GetSilent()}
	if p.GetOperation() != nil {
		o := OperationFromProto(p.GetOperation())
		h.Operation = &o
	}
	return h
}

// WhyToProto converts why a host is not updated.
func WhyToProto(w operator.Why) *kwv1.WhyHostResponse {
	return &kwv1.WhyHostResponse{Host: string(w.Host), Why: w.Why, Next: w.Next}
}

// WhyFromProto converts why a host is not updated.
func WhyFromProto(p *kwv1.WhyHostResponse) operator.Why {
	return operator.Why{Host: fleet.HostID(p.GetHost()), Why: p.GetWhy(), Next: p.GetNext()}
}

// BudgetToProto converts a budget.
func BudgetToProto(b operator.Budget) *kwv1.Budget {
	return &kwv1.Budget{By: b.By, Limit: int32(b.Limit)}
}

// BudgetFromProto converts a budget.
func BudgetFromProto(p *kwv1.Budget) operator.Budget {
	return operator.Budget{By: p.GetBy(), Limit: int(p.GetLimit())}
}

// GroupUseToProto converts the use of one group's budget.
func GroupUseToProto(u operator.GroupUse) *kwv1.GroupUse {
	return &kwv1.GroupUse{Group: u.Group, Limit: int32(u.Limit), Out: list(u.Out, func(o operator.Out) *kwv1.Out {
		return &kwv1.Out{Host: string(o.Host), Why: o.Why}
	})}
}

// GroupUseFromProto converts the use of one group's budget.
func GroupUseFromProto(p *kwv1.GroupUse) operator.GroupUse {
	return operator.GroupUse{Group: p.GetGroup(), Limit: int(p.GetLimit()), Out: list(p.GetOut(), func(o *kwv1.Out) operator.Out {
		return operator.Out{Host: fleet.HostID(o.GetHost()), Why: o.GetWhy()}
	})}
}

// EventToProto converts one line of the record.
func EventToProto(e operator.Event) *kwv1.Event {
	return &kwv1.Event{
		Seq: e.Seq, At: TimeToProto(e.At), Who: e.Who, Kind: e.Kind, Rollout: e.Rollout, Host: string(e.Host),
		Operation: string(e.Operation), What: e.What, Why: e.Why,
	}
}

// EventFromProto converts one line of the record.
func EventFromProto(p *kwv1.Event) operator.Event {
	return operator.Event{
		Seq: p.GetSeq(), At: TimeFromProto(p.GetAt()), Who: p.GetWho(), Kind: p.GetKind(), Rollout: p.GetRollout(),
		Host: fleet.HostID(p.GetHost()), Operation: fleet.OperationID(p.GetOperation()), What: p.GetWhat(), Why: p.GetWhy(),
	}
}

// IncidentToProto converts an incident.
func IncidentToProto(i operator.Incident) *kwv1.Incident {
	return &kwv1.Incident{
		Id: i.ID, At: TimeToProto(i.At), Rollout: i.Rollout, Kernel: string(i.Kernel), Type: string(i.Type),
		Hosts: list(i.Hosts, text[fleet.HostID]), Saw: i.Saw, Expected: i.Expected, Evidence: i.Evidence, NoEvidence: i.NoEvidence,
		Choices: list(i.Choices, func(c operator.Choice) *kwv1.Choice {
			return &kwv1.Choice{What: c.What, Command: c.Command}
		}),
		ClosedAt: TimeToProto(i.ClosedAt), ClosedWhy: i.ClosedWhy,
	}
}

// IncidentFromProto converts an incident.
func IncidentFromProto(p *kwv1.Incident) operator.Incident {
	return operator.Incident{
		ID: p.GetId(), At: TimeFromProto(p.GetAt()), Rollout: p.GetRollout(), Kernel: fleet.KernelID(p.GetKernel()),
		Type: fleet.HostTypeID(p.GetType()), Hosts: list(p.GetHosts(), from[fleet.HostID]), Saw: p.GetSaw(), Expected: p.GetExpected(),
		Evidence: p.GetEvidence(), NoEvidence: p.GetNoEvidence(),
		Choices: list(p.GetChoices(), func(c *kwv1.Choice) operator.Choice {
			return operator.Choice{What: c.GetWhat(), Command: c.GetCommand()}
		}),
		ClosedAt: TimeFromProto(p.GetClosedAt()), ClosedWhy: p.GetClosedWhy(),
	}
}

// ApprovalToProto converts an approval, without its row's number.
func ApprovalToProto(a operator.Approval) *kwv1.Approval {
	return &kwv1.Approval{
		Kernel: string(a.Kernel), Checksum: a.Checksum, Type: string(a.Type), TypeKeyVersion: int32(a.TypeKeyVersion),
		By: a.By, Evidence: a.Evidence, At: TimeToProto(a.At), Until: TimeToProto(a.Until),
	}
}

// ApprovalFromProto converts an approval, without its row's number.
func ApprovalFromProto(p *kwv1.Approval) operator.Approval {
	return operator.Approval{
		Kernel: fleet.KernelID(p.GetKernel()), Checksum: p.GetChecksum(), Type: fleet.HostTypeID(p.GetType()),
		TypeKeyVersion: int(p.GetTypeKeyVersion()), By: p.GetBy(), Evidence: p.GetEvidence(),
		At: TimeFromProto(p.GetAt()), Until: TimeFromProto(p.GetUntil()),
	}
}

// AccountToProto converts an operator's account.
func AccountToProto(a operator.Account) *kwv1.Operator {
	return &kwv1.Operator{Name: a.Name, Role: string(a.Role), CreatedAt: TimeToProto(a.CreatedAt), ExpiresAt: TimeToProto(a.ExpiresAt)}
}

// AccountFromProto converts an operator's account.
func AccountFromProto(p *kwv1.Operator) operator.Account {
	return operator.Account{
		Name: p.GetName(), Role: operator.Role(p.GetRole()), CreatedAt: TimeFromProto(p.GetCreatedAt()), ExpiresAt: TimeFromProto(p.GetExpiresAt()),
	}
}

// RolloutSpecToProto converts what an operator asks for. A soak of zero is set on the wire: unset means the default.
func RolloutSpecToProto(s operator.RolloutSpec) *kwv1.RolloutSpec {
	p := &kwv1.RolloutSpec{
		Kernel: string(s.Kernel), Selector: s.Selector, Waves: list(s.Waves, func(w int) int32 { return int32(w) }),
		Canaries: int32(s.Canaries), ReturnWithin: DurationToProto(s.ReturnWithin), TrialDeadline: DurationToProto(s.TrialDeadline),
		LeaveOut: list(s.LeaveOut, text[fleet.HostTypeID]), Note: s.Note,
	}
	if s.Soak != nil {
		p.Soak = durationpb.New(*s.Soak)
	}
	return p
}

// RolloutSpecFromProto converts what an operator asks for.
func RolloutSpecFromProto(p *kwv1.RolloutSpec) operator.RolloutSpec {
	s := operator.RolloutSpec{
		Kernel: fleet.KernelID(p.GetKernel()), Selector: p.GetSelector(), Waves: list(p.GetWaves(), func(w int32) int { return int(w) }),
		Canaries: int(p.GetCanaries()), ReturnWithin: DurationFromProto(p.GetReturnWithin()), TrialDeadline: DurationFromProto(p.GetTrialDeadline()),
		LeaveOut: list(p.GetLeaveOut(), from[fleet.HostTypeID]), Note: p.GetNote(),
	}
	if p.GetSoak() != nil {
		d := DurationFromProto(p.GetSoak())
		s.Soak = &d
	}
	return s
}

func text[S ~string](s S) string { return string(s) }
func from[S ~string](s string) S { return S(s) }
