package wire

import (
	"errors"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
)

// ReportToProto converts what a host says at a check-in.
func ReportToProto(r fleet.Report) *kwv1.CheckInRequest {
	req := &kwv1.CheckInRequest{
		Host: string(r.Host), Now: HostStateToProto(r.Now), FactsHash: r.FactsHash,
		Operation: OperationReportToProto(r.Operation), Seen: IncarnationToProto(r.Seen),
		Seq: r.Seq, Answered: r.Answered, Copied: r.Copied,
	}
	if r.Facts != nil {
		req.Facts = FactsToProto(*r.Facts)
	}
	if r.History != nil {
		req.History = &kwv1.JournalHistory{Ended: list(r.History.Ended, func(v fleet.OperationReport) *kwv1.OperationReport {
			return OperationReportToProto(&v)
		})}
	}
	return req
}

// ReportFromProto converts what a host says at a check-in.
func ReportFromProto(p *kwv1.CheckInRequest) fleet.Report {
	r := fleet.Report{
		Host: fleet.HostID(p.GetHost()), Now: HostStateFromProto(p.GetNow()), FactsHash: p.GetFactsHash(),
		Operation: OperationReportFromProto(p.GetOperation()), Seen: IncarnationFromProto(p.GetSeen()),
		Seq: p.GetSeq(), Answered: p.GetAnswered(), Copied: p.GetCopied(),
	}
	if p.GetFacts() != nil {
		f := FactsFromProto(p.GetFacts())
		r.Facts = &f
	}
	if p.GetHistory() != nil {
		r.History = &fleet.History{Ended: list(p.GetHistory().GetEnded(), func(v *kwv1.OperationReport) fleet.OperationReport {
			if v == nil { // cannot come over the wire; a caller in the same process could make one
				v = &kwv1.OperationReport{}
			}
			return *OperationReportFromProto(v)
		})}
	}
	return r
}

// OperationReportToProto converts what a journal says; nil stays nil.
func OperationReportToProto(v *fleet.OperationReport) *kwv1.OperationReport {
	if v == nil {
		return nil
	}
	return &kwv1.OperationReport{
		Id: string(v.ID), Kind: string(v.Kind), Kernel: string(v.Kernel), Release: v.Release, Phase: string(v.Phase),
		FromRelease: v.FromRelease, FromBootId: v.FromBootID, Problem: ProblemToProto(v.Problem),
		Trial: TrialToProto(v.Trial), PhaseAge: DurationToProto(v.PhaseAge), Owner: v.Owner, Stage: int32(v.Stage),
	}
}

// OperationReportFromProto converts what a journal says; nil stays nil.
func OperationReportFromProto(p *kwv1.OperationReport) *fleet.OperationReport {
	if p == nil {
		return nil
	}
	return &fleet.OperationReport{
		ID: fleet.OperationID(p.GetId()), Kind: fleet.Kind(p.GetKind()), Kernel: fleet.KernelID(p.GetKernel()),
		Release: p.GetRelease(), Phase: fleet.Phase(p.GetPhase()), FromRelease: p.GetFromRelease(),
		FromBootID: p.GetFromBootId(), Problem: ProblemFromProto(p.GetProblem()), Trial: TrialFromProto(p.GetTrial()),
		PhaseAge: DurationFromProto(p.GetPhaseAge()), Owner: p.GetOwner(), Stage: int(p.GetStage()),
	}
}

// DesiredToProto converts the answer to a check-in.
func DesiredToProto(d fleet.Desired) *kwv1.CheckInResponse {
	return &kwv1.CheckInResponse{
		From: IncarnationToProto(d.From), ServerTime: TimeToProto(d.ServerTime),
		CheckInAfter: DurationToProto(d.CheckInAfter), WantFacts: d.WantFacts,
		Operation: DesiredOperationToProto(d.Operation), RenewCertificate: d.RenewCertificate, WantHistory: d.WantHistory,
		Answer: d.Answer, Again: d.Again,
	}
}

