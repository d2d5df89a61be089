package api

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"connectrpc.com/connect"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/internal/wire"
)

// fleetService is about hosts, budgets, the record, and who may come in. access.go and stop.go have the rest of it.
type fleetService struct{ *Server }

// maxWhy bounds the reasons that people give.
const maxWhy = 1000

// ListHosts lists the hosts that a selector chooses.
func (s fleetService) ListHosts(ctx context.Context, req *connect.Request[kwv1.ListHostsRequest]) (*connect.Response[kwv1.ListHostsResponse], error) {
	hosts, err := s.Control.Hosts(ctx, req.Msg.GetSelector(), s.Now())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&kwv1.ListHostsResponse{Hosts: list(hosts, wire.OperatorHostToProto)}), nil
}

// GetHost shows one host and its operations.
func (s fleetService) GetHost(ctx context.Context, req *connect.Request[kwv1.GetHostRequest]) (*connect.Response[kwv1.GetHostResponse], error) {
	id, err := hostID("show the host", req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	h, ops, err := s.Control.Host(ctx, id, s.Now())
	if err != nil {
		return nil, aboutHost("show the host", id, err)
	}
	return connect.NewResponse(&kwv1.GetHostResponse{Host: wire.OperatorHostToProto(h), Operations: list(ops, wire.OperationToProto)}), nil
}

// WhyHost says why a host is not updated.
func (s fleetService) WhyHost(ctx context.Context, req *connect.Request[kwv1.WhyHostRequest]) (*connect.Response[kwv1.WhyHostResponse], error) {
	id, err := hostID("say why the host is not updated", req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	why, err := s.Control.WhyHost(ctx, id, s.Now())
	if err != nil {
		return nil, aboutHost("say why the host is not updated", id, err)
	}
	return connect.NewResponse(wire.WhyToProto(why)), nil
}

// SetHostStatus takes a host in, out, or retires it.
func (s fleetService) SetHostStatus(ctx context.Context, req *connect.Request[kwv1.SetHostStatusRequest]) (*connect.Response[kwv1.Host], error) {
	const op = "change the host's status"
	id, err := hostID(op, req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	status := fleet.Status(req.Msg.GetStatus())
	switch status {
	case fleet.StatusActive, fleet.StatusMaintenance, fleet.StatusRetired:
	default:
		return nil, refuse(operator.ErrInvalid, op, id, fmt.Sprintf("there is no status %q", clip(req.Msg.GetStatus(), 40)), "use active, maintenance or retired")
	}
	if err := checkWhy(op, req.Msg.GetWhy()); err != nil {
		return nil, err
	}
	s.hosts.changing.Lock()
	defer s.hosts.changing.Unlock()
	h, err := s.Control.SetHostStatus(ctx, callerOf(ctx).account.Name, id, status, req.Msg.GetWhy(), s.Now())
	if err != nil {
		return nil, aboutHost(op, id, err)
	}
	s.hosts.put(h.Host, nil)
	s.Control.Poke()
	return connect.NewResponse(wire.OperatorHostToProto(h)), nil
}

// UnfreezeHost records a person's word that only one machine uses the host's certificate now.
func (s fleetService) UnfreezeHost(ctx context.Context, req *connect.Request[kwv1.UnfreezeHostRequest]) (*connect.Response[kwv1.Host], error) {
	const op = "unfreeze the host"
	id, err := hostID(op, req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	if err := checkWhy(op, req.Msg.GetWhy()); err != nil {
		return nil, err
	}
	h, err := s.Control.UnfreezeHost(ctx, callerOf(ctx).account.Name, id, req.Msg.GetWhy(), s.Now())
	if err != nil {
		return nil, aboutHost(op, id, err)
	}
	return connect.NewResponse(wire.OperatorHostToProto(h)), nil
}

// ListBudgets lists the budgets and what is used of them.
func (s fleetService) ListBudgets(ctx context.Context, _ *connect.Request[kwv1.ListBudgetsRequest]) (*connect.Response[kwv1.ListBudgetsResponse], error) {
	budgets, use, err := s.Control.Budgets(ctx, s.Now())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&kwv1.ListBudgetsResponse{Budgets: list(budgets, wire.BudgetToProto), Use: list(use, wire.GroupUseToProto)}), nil
}

// SetBudget sets a budget; a limit of 0 removes a label's.
func (s fleetService) SetBudget(ctx context.Context, req *connect.Request[kwv1.SetBudgetRequest]) (*connect.Response[kwv1.Budget], error) {
	const op = "set the budget"
	b := wire.BudgetFromProto(req.Msg.GetBudget())
	label, isLabel := strings.CutPrefix(b.By, operator.BudgetByLabel)
	var labelErr error
	if isLabel {
		labelErr = fleet.Labels{label: ""}.Validate()
	}
	switch {
	case b.By != operator.BudgetByType && !isLabel:
		return nil, refuse(operator.ErrInvalid, op, "", fmt.Sprintf("%q is nothing that hosts share", clip(b.By, 80)), "use type, or label:KEY")
	case labelErr != nil:
		return nil, refuse(operator.ErrInvalid, op, "", labelErr.Error(), "use the key of a label")
	case b.Limit < 0 || b.Limit > 100_000:
		return nil, refuse(operator.ErrInvalid, op, "", fmt.Sprintf("the limit is %d", b.Limit), "use 1 to 100000 hosts; 0 removes a label's budget")
	case b.Limit == 0 && b.By == operator.BudgetByType:
		return nil, refuse(operator.ErrInvalid, op, "", "the budget by type is always there", "use a limit of at least 1; kernwave stop lets nobody out")
	}
	if err := s.Control.SetBudget(ctx, callerOf(ctx).account.Name, b, s.Now()); err != nil {
		return nil, err
	}
	s.Control.Poke()
	return connect.NewResponse(wire.BudgetToProto(b)), nil
}

// maxEvents is the most events in one answer.
const maxEvents = 1000

// ListEvents reads the record.
func (s fleetService) ListEvents(ctx context.Context, req *connect.Request[kwv1.ListEventsRequest]) (*connect.Response[kwv1.ListEventsResponse], error) {
	m := req.Msg
	limit := int(m.GetLimit())
	if limit == 0 {
		limit = 100
	}
	if limit < 0 || limit > maxEvents || m.GetAfter() < 0 {
		return nil, refuse(operator.ErrInvalid, "list the events", "", "after or limit is out of range", fmt.Sprintf("use a limit of 1 to %d, and the seq of an event", maxEvents))
	}
	var events []store.Event
	if err := s.Store.View(ctx, func(r store.Reader) (err error) {
		events, err = r.Events(store.EventQuery{After: m.GetAfter(), Limit: limit, Newest: m.GetNewest(), Rollout: m.GetRollout(), Host: fleet.HostID(m.GetHost())})
		return err
	}); err != nil {
		return nil, err
	}
	return connect.NewResponse(&kwv1.ListEventsResponse{Events: list(events, wire.EventToProto)}), nil
}

// ListIncidents lists what stopped rollouts.
func (s fleetService) ListIncidents(ctx context.Context, req *connect.Request[kwv1.ListIncidentsRequest]) (*connect.Response[kwv1.ListIncidentsResponse], error) {
	var incidents []store.Incident
	if err := s.Store.View(ctx, func(r store.Reader) (err error) {
		incidents, err = r.Incidents(req.Msg.GetAll())
		return err
	}); err != nil {
		return nil, err
	}
	return connect.NewResponse(&kwv1.ListIncidentsResponse{Incidents: list(incidents, wire.IncidentToProto)}), nil
}

// RevokeHost makes a host's certificates worthless.
func (s fleetService) RevokeHost(ctx context.Context, req *connect.Request[kwv1.RevokeHostRequest]) (*connect.Response[kwv1.Host], error) {
	const op = "revoke the host"
	id, err := hostID(op, req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	if err := checkWhy(op, req.Msg.GetWhy()); err != nil {
		return nil, err
	}
	who, now := callerOf(ctx).account.Name, s.Now()
	s.hosts.changing.Lock()
	defer s.hosts.changing.Unlock()
	var host fleet.Host
	var revoked []string
	if err := s.Store.Update(ctx, func(tx store.Tx) (err error) {
		if host, err = tx.Host(id); err != nil {
			return aboutHost(op, id, err)
		}
		host.Revoked = true
		certs, err := tx.CertificatesOf(id)
		if err != nil {
			return err
		}
		for _, c := range certs {
			if !c.RevokedAt.IsZero() {
				continue
			}
			c.RevokedAt, c.RevokedBy = now, who
			if err := tx.PutCertificate(c); err != nil {
				return err
			}
			revoked = append(revoked, c.Serial)
		}
		if err := tx.PutHost(host); err != nil {
			return err
		}
		_, err = tx.AppendEvent(store.Event{
			At: now, Who: who, Kind: "host.revoked", Host: id,
			What: fmt.Sprintf("%s was revoked, with %s", id, count(len(revoked), "certificate")), Why: req.Msg.GetWhy(),
		})
		return err
	}); err != nil {
		return nil, err
	}
	s.hosts.put(host, revoked)
	s.Log.InfoContext(ctx, "host revoked", "host", string(id), "who", who)
	s.Control.Poke()
	return connect.NewResponse(wire.HostToProto(host)), nil
}

func hostID(op, id string) (fleet.HostID, error) {
	h, err := fleet.ParseHostID(id)
	if err != nil {
		return "", refuse(operator.ErrInvalid, op, "", err.Error(), "see kernwave hosts for the names")
	}
	return h, nil
}

// aboutHost explains that there is no such host, where that is all that err says.
func aboutHost(op string, id fleet.HostID, err error) error {
	if _, explained := errors.AsType[*fleet.Error](err); explained || !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return refuse(operator.ErrNotFound, op, id, "there is no such host", "see kernwave hosts for the names")
}

func checkWhy(op, why string) error {
	if len(why) > maxWhy {
		return refuse(operator.ErrInvalid, op, "", fmt.Sprintf("the reason has %d characters, at most %d are kept", len(why), maxWhy), "say it shorter")
	}
	return nil
}

// list converts each element.
func list[A, B any](in []A, f func(A) B) []B {
	out := make([]B, len(in))
	for i, v := range in {
		out[i] = f(v)
	}
	return out
}
