package api

import (
	"context"
	"crypto/x509"
	"fmt"
	"math/big"
	"time"

	"connectrpc.com/connect"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	rpc "github.com/kernwave/kernwave/api/gen/kernwave/v1/kernwavev1connect"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/wire"
)

// Direct is the API by function call: the same gate, handlers and wire types as on the port, without sockets, TLS, CA
// and packages. Simulations drive a control plane with it. Who calls is believed.
type Direct struct{ s *Server }

// NewDirect makes one over a store that has begun. cfg.Dir is not looked at.
func NewDirect(ctx context.Context, cfg Config, p Parts) (*Direct, error) {
	cfg.setDefaults()
	if p.Now == nil {
		p.Now = time.Now
	}
	if p.Rand == nil {
		p.Rand = cryptoRand
	}
	s := &Server{cfg: cfg, Parts: p, operators: &accounts{}, hosts: &hostGate{}, learned: &learned{}, said: &said{}, ca: &authorities{}}
	if err := s.hosts.load(ctx, p.Store); err != nil {
		return nil, err
	}
	return &Direct{s}, nil
}

// Client is a host with its certificate, as far as handlers look at it.
type Client struct{ caller caller }

// NewClient makes one.
func NewClient(host fleet.HostID, serial int64, notBefore, notAfter time.Time) Client {
	return Client{caller{host: host, cert: &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: notBefore, NotAfter: notAfter}}}
}

// call takes one request through the gate of its procedure and then through what every handler's answer goes through.
func call[Req, Res any](ctx context.Context, d *Direct, procedure string, c caller, msg *Req,
	handler func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error),
) (*Res, error) {
	p := procedures[procedure]
	if err := d.admit(p, c); err != nil {
		return nil, err
	}
	ctx = context.WithValue(ctx, callerKey{}, c)
	res, err := handler(ctx, connect.NewRequest(msg))
	if err != nil {
		d.s.note(ctx, procedure, err)
		return nil, refusal(p.op, err)
	}
	return res.Msg, nil
}

func (d *Direct) admit(p procedure, c caller) error {
	switch {
	case p.who == whoHost && c.host != "":
		return d.s.hosts.admit(p.op, c.host, serialOf(c.cert))
	case p.who == whoOperator && c.account.Role.May(p.role):
		return nil
	}
	return refuse(errForbidden, p.op, c.host, fmt.Sprintf("%s may not do this", c.account.Role), "ask an admin")
}

// CheckIn is AgentService.CheckIn.
func (d *Direct) CheckIn(ctx context.Context, c Client, r fleet.Report) (fleet.Desired, error) {
	res, err := call(ctx, d, rpc.AgentServiceCheckInProcedure, c.caller, wire.ReportToProto(r), agentService{d.s}.CheckIn)
	return wire.DesiredFromProto(res), err
}

// ConfirmReboot is AgentService.ConfirmReboot. host is whom the request names.
func (d *Direct) ConfirmReboot(ctx context.Context, c Client, host fleet.HostID, id fleet.OperationID, g fleet.GrantID) (fleet.Confirmation, error) {
	res, err := call(ctx, d, rpc.AgentServiceConfirmRebootProcedure, c.caller,
		&kwv1.ConfirmRebootRequest{Host: string(host), Operation: string(id), Grant: string(g)}, agentService{d.s}.ConfirmReboot)
	return wire.ConfirmationFromProto(res), err
}

// StartRollout is RolloutService.StartRollout.
func (d *Direct) StartRollout(ctx context.Context, who operator.Account, spec operator.RolloutSpec, key string) (operator.Rollout, error) {
	res, err := call(ctx, d, rpc.RolloutServiceStartRolloutProcedure, caller{account: who},
		&kwv1.StartRolloutRequest{Spec: wire.RolloutSpecToProto(spec), IdempotencyKey: key}, rolloutService{d.s}.StartRollout)
	return wire.RolloutFromProto(res), err
}

// ChangeRollout is RolloutService.ChangeRollout.
func (d *Direct) ChangeRollout(ctx context.Context, who operator.Account, c operator.Change) (operator.Rollout, error) {
	res, err := call(ctx, d, rpc.RolloutServiceChangeRolloutProcedure, caller{account: who},
		&kwv1.ChangeRolloutRequest{Id: c.Rollout, Action: c.Action, Host: string(c.Host), Type: string(c.Type), Why: c.Why}, rolloutService{d.s}.ChangeRollout)
	return wire.RolloutFromProto(res), err
}

// GetRollout is RolloutService.GetRollout.
func (d *Direct) GetRollout(ctx context.Context, who operator.Account, id string) (operator.Rollout, error) {
	res, err := call(ctx, d, rpc.RolloutServiceGetRolloutProcedure, caller{account: who}, &kwv1.GetRolloutRequest{Id: id}, rolloutService{d.s}.GetRollout)
	return wire.RolloutFromProto(res), err
}

// SetHostStatus is FleetService.SetHostStatus.
func (d *Direct) SetHostStatus(ctx context.Context, who operator.Account, id fleet.HostID, s fleet.Status, why string) error {
	_, err := call(ctx, d, rpc.FleetServiceSetHostStatusProcedure, caller{account: who},
		&kwv1.SetHostStatusRequest{Id: string(id), Status: string(s), Why: why}, fleetService{d.s}.SetHostStatus)
	return err
}

// SetBudget is FleetService.SetBudget.
func (d *Direct) SetBudget(ctx context.Context, who operator.Account, b operator.Budget) error {
	_, err := call(ctx, d, rpc.FleetServiceSetBudgetProcedure, caller{account: who},
		&kwv1.SetBudgetRequest{Budget: wire.BudgetToProto(b)}, fleetService{d.s}.SetBudget)
	return err
}

// Stop is FleetService.Stop. Warnings say what behind the stop did not work.
func (d *Direct) Stop(ctx context.Context, who operator.Account, why string) (warnings []string, err error) {
	res, err := call(ctx, d, rpc.FleetServiceStopProcedure, caller{account: who}, &kwv1.StopRequest{Why: why}, fleetService{d.s}.Stop)
	return res.GetWarnings(), err
}

// LiftStop is FleetService.LiftStop.
func (d *Direct) LiftStop(ctx context.Context, who operator.Account, why string) error {
	_, err := call(ctx, d, rpc.FleetServiceLiftStopProcedure, caller{account: who}, &kwv1.LiftStopRequest{Why: why}, fleetService{d.s}.LiftStop)
	return err
}