// DesiredFromProto converts the answer to a check-in.
func DesiredFromProto(p *kwv1.CheckInResponse) fleet.Desired {
	return fleet.Desired{
		From: IncarnationFromProto(p.GetFrom()), ServerTime: TimeFromProto(p.GetServerTime()),
		CheckInAfter: DurationFromProto(p.GetCheckInAfter()), WantFacts: p.GetWantFacts(),
		Operation: DesiredOperationFromProto(p.GetOperation()), RenewCertificate: p.GetRenewCertificate(), WantHistory: p.GetWantHistory(),
		Answer: p.GetAnswer(), Again: p.GetAgain(),
	}
}

// DesiredOperationToProto converts an operation as it should go; nil stays nil.
func DesiredOperationToProto(v *fleet.DesiredOperation) *kwv1.DesiredOperation {
	if v == nil {
		return nil
	}
	p := &kwv1.DesiredOperation{
		Id: string(v.ID), Kind: string(v.Kind), Kernel: KernelToProto(v.Kernel), Word: string(v.Word),
		WordWhy: v.WordWhy, TrialDeadline: DurationToProto(v.TrialDeadline),
		Owner: v.Owner, Stage: int32(v.Stage),
	}
	if v.Grant != nil {
		p.Grant = &kwv1.Grant{Id: string(v.Grant.ID), Life: DurationToProto(v.Grant.Life)}
	}
	return p
}

// DesiredOperationFromProto converts an operation as it should go; nil stays nil.
func DesiredOperationFromProto(p *kwv1.DesiredOperation) *fleet.DesiredOperation {
	if p == nil {
		return nil
	}
	v := &fleet.DesiredOperation{
		ID: fleet.OperationID(p.GetId()), Kind: fleet.Kind(p.GetKind()), Kernel: KernelFromProto(p.GetKernel()),
		Word: fleet.Word(p.GetWord()), WordWhy: p.GetWordWhy(), TrialDeadline: DurationFromProto(p.GetTrialDeadline()),
		Owner: p.GetOwner(), Stage: int(p.GetStage()),
	}
	if g := p.GetGrant(); g != nil {
		v.Grant = &fleet.Grant{ID: fleet.GrantID(g.GetId()), Life: DurationFromProto(g.GetLife())}
	}
	return v
}

// ConfirmationToProto converts the answer to the last-moment question.
func ConfirmationToProto(c fleet.Confirmation) *kwv1.ConfirmRebootResponse {
	return &kwv1.ConfirmRebootResponse{Yes: c.Yes, WhyNot: c.WhyNot, From: IncarnationToProto(c.From)}
}

// ConfirmationFromProto converts the answer to the last-moment question.
func ConfirmationFromProto(p *kwv1.ConfirmRebootResponse) fleet.Confirmation {
	return fleet.Confirmation{Yes: p.GetYes(), WhyNot: p.GetWhyNot(), From: IncarnationFromProto(p.GetFrom())}
}

// IncarnationToProto converts what orders control planes.
func IncarnationToProto(i fleet.Incarnation) *kwv1.Incarnation {
	return &kwv1.Incarnation{Incarnation: i.Incarnation, Term: i.Term, Instance: i.Instance}
}

// IncarnationFromProto converts what orders control planes.
func IncarnationFromProto(p *kwv1.Incarnation) fleet.Incarnation {
	return fleet.Incarnation{Incarnation: p.GetIncarnation(), Term: p.GetTerm(), Instance: p.GetInstance()}
}

// ErrorToProto converts an error that explains itself into what the API attaches to its answer.
func ErrorToProto(e *fleet.Error) *kwv1.ErrorDetail {
	d := &kwv1.ErrorDetail{Op: e.Op, Host: string(e.Host), Next: e.Next}
	if e.Err != nil {
		d.Why = e.Err.Error()
	}
	return d
}

// ErrorFromProto converts the API's error detail.
func ErrorFromProto(p *kwv1.ErrorDetail) *fleet.Error {
	e := &fleet.Error{Op: p.GetOp(), Host: fleet.HostID(p.GetHost()), Next: p.GetNext()}
	if p.GetWhy() != "" {
		e.Err = errors.New(p.GetWhy())
	}
	return e
}
