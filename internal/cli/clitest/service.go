package clitest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"path"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/wire"
)

func (s *Server) gate(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		s.mu.Lock()
		hang := s.hang
		s.mu.Unlock()
		if hang {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		who, err := s.allow(req.Header().Get("Authorization"), path.Base(req.Spec().Procedure))
		if err != nil {
			return nil, err
		}
		return next(context.WithValue(ctx, callerKey{}, who), req)
	}
}

// maxBlob bounds what a test uploads.
const maxBlob = 16 << 20

// blob is the store of packages.
func (s *Server) blob(w http.ResponseWriter, r *http.Request) {
	if _, err := s.allow(r.Header.Get("Authorization"), "PutBlob"); err != nil {
		s.blobError(w, err)
		return
	}
	sum := r.PathValue("sum")
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r.Method {
	case http.MethodHead:
		if _, ok := s.blobs[sum]; !ok {
			w.WriteHeader(http.StatusNotFound)
		}
	case http.MethodPut:
		b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBlob))
		if err != nil {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		if got := sha256.Sum256(b); hex.EncodeToString(got[:]) != sum {
			s.blobError(w, refuse(connect.CodeInvalidArgument, "keep a package", "", "its SHA-256 is another", "upload it again"))
			return
		}
		s.blobs[sum] = int64(len(b))
		w.WriteHeader(http.StatusCreated)
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}

func (s *Server) blobError(w http.ResponseWriter, err error) {
	status := map[connect.Code]int{
		connect.CodeUnauthenticated: http.StatusUnauthorized, connect.CodePermissionDenied: http.StatusForbidden,
		connect.CodeUnavailable: http.StatusServiceUnavailable, connect.CodeInvalidArgument: http.StatusBadRequest,
	}[connect.CodeOf(err)]
	detail := &kwv1.ErrorDetail{}
	for _, d := range err.(*connect.Error).Details() { //nolint:errorlint // made by refuse
		if v, verr := d.Value(); verr == nil {
			detail = v.(*kwv1.ErrorDetail)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"op": detail.GetOp(), "why": detail.GetWhy(), "next": detail.GetNext()})
}

// answer wraps a message.
func answer[T any](m *T) (*connect.Response[T], error) { return connect.NewResponse(m), nil }

type fleetService struct {
	s *Server
}

func (f *fleetService) find(id string) (*operator.Host, error) {
	for i, h := range f.s.f.Hosts {
		if string(h.ID) == id {
			return &f.s.f.Hosts[i], nil
		}
	}
	return nil, refuse(connect.CodeNotFound, "find host "+id, "", "there is no such host", "check the name")
}

func (f *fleetService) ListHosts(_ context.Context, r *connect.Request[kwv1.ListHostsRequest]) (*connect.Response[kwv1.ListHostsResponse], error) {
	sel, err := fleet.ParseSelector(r.Msg.GetSelector())
	if err != nil {
		return nil, refuse(connect.CodeInvalidArgument, "list hosts", "", err.Error(), "write it like workload=web")
	}
	res := &kwv1.ListHostsResponse{}
	for _, h := range f.s.f.Hosts {
		if sel.Matches(h.Host) {
			res.Hosts = append(res.Hosts, wire.OperatorHostToProto(h))
		}
	}
	return answer(res)
}

func (f *fleetService) GetHost(_ context.Context, r *connect.Request[kwv1.GetHostRequest]) (*connect.Response[kwv1.GetHostResponse], error) {
	h, err := f.find(r.Msg.GetId())
	if err != nil {
		return nil, err
	}
	res := &kwv1.GetHostResponse{Host: wire.OperatorHostToProto(*h)}
	for _, o := range f.s.f.Operations[h.ID] {
		res.Operations = append(res.Operations, wire.OperationToProto(o))
	}
	return answer(res)
}

