package api

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/wire"
)

// What one host may make the control plane keep.
const (
	maxFacts    = 128 << 10 // encoded; a machine with hundreds of disks says about 40 KiB
	maxReport   = 128 << 10 // encoded, without facts and history
	maxHistory  = 96 << 10  // encoded; see internal/agent/told.go
	maxEvidence = 16 << 10  // of a problem; the end is kept, where panics say why
)

// agentService is for hosts with a valid certificate. The gate has checked it.
type agentService struct{ *Server }

// CheckIn says what is and returns what should be.
func (s agentService) CheckIn(ctx context.Context, req *connect.Request[kwv1.CheckInRequest]) (*connect.Response[kwv1.CheckInResponse], error) {
	const op = "check in"
	c, now := callerOf(ctx), s.Now()
	if err := speaksFor(op, c, req.Msg.GetHost()); err != nil {
		return nil, err
	}
	if err := checkReport(op, c.host, req.Msg); err != nil {
		return nil, err
	}
	report := wire.ReportFromProto(req.Msg)
	if o := report.Operation; o != nil && o.Problem != nil {
		o.Problem.Evidence = tail(o.Problem.Evidence, maxEvidence)
	}
	if report.Facts != nil {
		report.Facts.Normalize()
	}
	d, err := s.Control.CheckIn(ctx, report, now)
	if err != nil {
		return nil, err
	}
	s.said.tell(now)
	s.Metrics.checkedIn(c.host, now)
	life := c.cert.NotAfter.Sub(c.cert.NotBefore) - backdate
	d.RenewCertificate = d.RenewCertificate || c.cert.NotAfter.Sub(now) < life/3 || s.shown(ctx, c, now)
	res := connect.NewResponse(wire.DesiredToProto(d))
	if s.Control.Superseded() != "" {
		// A host that does not know yet of the newer one is shown out: over this connection it would never hear of it.
		res.Header().Set("Connection", "close")
	}
	return res, nil
}

// ConfirmReboot answers the last-moment question.
func (s agentService) ConfirmReboot(ctx context.Context, req *connect.Request[kwv1.ConfirmRebootRequest]) (*connect.Response[kwv1.ConfirmRebootResponse], error) {
	const op = "ask whether to reboot"
	c := callerOf(ctx)
	if err := speaksFor(op, c, req.Msg.GetHost()); err != nil {
		return nil, err
	}
	if req.Msg.GetOperation() == "" || req.Msg.GetGrant() == "" {
		return nil, refuse(operator.ErrInvalid, op, c.host, "the operation and the grant must be named", "report this as a bug in the agent")
	}
	answer, err := s.Control.ConfirmReboot(ctx, c.host, fleet.OperationID(req.Msg.GetOperation()), fleet.GrantID(req.Msg.GetGrant()), s.Now())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(wire.ConfirmationToProto(answer)), nil
}

// Renew gives a new certificate before the old one runs out.
func (s agentService) Renew(ctx context.Context, req *connect.Request[kwv1.RenewRequest]) (*connect.Response[kwv1.EnrolResponse], error) {
	const op = "renew the certificate"
	c := callerOf(ctx)
	key, _, err := readCSR(op, c.host, req.Msg.GetCsrDer())
	if err != nil {
		return nil, err
	}
	return s.issue(ctx, op, c.host, c.cert, key, "host.renewed", "the old one runs out at "+c.cert.NotAfter.UTC().Format(time.RFC3339), s.Now())
}

// speaksFor refuses what one host says about another.
func speaksFor(op string, c caller, host string) error {
	if host == string(c.host) {
		return nil
	}
	if host == "" {
		return refuse(operator.ErrInvalid, op, c.host, "the request names no host", "report this as a bug in the agent")
	}
	return refuse(errForbidden, op, fleet.HostID(clip(host, 63)), "this certificate speaks for "+string(c.host)+" only",
		"use the certificate of the host itself; was the agent's state copied from "+string(c.host)+"?")
}

// checkReport refuses what could not be kept, or not be believed by anyone.
func checkReport(op string, host fleet.HostID, m *kwv1.CheckInRequest) error {
	bad := func(format string, args ...any) error {
		return refuse(operator.ErrInvalid, op, host, fmt.Sprintf(format, args...), "report this as a bug in the agent")
	}
	facts := proto.Size(m.GetFacts())
	if facts > maxFacts {
		return bad("its facts take %d bytes, at most %d are kept", facts, maxFacts)
	}
	history := proto.Size(m.GetHistory())
	if history > maxHistory {
		return bad("its history takes %d bytes, at most %d are kept", history, maxHistory)
	}
	if n := proto.Size(m) - facts - history; n > maxReport {
		return bad("its report takes %d bytes, at most %d are kept", n, maxReport)
	}
	if err := fleet.Labels(m.GetFacts().GetLabels()).Validate(); err != nil {
		return refuse(operator.ErrInvalid, op, host, err.Error(), "mend the labels in /etc/kernwave/agent.yaml")
	}
	if m.GetNow() == nil {
		return bad("it does not say how it is now")
	}
	if m.GetNow().GetUptime().AsDuration() < 0 {
		return bad("a duration is negative")
	}
	ops := m.GetHistory().GetEnded()
	if o := m.GetOperation(); o != nil {
		ops = append(ops[:len(ops):len(ops)], o)
	}
	for _, o := range ops {
		if why := checkOperation(o); why != "" {
			return bad("%s", why)
		}
	}
	return nil
}

func checkOperation(o *kwv1.OperationReport) (why string) {
	trial := o.GetTrial()
	seconds := []float64{trial.GetBootSec()}
	for _, c := range trial.GetChecks() {
		seconds = append(seconds, c.GetSec())
	}
	for _, s := range seconds {
		if math.IsNaN(s) || math.IsInf(s, 0) {
			return "a number of seconds is none"
		}
	}
	switch {
	case o.GetId() == "":
		return "an operation has no id"
	case o.GetPhaseAge().AsDuration() < 0:
		return "a duration is negative"
	}
	return ""
}

// tail keeps the end of s.
func tail(s string, n int) string {
	const cut = "[…]\n"
	if len(s) <= n {
		return s
	}
	return cut + strings.ToValidUTF8(s[len(s)-n+len(cut):], "")
}
