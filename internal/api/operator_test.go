package api

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	rpc "github.com/kernwave/kernwave/api/gen/kernwave/v1/kernwavev1connect"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
)

var errWhy = errors.New("because")

// TestEveryProcedureIsInTheTable reads the services from their descriptors: a new one is refused to everybody until
// somebody has said who may call it.
func TestEveryProcedureIsInTheTable(t *testing.T) {
	all := map[string]bool{}
	for _, d := range []protoreflect.FileDescriptor{kwv1.File_kernwave_v1_agent_proto, kwv1.File_kernwave_v1_operator_proto} {
		for i := range d.Services().Len() {
			s := d.Services().Get(i)
			for j := range s.Methods().Len() {
				p := "/" + string(s.FullName()) + "/" + string(s.Methods().Get(j).Name())
				all[p] = true
				row, ok := procedures[p]
				if !ok || row.who == whoNobody || row.op == "" {
					t.Errorf("%s is not in the table of who may call what", p)
				}
				if (row.who == whoOperator) != row.role.Known() {
					t.Errorf("%s: role %q with who %d", p, row.role, row.who)
				}
			}
		}
	}
	for p := range procedures {
		if !all[p] {
			t.Errorf("%s is in the table and is no procedure", p)
		}
	}
	if len(all) < 25 {
		t.Errorf("only %d procedures were found", len(all))
	}
}

// TestRoles tries every operator's procedure with every role, without and with a token.
func TestRoles(t *testing.T) {
	w := serve(t, nil)
	tokens := map[operator.Role]string{
		operator.RoleViewer: w.operatorToken("vera", operator.RoleViewer), operator.RoleOperator: w.operatorToken("otto", operator.RoleOperator),
		operator.RoleAdmin: w.admin,
	}
	for path, p := range procedures {
		if p.who != whoOperator {
			continue
		}
		t.Run(strings.TrimPrefix(path, "/kernwave.v1."), func(t *testing.T) {
			call := func(token string) error {
				// The body is never read where the caller may not call.
				c := connect.NewClient[kwv1.ListHostsRequest, kwv1.ListHostsResponse](w.client(nil, token), w.url+path)
				_, err := c.CallUnary(t.Context(), connect.NewRequest(&kwv1.ListHostsRequest{Selector: "x"}))
				return err
			}
			refused(t, call(""), connect.CodeUnauthenticated, "no operator's token")
			refused(t, call("kwo_wrong"), connect.CodeUnauthenticated, "nobody has this operator's token")
			for role, token := range tokens {
				err := call(token)
				if role.May(p.role) {
					if c := connect.CodeOf(err); c == connect.CodePermissionDenied || c == connect.CodeUnauthenticated {
						t.Errorf("%s may not, want that they may: %v", role, err)
					}
					continue
				}
				refused(t, err, connect.CodePermissionDenied, "this needs "+string(p.role))
			}
		})
	}
}

func TestTokens(t *testing.T) {
	w := serve(t, nil)
	status := func(header string) error {
		req := connect.NewRequest(&kwv1.GetStatusRequest{})
		if header != "" {
			req.Header().Set("Authorization", header)
		}
		_, err := w.fleet("").GetStatus(t.Context(), req)
		return err
	}
	if err := status("bearer " + w.admin); err != nil {
		t.Error(err)
	}
	refused(t, status("Basic YTpi"), connect.CodeUnauthenticated, "not \"Bearer TOKEN\"")
	refused(t, status(w.admin), connect.CodeUnauthenticated, "not \"Bearer TOKEN\"")
	refused(t, status("Bearer "+w.enrolToken(1)), connect.CodeUnauthenticated, "for enrolling hosts")

	res, err := w.fleet(w.admin).CreateOperator(t.Context(), connect.NewRequest(&kwv1.CreateOperatorRequest{Name: "brief", Role: "viewer", Life: durationpb.New(time.Hour)}))
	if err != nil {
		t.Fatal(err)
	}
	if err := status("Bearer " + res.Msg.GetToken()); err != nil {
		t.Error(err)
	}
	w.clock.advance(time.Hour)
	refused(t, status("Bearer "+res.Msg.GetToken()), connect.CodeUnauthenticated, "the token of operator brief ran out at 2031-05-01T09:00:00Z")
}

