package api

import (
	"math"
	"net/http/httptrace"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	rpc "github.com/kernwave/kernwave/api/gen/kernwave/v1/kernwavev1connect"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/wire"
)

// TestSupersededShowsHostsOut: over the connection that a host has, it would never hear of the newer control plane.
func TestSupersededShowsHostsOut(t *testing.T) {
	w := serve(t, nil)
	agent := w.agent(w.enrol("web-1"))
	reused := func() (yes bool) {
		t.Helper()
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { yes = c.Reused }})
		if _, err := agent.CheckIn(ctx, connect.NewRequest(checkIn("web-1"))); err != nil {
			t.Fatal(err)
		}
		return yes
	}
	if reused() || !reused() {
		t.Error("a connection is not kept")
	}
	w.ctl.mu.Lock()
	w.ctl.superseded = "host web-2 has obeyed another control plane"
	w.ctl.mu.Unlock()
	reused() // hears that it is to go
	for range 3 {
		if reused() {
			t.Error("stays with a control plane that is superseded")
		}
	}
}

func TestCheckInReachesControl(t *testing.T) {
	w := serve(t, nil)
	m := w.enrol("web-1")
	w.ctl.desired = fleet.Desired{From: fleet.Incarnation{Incarnation: 1, Term: 2, Instance: "i"}, CheckInAfter: 2 * time.Second, WantFacts: true}
	for name, opts := range map[string][]connect.ClientOption{
		"Connect": nil, "gRPC": {connect.WithGRPC()}, "JSON": {connect.WithProtoJSON()},
	} {
		t.Run(name, func(t *testing.T) {
			agent := rpc.NewAgentServiceClient(w.client(m.tls(), ""), w.url, opts...)
			req := checkIn("web-1")
			req.Facts = wire.FactsToProto(fleet.Facts{Arch: "amd64", NICs: []fleet.NIC{{Name: "b"}, {Name: "a"}}})
			res, err := agent.CheckIn(t.Context(), connect.NewRequest(req))
			if err != nil {
				t.Fatal(err)
			}
			got := w.ctl.reports[len(w.ctl.reports)-1]
			if got.Host != "web-1" || got.Now.BootID != "b" || got.Facts == nil || got.Facts.NICs[0].Name != "a" {
				t.Errorf("control heard %+v", got)
			}
			if d := wire.DesiredFromProto(res.Msg); d.From != w.ctl.desired.From || d.CheckInAfter != 2*time.Second || !d.WantFacts {
				t.Errorf("the agent heard %+v", d)
			}
			answer, err := agent.ConfirmReboot(t.Context(), connect.NewRequest(&kwv1.ConfirmRebootRequest{Host: "web-1", Operation: "o-1", Grant: "g-1"}))
			if err != nil || answer.Msg.GetYes() || answer.Msg.GetWhyNot() != "fake" {
				t.Errorf("the last-moment question: %v, %v", answer, err)
			}
		})
	}
	if !slices.Contains(w.ctl.calls, "confirm web-1 o-1 g-1") {
		t.Errorf("control heard %v", w.ctl.calls)
	}
}