func (f *fleetService) WhyHost(_ context.Context, r *connect.Request[kwv1.WhyHostRequest]) (*connect.Response[kwv1.WhyHostResponse], error) {
	h, err := f.find(r.Msg.GetId())
	if err != nil {
		return nil, err
	}
	w, ok := f.s.f.Why[h.ID]
	if !ok {
		w = operator.Why{Host: h.ID, Why: "no rollout selects it", Next: "kernwave rollout plan KERNEL"}
	}
	return answer(wire.WhyToProto(w))
}

func (f *fleetService) SetHostStatus(_ context.Context, r *connect.Request[kwv1.SetHostStatusRequest]) (*connect.Response[kwv1.Host], error) {
	h, err := f.find(r.Msg.GetId())
	if err != nil {
		return nil, err
	}
	changed := *h
	changed.Status, changed.StatusWhy = fleet.Status(r.Msg.GetStatus()), r.Msg.GetWhy()
	return answer(wire.OperatorHostToProto(changed))
}

func (f *fleetService) RevokeHost(_ context.Context, r *connect.Request[kwv1.RevokeHostRequest]) (*connect.Response[kwv1.Host], error) {
	h, err := f.find(r.Msg.GetId())
	if err != nil {
		return nil, err
	}
	changed := *h
	changed.Revoked = true
	return answer(wire.OperatorHostToProto(changed))
}

func (f *fleetService) CreateEnrolToken(_ context.Context, r *connect.Request[kwv1.CreateEnrolTokenRequest]) (*connect.Response[kwv1.CreateEnrolTokenResponse], error) {
	return answer(&kwv1.CreateEnrolTokenResponse{
		Token: "kwe_7f3k2m9q4x8p1w6z", Uses: r.Msg.GetUses(), CaSha256: strings.Repeat("4c1d", 16),
		ExpiresAt: timestamppb.New(Now.Add(r.Msg.GetLife().AsDuration())),
	})
}

func (f *fleetService) CreateOperator(_ context.Context, r *connect.Request[kwv1.CreateOperatorRequest]) (*connect.Response[kwv1.CreateOperatorResponse], error) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	for _, a := range f.s.accounts {
		if a.Name == r.Msg.GetName() {
			return nil, refuse(connect.CodeAlreadyExists, "create operator "+a.Name, "", "there is one of that name", "choose another name, or delete it first")
		}
	}
	f.s.accounts = append(f.s.accounts, operator.Account{Name: r.Msg.GetName(), Role: operator.Role(r.Msg.GetRole()), CreatedAt: Now})
	return answer(&kwv1.CreateOperatorResponse{Token: "kwo_new-0123456789"})
}

func (f *fleetService) ListOperators(context.Context, *connect.Request[kwv1.ListOperatorsRequest]) (*connect.Response[kwv1.ListOperatorsResponse], error) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	res := &kwv1.ListOperatorsResponse{}
	for _, a := range f.s.accounts {
		res.Operators = append(res.Operators, wire.AccountToProto(a))
	}
	return answer(res)
}

func (f *fleetService) DeleteOperator(_ context.Context, r *connect.Request[kwv1.DeleteOperatorRequest]) (*connect.Response[kwv1.DeleteOperatorResponse], error) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	for i, a := range f.s.accounts {
		if a.Name == r.Msg.GetName() {
			f.s.accounts = append(f.s.accounts[:i], f.s.accounts[i+1:]...)
			return answer(&kwv1.DeleteOperatorResponse{})
		}
	}
	return nil, refuse(connect.CodeNotFound, "delete operator "+r.Msg.GetName(), "", "there is no such operator", "check the name")
}

func (f *fleetService) ListBudgets(context.Context, *connect.Request[kwv1.ListBudgetsRequest]) (*connect.Response[kwv1.ListBudgetsResponse], error) {
	res := &kwv1.ListBudgetsResponse{}
	for _, b := range f.s.f.Budgets {
		res.Budgets = append(res.Budgets, wire.BudgetToProto(b))
	}
	for _, u := range f.s.f.Use {
		res.Use = append(res.Use, wire.GroupUseToProto(u))
	}
	return answer(res)
}