func TestOperators(t *testing.T) {
	w := serve(t, nil)
	f := w.fleet(w.admin)
	token := w.operatorToken("alice", operator.RoleAdmin)
	create := func(name, role string, life time.Duration) error {
		_, err := f.CreateOperator(t.Context(), connect.NewRequest(&kwv1.CreateOperatorRequest{Name: name, Role: role, Life: durationpb.New(life)}))
		return err
	}
	refused(t, create("alice", "viewer", 0), connect.CodeAlreadyExists, "already")
	refused(t, create("", "viewer", 0), connect.CodeInvalidArgument, "cannot be called")
	refused(t, create("control", "viewer", 0), connect.CodeInvalidArgument, "the control plane itself")
	refused(t, create("bob", "root", 0), connect.CodeInvalidArgument, "no role \"root\"")
	refused(t, create("bob", "viewer", -time.Second), connect.CodeInvalidArgument, "not allowed")

	res, err := f.ListOperators(t.Context(), connect.NewRequest(&kwv1.ListOperatorsRequest{}))
	if err != nil || len(res.Msg.GetOperators()) != 2 {
		t.Fatalf("operators %v (%v), want two", res, err)
	}
	remove := func(f rpc.FleetServiceClient, name string) error {
		_, err := f.DeleteOperator(t.Context(), connect.NewRequest(&kwv1.DeleteOperatorRequest{Name: name}))
		return err
	}
	refused(t, remove(f, "nobody"), connect.CodeNotFound, "no operator")
	if err := create("temp", "admin", time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := remove(w.fleet(token), "admin"); err != nil {
		t.Fatal(err)
	}
	refused(t, remove(f, "alice"), connect.CodeUnauthenticated, "nobody has this") // its token ended with it
	refused(t, remove(w.fleet(token), "alice"), connect.CodeFailedPrecondition, "the last admin")
	if got := w.events(""); !slices.Equal(got, []string{"operator.created", "operator.created", "operator.created", "operator.deleted"}) {
		t.Errorf("events %v", got)
	}
}

func TestOperatorRefusals(t *testing.T) {
	w := serve(t, nil)
	f, r := w.fleet(w.admin), rpc.NewRolloutServiceClient(w.client(nil, w.admin), w.url)
	w.enrol("web-1")
	ctx := context.Background()
	before, calls := len(w.events("")), w.ctl.count()
	why := strings.Repeat("w", maxWhy+1)
	for _, c := range []struct {
		name string
		call func() error
		code connect.Code
		why  string
	}{
		{"status of nobody", func() error {
			_, err := f.SetHostStatus(ctx, connect.NewRequest(&kwv1.SetHostStatusRequest{Id: "", Status: "active"}))
			return err
		}, connect.CodeInvalidArgument, "must not be empty"},
		{"a status that there is not", func() error {
			_, err := f.SetHostStatus(ctx, connect.NewRequest(&kwv1.SetHostStatusRequest{Id: "web-1", Status: "asleep"}))
			return err
		}, connect.CodeInvalidArgument, "no status \"asleep\""},
		{"a long reason", func() error {
			_, err := f.SetHostStatus(ctx, connect.NewRequest(&kwv1.SetHostStatusRequest{Id: "web-1", Status: "active", Why: why}))
			return err
		}, connect.CodeInvalidArgument, "at most 1000"},
		{"revoking nobody", func() error {
			_, err := f.RevokeHost(ctx, connect.NewRequest(&kwv1.RevokeHostRequest{Id: "nobody"}))
			return err
		}, connect.CodeNotFound, "no such host"},
		{"a host's name that is none", func() error {
			_, err := f.GetHost(ctx, connect.NewRequest(&kwv1.GetHostRequest{Id: "a b"}))
			return err
		}, connect.CodeInvalidArgument, "character ' '"},
		{"why of a name that is none", func() error {
			_, err := f.WhyHost(ctx, connect.NewRequest(&kwv1.WhyHostRequest{Id: "a b"}))
			return err
		}, connect.CodeInvalidArgument, "character ' '"},
		{"a budget of nothing", func() error {
			_, err := f.SetBudget(ctx, connect.NewRequest(&kwv1.SetBudgetRequest{}))
			return err
		}, connect.CodeInvalidArgument, "nothing that hosts share"},
		{"a budget of a bad label", func() error {
			_, err := f.SetBudget(ctx, connect.NewRequest(&kwv1.SetBudgetRequest{Budget: &kwv1.Budget{By: "label:", Limit: 1}}))
			return err
		}, connect.CodeInvalidArgument, "must not be empty"},
		{"a negative budget", func() error {
			_, err := f.SetBudget(ctx, connect.NewRequest(&kwv1.SetBudgetRequest{Budget: &kwv1.Budget{By: "type", Limit: -1}}))
			return err
		}, connect.CodeInvalidArgument, "the limit is -1"},
		{"no budget by type", func() error {
			_, err := f.SetBudget(ctx, connect.NewRequest(&kwv1.SetBudgetRequest{Budget: &kwv1.Budget{By: "type"}}))
			return err
		}, connect.CodeInvalidArgument, "always there"},
		{"too many events", func() error {
			_, err := f.ListEvents(ctx, connect.NewRequest(&kwv1.ListEventsRequest{Limit: maxEvents + 1}))
			return err
		}, connect.CodeInvalidArgument, "out of range"},
		{"a token for ever", func() error {
			_, err := f.CreateEnrolToken(ctx, connect.NewRequest(&kwv1.CreateEnrolTokenRequest{Life: durationpb.New(31 * 24 * time.Hour)}))
			return err
		}, connect.CodeInvalidArgument, "not allowed"},
		{"a token for all", func() error {
			_, err := f.CreateEnrolToken(ctx, connect.NewRequest(&kwv1.CreateEnrolTokenRequest{Uses: maxTokenUses + 1}))
			return err
		}, connect.CodeInvalidArgument, "not allowed"},
		{"a rollout of nothing", func() error {
			_, err := r.StartRollout(ctx, connect.NewRequest(&kwv1.StartRolloutRequest{}))
			return err
		}, connect.CodeInvalidArgument, "no kernel"},
		{"a plan of nothing", func() error {
			_, err := r.PlanRollout(ctx, connect.NewRequest(&kwv1.PlanRolloutRequest{Spec: &kwv1.RolloutSpec{}}))
			return err
		}, connect.CodeInvalidArgument, "no kernel"},
		{"a novel as a note", func() error {
			_, err := r.StartRollout(ctx, connect.NewRequest(&kwv1.StartRolloutRequest{Spec: &kwv1.RolloutSpec{Kernel: "k", Note: why}}))
			return err
		}, connect.CodeInvalidArgument, "more than 1000"},
		{"an action that there is not", func() error {
			_, err := r.ChangeRollout(ctx, connect.NewRequest(&kwv1.ChangeRolloutRequest{Id: "r-1", Action: "dance"}))
			return err
		}, connect.CodeInvalidArgument, "no action \"dance\""},
		{"retry of nobody", func() error {
			_, err := r.ChangeRollout(ctx, connect.NewRequest(&kwv1.ChangeRolloutRequest{Id: "r-1", Action: "retry"}))
			return err
		}, connect.CodeInvalidArgument, "needs a host"},
		{"leaving out nothing", func() error {
			_, err := r.ChangeRollout(ctx, connect.NewRequest(&kwv1.ChangeRolloutRequest{Id: "r-1", Action: "leave-out"}))
			return err
		}, connect.CodeInvalidArgument, "needs a host type"},
		{"pausing one host", func() error {
			_, err := r.ChangeRollout(ctx, connect.NewRequest(&kwv1.ChangeRolloutRequest{Id: "r-1", Action: "pause", Host: "web-1"}))
			return err
		}, connect.CodeInvalidArgument, "about the whole rollout"},
		{"a field of a newer version", func() error {
			req := &kwv1.StartRolloutRequest{Spec: &kwv1.RolloutSpec{Kernel: "k"}}
			req.Spec.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 999, protowire.VarintType), 1))
			_, err := r.StartRollout(ctx, connect.NewRequest(req))
			return err
		}, connect.CodeInvalidArgument, "RolloutSpec has a field that this server does not know"},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, c.call(), c.code, c.why) })
	}
	if n := len(w.events("")); n != before {
		t.Errorf("refusals left %d events", n-before)
	}
	if w.ctl.count() != calls {
		t.Errorf("control heard of what was refused: %v", w.ctl.calls[calls:])
	}
}