func TestAgentRefusals(t *testing.T) {
	w := serve(t, nil)
	m := w.enrol("web-1")
	w.enrol("web-2")
	foreignCA, err := OpenCA(t.TempDir(), t0, cryptoRand)
	if err != nil {
		t.Fatal(err)
	}
	foreign := newMachine(t, "web-1")
	cert, err := foreignCA.SignHost("web-1", &foreign.key.PublicKey, t0, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	foreign.cert = cert.Raw

	calls := w.ctl.count()
	with := func(change func(*kwv1.CheckInRequest)) *kwv1.CheckInRequest {
		req := checkIn("web-1")
		change(req)
		return req
	}
	operation := func(change func(*kwv1.OperationReport)) *kwv1.CheckInRequest {
		return with(func(r *kwv1.CheckInRequest) {
			r.Operation = &kwv1.OperationReport{Id: "o-1", Phase: "trial", Trial: &kwv1.Trial{Checks: []*kwv1.Check{{Name: "c"}}}}
			change(r.Operation)
		})
	}
	long := strings.Repeat("x", maxFacts)
	for _, c := range []struct {
		name string
		m    *machine
		req  *kwv1.CheckInRequest
		code connect.Code
		why  string
	}{
		{"another host's certificate", m, checkIn("web-2"), connect.CodePermissionDenied, "this certificate speaks for web-1 only"},
		{"no host", m, checkIn(""), connect.CodeInvalidArgument, "names no host"},
		{"another CA's certificate", foreign, checkIn("web-1"), connect.CodeUnauthenticated, "not one that this control plane gave"},
		{"no state", m, &kwv1.CheckInRequest{Host: "web-1"}, connect.CodeInvalidArgument, "how it is now"},
		{"huge facts", m, with(func(r *kwv1.CheckInRequest) { r.Facts = &kwv1.Facts{Arch: long} }), connect.CodeInvalidArgument, "its facts take"},
		{"a huge report", m, with(func(r *kwv1.CheckInRequest) { r.Now.Parked = long }), connect.CodeInvalidArgument, "its report takes"},
		{"a bad label", m, with(func(r *kwv1.CheckInRequest) { r.Facts = &kwv1.Facts{Labels: map[string]string{"a b": "c"}} }), connect.CodeInvalidArgument, "character ' '"},
		{"a negative uptime", m, with(func(r *kwv1.CheckInRequest) { r.Now.Uptime = durationpb.New(-1) }), connect.CodeInvalidArgument, "negative"},
		{"a negative age", m, operation(func(o *kwv1.OperationReport) { o.PhaseAge = durationpb.New(-1) }), connect.CodeInvalidArgument, "negative"},
		{"a boot time that is no number", m, operation(func(o *kwv1.OperationReport) { o.Trial.BootSec = math.NaN() }), connect.CodeInvalidArgument, "seconds"},
		{"a check's time that never ends", m, operation(func(o *kwv1.OperationReport) { o.Trial.Checks[0].Sec = math.Inf(1) }), connect.CodeInvalidArgument, "seconds"},
		{"an operation without an id", m, operation(func(o *kwv1.OperationReport) { o.Id = "" }), connect.CodeInvalidArgument, "no id"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := w.agent(c.m).CheckIn(t.Context(), connect.NewRequest(c.req))
			refused(t, err, c.code, c.why)
		})
	}
	_, err = rpc.NewAgentServiceClient(w.client(nil, ""), w.url).CheckIn(t.Context(), connect.NewRequest(checkIn("web-1")))
	refused(t, err, connect.CodeUnauthenticated, "no host's certificate")
	_, err = rpc.NewAgentServiceClient(w.client(nil, w.admin), w.url).CheckIn(t.Context(), connect.NewRequest(checkIn("web-1")))
	refused(t, err, connect.CodeUnauthenticated, "an operator's token does not speak for a host")
	_, err = w.agent(m).ConfirmReboot(t.Context(), connect.NewRequest(&kwv1.ConfirmRebootRequest{Host: "web-2", Operation: "o", Grant: "g"}))
	refused(t, err, connect.CodePermissionDenied, "speaks for web-1 only")
	_, err = w.agent(m).ConfirmReboot(t.Context(), connect.NewRequest(&kwv1.ConfirmRebootRequest{Host: "web-1"}))
	refused(t, err, connect.CodeInvalidArgument, "must be named")
	if n := w.ctl.count(); n != calls {
		t.Errorf("control heard of what was refused: %v", w.ctl.calls[calls:])
	}
	d := detail(t, func() error {
		_, err := w.agent(m).CheckIn(t.Context(), connect.NewRequest(checkIn("web-2")))
		return err
	}())
	if d.GetHost() != "web-2" {
		t.Errorf("the refusal is about %q, want web-2", d.GetHost())
	}
}

func TestLongEvidenceKeepsItsEnd(t *testing.T) {
	w := serve(t, nil)
	m := w.enrol("web-1")
	req := checkIn("web-1")
	req.Operation = &kwv1.OperationReport{Id: "o-1", Problem: &kwv1.Problem{Evidence: strings.Repeat("ä", 20_000) + "end of the panic"}}
	if _, err := w.agent(m).CheckIn(t.Context(), connect.NewRequest(req)); err != nil {
		t.Fatal(err)
	}
	got := w.ctl.reports[0].Operation.Problem.Evidence
	if len(got) > maxEvidence || !strings.HasSuffix(got, "end of the panic") || !strings.HasPrefix(got, "[…]") {
		t.Errorf("%d bytes are left: %.20q … %q", len(got), got, got[len(got)-20:])
	}
}

func TestHostsMayNotDoWhatOperatorsDo(t *testing.T) {
	w := serve(t, nil)
	m := w.enrol("web-1")
	_, err := rpc.NewFleetServiceClient(w.client(m.tls(), ""), w.url).ListHosts(t.Context(), connect.NewRequest(&kwv1.ListHostsRequest{}))
	refused(t, err, connect.CodeUnauthenticated, "no operator's token")
}

func TestControlsErrorsReachTheCaller(t *testing.T) {
	w := serve(t, nil)
	m := w.enrol("web-1")
	for _, c := range []struct {
		name string
		err  error
		code connect.Code
		why  string
	}{
		{"an explained refusal", &fleet.Error{Op: "check in", Host: "web-1", Err: operator.Refuse(operator.ErrState, errWhy), Next: "do it"}, connect.CodeFailedPrecondition, "because"},
		{"one of no sort", &fleet.Error{Op: "check in", Err: errWhy, Next: "do it"}, connect.CodeFailedPrecondition, "because"},
		{"not found", operator.Refuse(operator.ErrNotFound, errWhy), connect.CodeNotFound, "because"},
		{"ours", errWhy, connect.CodeInternal, "because"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.ctl.err = c.err
			_, err := w.agent(m).CheckIn(t.Context(), connect.NewRequest(checkIn("web-1")))
			refused(t, err, c.code, c.why)
		})
	}
}
