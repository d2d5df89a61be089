package wire

import (
	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
)

// OperationToProto converts one host's change.
func OperationToProto(o fleet.Operation) *kwv1.Operation {
	return &kwv1.Operation{
		Id: string(o.ID), Host: string(o.Host), Kind: string(o.Kind), Kernel: string(o.Kernel), Release: o.Release,
		Owner: o.Owner, Stage: int32(o.Stage), Phase: string(o.Phase), FromRelease: o.FromRelease, FromBootId: o.FromBootID,
		CreatedAt: TimeToProto(o.CreatedAt), PhaseSince: TimeToProto(o.PhaseSince), Word: string(o.Word), WordWhy: o.WordWhy,
		ConfirmedAt: TimeToProto(o.ConfirmedAt), Problem: ProblemToProto(o.Problem), Trial: TrialToProto(o.Trial),
	}
}

// OperationFromProto converts one host's change.
func OperationFromProto(p *kwv1.Operation) fleet.Operation {
	return fleet.Operation{
		ID: fleet.OperationID(p.GetId()), Host: fleet.HostID(p.GetHost()), Kind: fleet.Kind(p.GetKind()),
		Kernel: fleet.KernelID(p.GetKernel()), Release: p.GetRelease(), Owner: p.GetOwner(), Stage: int(p.GetStage()),
		Phase: fleet.Phase(p.GetPhase()), FromRelease: p.GetFromRelease(), FromBootID: p.GetFromBootId(),
		CreatedAt: TimeFromProto(p.GetCreatedAt()), PhaseSince: TimeFromProto(p.GetPhaseSince()),
		Word: fleet.Word(p.GetWord()), WordWhy: p.GetWordWhy(), ConfirmedAt: TimeFromProto(p.GetConfirmedAt()),
		Problem: ProblemFromProto(p.GetProblem()), Trial: TrialFromProto(p.GetTrial()),
	}
}

// ProblemToProto converts a problem; nil stays nil.
func ProblemToProto(v *fleet.Problem) *kwv1.Problem {
	if v == nil {
		return nil
	}
	return &kwv1.Problem{
		Cause: string(v.Cause), What: v.What, Expected: v.Expected,
		Evidence: v.Evidence, NoEvidence: v.NoEvidence, Next: v.Next,
	}
}

// ProblemFromProto converts a problem; nil stays nil.
func ProblemFromProto(p *kwv1.Problem) *fleet.Problem {
	if p == nil {
		return nil
	}
	return &fleet.Problem{
		Cause: fleet.Cause(p.GetCause()), What: p.GetWhat(), Expected: p.GetExpected(),
		Evidence: p.GetEvidence(), NoEvidence: p.GetNoEvidence(), Next: p.GetNext(),
	}
}

// TrialToProto converts what a host saw on the new kernel; nil stays nil.
func TrialToProto(v *fleet.Trial) *kwv1.Trial {
	if v == nil {
		return nil
	}
	return &kwv1.Trial{
		BootId: v.BootID, Release: v.Release, BootSec: v.BootSec,
		Checks: list(v.Checks, func(c fleet.Check) *kwv1.Check {
			return &kwv1.Check{Name: c.Name, Passed: c.Passed, Detail: c.Detail, Sec: c.Sec}
		}),
	}
}

// TrialFromProto converts what a host saw on the new kernel; nil stays nil.
func TrialFromProto(p *kwv1.Trial) *fleet.Trial {
	if p == nil {
		return nil
	}
	return &fleet.Trial{
		BootID: p.GetBootId(), Release: p.GetRelease(), BootSec: p.GetBootSec(),
		Checks: list(p.GetChecks(), func(c *kwv1.Check) fleet.Check {
			return fleet.Check{Name: c.GetName(), Passed: c.GetPassed(), Detail: c.GetDetail(), Sec: c.GetSec()}
		}),
	}
}