func TestRolloutsReachControl(t *testing.T) {
	w := serve(t, nil)
	r := rpc.NewRolloutServiceClient(w.client(nil, w.admin), w.url)
	zero := durationpb.New(0)
	if _, err := r.PlanRollout(t.Context(), connect.NewRequest(&kwv1.PlanRolloutRequest{Spec: &kwv1.RolloutSpec{Kernel: "k", Waves: []int32{50, 100}, Soak: zero}})); err != nil {
		t.Fatal(err)
	}
	if s := w.ctl.spec; s.Kernel != "k" || !slices.Equal(s.Waves, []int{50, 100}) || s.Soak == nil || *s.Soak != 0 {
		t.Errorf("control heard %+v", s)
	}
	res, err := r.StartRollout(t.Context(), connect.NewRequest(&kwv1.StartRolloutRequest{Spec: &kwv1.RolloutSpec{Kernel: "k"}, IdempotencyKey: "once"}))
	if err != nil || res.Msg.GetStartedBy() != "admin" || !slices.Contains(w.ctl.calls, "start once") {
		t.Errorf("started %v (%v), calls %v", res, err, w.ctl.calls)
	}
	if _, err := r.ChangeRollout(t.Context(), connect.NewRequest(&kwv1.ChangeRolloutRequest{Id: "r-1", Action: "skip", Host: "web-1", Why: "old"})); err != nil {
		t.Fatal(err)
	}
	if want := (operator.Change{Rollout: "r-1", Action: "skip", Host: "web-1", Why: "old"}); w.ctl.change != want {
		t.Errorf("control heard %+v, want %+v", w.ctl.change, want)
	}
	if w.ctl.pokes < 2 {
		t.Errorf("control was poked %d times", w.ctl.pokes)
	}
}

func TestEventsAndIncidents(t *testing.T) {
	w := serve(t, nil)
	w.enrol("web-1")
	if err := w.store.Update(t.Context(), func(tx store.Tx) error {
		return errors.Join(tx.PutIncident(store.Incident{ID: "i-1", At: t0, Saw: "panic"}), tx.PutIncident(store.Incident{ID: "i-2", At: t0, ClosedAt: t0}))
	}); err != nil {
		t.Fatal(err)
	}
	f := w.fleet(w.admin)
	events, err := f.ListEvents(t.Context(), connect.NewRequest(&kwv1.ListEventsRequest{Newest: true, Limit: 1}))
	if err != nil || len(events.Msg.GetEvents()) != 1 || events.Msg.GetEvents()[0].GetKind() != "host.enrolled" {
		t.Errorf("newest event %v (%v)", events, err)
	}
	for all, want := range map[bool]int{false: 1, true: 2} {
		is, err := f.ListIncidents(t.Context(), connect.NewRequest(&kwv1.ListIncidentsRequest{All: all}))
		if err != nil || len(is.Msg.GetIncidents()) != want {
			t.Errorf("incidents, all %v: %v (%v), want %d", all, is, err, want)
		}
	}
}