func (f *fleetService) SetBudget(_ context.Context, r *connect.Request[kwv1.SetBudgetRequest]) (*connect.Response[kwv1.Budget], error) {
	return answer(r.Msg.GetBudget())
}

func (f *fleetService) ListEvents(_ context.Context, r *connect.Request[kwv1.ListEventsRequest]) (*connect.Response[kwv1.ListEventsResponse], error) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	res := &kwv1.ListEventsResponse{}
	for _, e := range append(append([]operator.Event{}, f.s.f.Events...), f.s.newEvents...) {
		if e.Seq > r.Msg.GetAfter() && (r.Msg.GetRollout() == "" || r.Msg.GetRollout() == e.Rollout) &&
			(r.Msg.GetHost() == "" || r.Msg.GetHost() == string(e.Host)) {
			res.Events = append(res.Events, wire.EventToProto(e))
		}
	}
	if n := int(r.Msg.GetLimit()); n > 0 && len(res.Events) > n {
		if r.Msg.GetNewest() {
			res.Events = res.Events[len(res.Events)-n:]
		} else {
			res.Events = res.Events[:n]
		}
	}
	return answer(res)
}

func (f *fleetService) ListIncidents(_ context.Context, r *connect.Request[kwv1.ListIncidentsRequest]) (*connect.Response[kwv1.ListIncidentsResponse], error) {
	res := &kwv1.ListIncidentsResponse{}
	for _, i := range f.s.f.Incidents {
		if r.Msg.GetAll() || i.ClosedAt.IsZero() {
			res.Incidents = append(res.Incidents, wire.IncidentToProto(i))
		}
	}
	return answer(res)
}

func (f *fleetService) Stop(ctx context.Context, r *connect.Request[kwv1.StopRequest]) (*connect.Response[kwv1.StopResponse], error) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	who, _ := ctx.Value(callerKey{}).(operator.Account)
	f.s.f.Stopped = "stopped by " + who.Name + " at " + Now.Format(time.RFC3339) + ": " + r.Msg.GetWhy()
	res := &kwv1.StopResponse{}
	if f.s.f.StoreError != "" {
		res.Warnings = append(res.Warnings, "the stop is not in the record: "+f.s.f.StoreError)
	}
	return answer(res)
}

func (f *fleetService) LiftStop(context.Context, *connect.Request[kwv1.LiftStopRequest]) (*connect.Response[kwv1.LiftStopResponse], error) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	if f.s.f.Stopped == "" {
		return nil, refuse(connect.CodeFailedPrecondition, "lift the stop", "", "nothing is stopped", "kernwave status")
	}
	f.s.f.Stopped = ""
	return answer(&kwv1.LiftStopResponse{})
}

func (f *fleetService) GetStatus(ctx context.Context, _ *connect.Request[kwv1.GetStatusRequest]) (*connect.Response[kwv1.GetStatusResponse], error) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	who, _ := ctx.Value(callerKey{}).(operator.Account)
	res := &kwv1.GetStatusResponse{
		Version: "0.1.0", Incarnation: 1, Term: 7, Stopped: f.s.f.Stopped, Hosts: int32(len(f.s.f.Hosts)),
		LastTick: timestamppb.New(Now.Add(-time.Second)), StoreError: f.s.f.StoreError, Role: string(who.Role), Operator: who.Name,
	}
	for _, h := range f.s.f.Hosts {
		if h.Silent {
			res.Silent++
		}
	}
	for _, u := range f.s.f.Use {
		res.LiveGrants += int32(len(u.Out))
	}
	for _, i := range f.s.f.Incidents {
		if i.ClosedAt.IsZero() {
			res.OpenIncidents++
		}
	}
	return answer(res)
}
